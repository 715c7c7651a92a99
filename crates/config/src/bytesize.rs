use std::{fmt, str::FromStr};

/// A number of bytes: `64KiB`, `10MB`, `1.5GiB`, or a bare number of bytes.
///
/// `KiB`, `MiB`, `GiB`, `TiB` are powers of 1,024; `KB`, `MB`, `GB`, `TB` powers of 1,000. Case does not matter.
/// `10M` is refused, because half of its readers mean the other one.
///
/// ```
/// use zhuji_config::ByteSize;
///
/// let limit: ByteSize = "64KiB".parse().unwrap();
/// assert_eq!(limit.bytes(), 65_536);
/// assert_eq!(limit.to_string(), "64KiB");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size of exactly this many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `count` times 1,024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// `count` times 1,024² bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// `count` times 1,024³ bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; `usize::MAX` where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the largest unit that divides the size, so that the text reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |binary: bool| {
            UNITS.iter().find(|(name, unit)| {
                name.contains('i') == binary && self.0 >= *unit && self.0.is_multiple_of(*unit)
            })
        };
        match exact(true).or_else(|| exact(false)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        if number.is_empty() {
            return Err("it does not start with a number".to_owned());
        }
        let factor = match UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None if matches!(unit.to_ascii_lowercase().as_str(), "k" | "m" | "g" | "t") => {
                let letter = unit.to_ascii_uppercase();
                return Err(format!(
                    "write `{letter}iB` (1,024) or `{letter}B` (1,000) instead of a bare `{letter}`"
                ));
            }
            None => {
                return Err(
                    "it has an unknown unit; units are B, KiB, MiB, GiB, TiB, KB, MB, GB, TB".to_owned(),
                );
            }
        };
        exact_product(number, factor).map(Self)
    }
}

/// Multiplies a decimal text with a factor, without a float on the way: `1.5` × 1,024 is 1,536, and what is not a
/// whole number of bytes is refused.
fn exact_product(number: &str, factor: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let malformed = || "it is not a number".to_owned();
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(malformed());
    }
    if fraction.len() > 12 {
        return Err("it has more than 12 decimal places".to_owned());
    }
    let too_large = || "it is larger than 16 EiB".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let scale = 10_u128.pow(fraction.len() as u32);
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| malformed())?
    };
    let product = (u128::from(whole) * scale + fraction) * u128::from(factor);
    if !product.is_multiple_of(scale) {
        return Err("it is not a whole number of bytes".to_owned());
    }
    u64::try_from(product / scale).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    fn parse(text: &str) -> Result<u64, String> {
        text.parse::<ByteSize>().map(ByteSize::bytes)
    }

    #[test]
    fn understands_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1b", 1),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("10MB", 10_000_000),
            ("5GiB", 5 << 30),
            ("1.5KiB", 1536),
            ("2TB", 2_000_000_000_000),
            (" 7 ", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_would_have_to_guess() {
        for text in [
            "",
            "MB",
            "10M",
            "-1",
            "1.2.3MB",
            "1.",
            ".5MB",
            "0.3B",
            "10 apples",
            "99999999999TiB",
            "１KiB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("10M").unwrap_err().contains("`MiB`"));
    }

    #[test]
    fn displays_exactly() {
        for (bytes, text) in [
            (0, "0B"),
            (1024, "1KiB"),
            (10_000_000, "10MB"),
            (1_500, "1500B"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
        }
    }
}
