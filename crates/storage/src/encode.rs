//! Percent-encoding as OSS signs it, used for every URL this crate writes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// RFC 3986 unreserved characters stay; everything else is encoded.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// A key as the path of a URL: `/` stays, everything reserved is encoded.
pub(crate) fn path(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, PATH)
}

/// One name or value of a query string.
pub(crate) fn value(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, VALUE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(
            super::path("a/b+c %?#&=~.-_中").to_string(),
            "a/b%2Bc%20%25%3F%23%26%3D~.-_%E4%B8%AD"
        );
        assert_eq!(super::value("a/b").to_string(), "a%2Fb");
    }
}
