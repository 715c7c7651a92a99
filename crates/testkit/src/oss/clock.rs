//! The server's own clock, which tests may set wrong.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_millis: AtomicI64,
}

impl Clock {
    pub(crate) fn set_offset(&self, offset: SignedDuration) {
        let millis = i64::try_from(offset.as_millis()).unwrap_or(0);
        self.offset_millis.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset_millis.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }
}

/// `2012-02-24T08:43:07.000Z`, the form used in documents: whole seconds, written with three zeros, which
/// official clients insist on.
pub(crate) fn iso_millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// `20231203T121212Z`, the form used in V4 signatures.
pub(crate) fn iso_basic(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `Tue, 20 Dec 2022 08:48:18 GMT`.
pub(crate) fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Parses the V4 form.
pub(crate) fn parse_iso_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i16> {
        let part = text.get(range)?;
        part.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| part.parse().ok())?
    };
    let date = jiff::civil::Date::new(number(0..4)?, number(4..6)? as i8, number(6..8)? as i8).ok()?;
    let time = jiff::civil::Time::new(
        number(9..11)? as i8,
        number(11..13)? as i8,
        number(13..15)? as i8,
        0,
    )
    .ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()
}

/// Parses an HTTP date.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_read_and_write() {
        let at = parse_iso_basic("20221220T084818Z").expect("V4 form");
        assert_eq!(iso_basic(at), "20221220T084818Z");
        assert_eq!(iso_millis(at), "2022-12-20T08:48:18.000Z");
        assert_eq!(http_date(at), "Tue, 20 Dec 2022 08:48:18 GMT");
        assert_eq!(parse_http_date("Tue, 20 Dec 2022 08:48:18 GMT"), Some(at));
        for bad in [
            "",
            "2022-12-20T08:48:18Z",
            "20221320T084818Z",
            "20221220T084818",
            "2022122\u{4e2d}T0848Z",
        ] {
            assert_eq!(parse_iso_basic(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_offset_moves_the_clock() {
        let clock = Clock::default();
        clock.set_offset(SignedDuration::from_hours(-2));
        let behind = Timestamp::now().duration_since(clock.now());
        assert!((7195..=7205).contains(&behind.as_secs()), "{behind}");
    }
}
