use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use url::Url;

use crate::{ByteSize, Secret, SecretUrl, parse_duration};

/// A type that one variable can hold.
///
/// The type alone decides how the text is read, so nothing is guessed: `007` in a `String` stays `007`, and `true`
/// in a `String` stays text. Enums get this from `#[derive(ConfigEnum)]`.
///
/// ```
/// use zhuji_config::ConfigValue;
///
/// struct Percent(u8);
///
/// impl ConfigValue for Percent {
///     fn expected() -> String {
///         "a whole number from 0 to 100".to_owned()
///     }
///     fn parse(text: &str) -> Result<Self, String> {
///         match text.parse() {
///             Ok(number) if number <= 100 => Ok(Self(number)),
///             Ok(_) => Err("it is above 100".to_owned()),
///             Err(_) => Err(String::new()),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read from a variable",
    label = "not a type a variable can hold",
    note = "derive `ConfigEnum` for an enum, implement `ConfigValue` for a type of your own,",
    note = "or mark a field that is a section of its own with `#[config(nested)]`"
)]
pub trait ConfigValue: Sized {
    /// Whether the value is secret: then no message, table or log ever shows it or a part of it.
    const SECRET: bool = false;

    /// What a good value looks like, as it follows the word "expected": "a whole number from 0 to 65535".
    fn expected() -> String;

    /// Reads the value from its text. The text is never empty and holds no NUL.
    ///
    /// # Errors
    /// What is wrong with the text, starting with "it" (or an empty text when [`expected`](Self::expected) says
    /// everything), without repeating the value.
    fn parse(text: &str) -> Result<Self, String>;

    /// Reads the value from the items of an array in `zhuji.toml`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse). Types that hold one value refuse an array.
    fn parse_list(_items: &[String]) -> Result<Self, String> {
        Err("it is an array, where one value belongs".to_owned())
    }

    /// The good value that a bad one was probably meant to be, for "Did you mean …?".
    fn nearest(_text: &str) -> Option<&'static str> {
        None
    }

    /// The value of a variable that is neither set nor has a default; `None` makes the variable required.
    fn absent() -> Option<Self> {
        None
    }
}

/// A [`ConfigValue`] that has a value even when its variable is not set: `Option<T>` and `Vec<T>`.
///
/// `#[config(impl_default)]` asks for it where a field states no default.
#[diagnostic::on_unimplemented(
    message = "this field has neither a default nor a type that may be absent",
    label = "required, so the section can't implement `Default`",
    note = "write `#[config(default = \"…\")]`, make it an `Option`, or drop `#[config(impl_default)]`"
)]
pub trait Optional: ConfigValue {
    /// The value of a variable that is not set.
    fn when_absent() -> Self;
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        T::expected()
    }

    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn parse_list(items: &[String]) -> Result<Self, String> {
        T::parse_list(items).map(Some)
    }

    fn nearest(text: &str) -> Option<&'static str> {
        T::nearest(text)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: ConfigValue> Optional for Option<T> {
    fn when_absent() -> Self {
        None
    }
}

/// Comma separated; blanks around an item and empty items are dropped.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        format!("a comma-separated list, each item {}", T::expected())
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_items(text.split(',').map(str::trim).filter(|item| !item.is_empty()))
    }

    fn parse_list(items: &[String]) -> Result<Self, String> {
        parse_items(items.iter().map(String::as_str))
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: ConfigValue> Optional for Vec<T> {
    fn when_absent() -> Self {
        Vec::new()
    }
}

fn parse_items<'a, T: ConfigValue>(items: impl Iterator<Item = &'a str>) -> Result<Vec<T>, String> {
    items
        .enumerate()
        .map(|(index, item)| {
            T::parse(item).map_err(|message| {
                let message = if message.is_empty() {
                    "it is something else"
                } else {
                    &message
                };
                format!("item {}: {message}", index + 1)
            })
        })
        .collect()
}

impl ConfigValue for String {
    fn expected() -> String {
        "a text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl ConfigValue for Secret {
    const SECRET: bool = true;

    fn expected() -> String {
        "a secret text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Secret::new(text))
    }
}

impl ConfigValue for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }
}

impl ConfigValue for bool {
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(String::new()),
        }
    }
}

/// Numbers may be grouped as in TOML, `1_000_000`: an underscore stands between two digits.
fn ungrouped(text: &str) -> Result<String, String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |index: Option<usize>| index.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    for (index, byte) in bytes.iter().enumerate() {
        if *byte == b'_' && !(digit(index.checked_sub(1)) && digit(index.checked_add(1))) {
            return Err(String::new());
        }
    }
    Ok(text.replace('_', ""))
}

macro_rules! integers {
    ($($type:ty: $min:expr, $max:expr;)*) => {$(
        impl ConfigValue for $type {
            fn expected() -> String {
                format!("a whole number from {} to {}", $min, $max)
            }

            fn parse(text: &str) -> Result<Self, String> {
                ungrouped(text)?.parse().map_err(|_| String::new())
            }
        }
    )*};
}

integers! {
    u8: u8::MIN, u8::MAX;
    u16: u16::MIN, u16::MAX;
    u32: u32::MIN, u32::MAX;
    u64: u64::MIN, u64::MAX;
    usize: usize::MIN, usize::MAX;
    i8: i8::MIN, i8::MAX;
    i16: i16::MIN, i16::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    isize: isize::MIN, isize::MAX;
    NonZeroU16: 1, u16::MAX;
    NonZeroU32: 1, u32::MAX;
    NonZeroU64: 1, u64::MAX;
    NonZeroUsize: 1, usize::MAX;
}

impl ConfigValue for f64 {
    fn expected() -> String {
        "a number such as `0.8`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        match ungrouped(text)?.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err("it is not finite".to_owned()),
            Err(_) => Err(String::new()),
        }
    }
}

impl ConfigValue for Duration {
    fn expected() -> String {
        "a duration such as `250ms`, `3s` or `1h30m`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}

impl ConfigValue for ByteSize {
    fn expected() -> String {
        "a size such as `64KiB`, `10MB` or `5GiB`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

/// Without a password: what prints this type prints all of it. [`SecretUrl`] takes one.
impl ConfigValue for Url {
    fn expected() -> String {
        "a URL such as `https://host:8080/path`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let url = parse_url(text)?;
        match url.password() {
            Some(_) => Err("it holds a password, and this variable is not kept secret".to_owned()),
            None => Ok(url),
        }
    }
}

impl ConfigValue for SecretUrl {
    fn expected() -> String {
        "a URL such as `https://user:password@host:8080/path`".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_url(text).map(SecretUrl::new)
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    Url::parse(text.trim()).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            "it does not start with a scheme such as `https://`".to_owned()
        }
        // The crate's messages are fixed texts; none repeats a part of the URL.
        error => format!("it is not a valid URL: {error}"),
    })
}

macro_rules! addresses {
    ($($type:ty: $expected:literal;)*) => {$(
        impl ConfigValue for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| String::new())
            }
        }
    )*};
}

addresses! {
    IpAddr: "an IP address such as `127.0.0.1` or `::1`";
    Ipv4Addr: "an IPv4 address such as `127.0.0.1`";
    Ipv6Addr: "an IPv6 address such as `::1`";
    SocketAddr: "an address with a port, such as `127.0.0.1:9090` or `[::1]:9090`";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_exactly() {
        for text in ["007", "true", " padded ", "[abc]", "1e3", "null", "~"] {
            assert_eq!(String::parse(text).unwrap(), text);
            assert_eq!(Secret::parse(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(u16::parse(" 3001 "), Ok(3001));
        assert_eq!(u32::parse("1_000"), Ok(1000));
        assert_eq!(i8::parse("-128"), Ok(-128));
        for text in ["65536", "-1", "1.0", "0x10", "_1", "1_", "1__0", "", "one", "１"] {
            assert!(u16::parse(text).is_err(), "{text}");
        }
        assert!(NonZeroU32::parse("0").is_err());
        assert_eq!(f64::parse("0.8"), Ok(0.8));
        for text in ["NaN", "inf", "1e999", "0,8"] {
            assert!(f64::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(bool::parse("TRUE"), Ok(true));
        assert_eq!(bool::parse("off"), Ok(false));
        assert!(bool::parse("2").is_err());
        assert!(bool::parse("ja").is_err());
    }

    #[test]
    fn lists() {
        assert_eq!(Vec::<u8>::parse("1, 2,,3,"), Ok(vec![1, 2, 3]));
        assert_eq!(
            Vec::<u8>::parse("1,x,3").unwrap_err(),
            "item 2: it is something else"
        );
        assert_eq!(
            Vec::<String>::parse_list(&["a,b".to_owned()]),
            Ok(vec!["a,b".to_owned()])
        );
        assert!(String::parse_list(&["a".to_owned()]).is_err());
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        for text in ["no-scheme", "http://u:hunter2@[bad", "http://h:hunter2/"] {
            let message = Url::parse(text).map(|_| ()).unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
            assert!(!<Url as ConfigValue>::parse(text).unwrap_err().contains("hunter2"));
        }
    }
}
