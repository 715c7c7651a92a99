//! The `Range` header.

use crate::ByteRange;

/// One byte range. Anything else (other units, several ranges, nonsense) is ignored, as RFC 9110 allows: the client gets the
/// whole object.
pub(super) fn parse(header: &str) -> Option<ByteRange> {
    let (start, end) = header.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (start, end) {
        ("", last) => number(last).map(ByteRange::Last),
        (start, "") => number(start).map(ByteRange::From),
        (start, end) => {
            let (start, end) = (number(start)?, number(end)?);
            (start <= end).then(|| ByteRange::Bounded {
                start,
                end: end.saturating_add(1),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_understood_and_the_rest_ignored() {
        assert_eq!(parse("bytes=0-0"), Some(ByteRange::Bounded { start: 0, end: 1 }));
        assert_eq!(parse("bytes=5-"), Some(ByteRange::From(5)));
        assert_eq!(parse("bytes=-5"), Some(ByteRange::Last(5)));
        for ignored in [
            "bytes=5-4",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "",
            "bytes=1",
        ] {
            assert_eq!(parse(ignored), None, "{ignored:?}");
        }
    }
}
