use std::time::Duration;

/// Unit names with their length in nanoseconds, longest first: the order in which a text may name them.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a length of time: `250ms`, `3s`, `5m`, `1h30m`, `2d`.
///
/// A bare number is refused, because nobody can see whether `30` means seconds or milliseconds. Units go from
/// the longest to the shortest and each appears once.
///
/// # Errors
/// What is wrong with the text, in words that do not repeat it.
///
/// ```
/// use std::time::Duration;
/// use zhuji_config::parse_duration;
///
/// assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5_400));
/// assert!(parse_duration("30").unwrap_err().contains("unit"));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(match rest.parse::<u64>() {
            Ok(number) => {
                format!("it has no unit: write `{number}s` for seconds or `{number}ms` for milliseconds")
            }
            Err(_) => "it has no unit".to_owned(),
        });
    }
    let too_long = || "it is too long a time".to_owned();
    let (mut total, mut units) = (0_u128, UNITS.iter());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits == 0 {
            return Err("a number is expected before each unit".to_owned());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| too_long())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = &rest[..letters];
        rest = rest[letters..].trim_start();
        let Some((_, nanoseconds)) = units.find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => "a unit is missing; units are d, h, m, s, ms, us, ns".to_owned(),
                unit if UNITS.iter().any(|(name, _)| *name == unit) => {
                    "units must go from the longest to the shortest, each once".to_owned()
                }
                _ => "it has an unknown unit; units are d, h, m, s, ms, us, ns".to_owned(),
            });
        };
        total = total
            .checked_add(u128::from(number) * nanoseconds)
            .ok_or_else(too_long)?;
    }
    let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| too_long())?;
    // The remainder is below one thousand million, so it fits.
    Ok(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// Writes a length of time as [`parse_duration`] reads it: `1h30m`, `250ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, nanoseconds) in UNITS {
        if rest >= nanoseconds {
            text.push_str(&format!("{}{name}", rest / nanoseconds));
            rest %= nanoseconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_units() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("250ms", 250),
            ("3s", 3_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2d", 172_800_000),
            ("1s500ms", 1_500),
            (" 3s ", 3_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "3",
            "s",
            "3x",
            "3 s",
            "30m1h",
            "5m5m",
            "-3s",
            "1.5s",
            "99999999999999999999s",
            "3S",
            "3秒",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("3").unwrap_err().contains("write `3s`"));
    }

    #[test]
    fn formats() {
        assert_eq!(format_duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_duration(Duration::from_millis(1_250)), "1s250ms");
    }
}
