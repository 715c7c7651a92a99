//! Makes a stranger's error text fit to be kept: short, storable, without passwords.

use zhuji_logging::redact;

const LIMIT: usize = 2000;
/// Looked through for secrets, of a text that is longer; far more than is kept, so that a secret at the cut is whole.
const SEEN: usize = 8 * LIMIT;

pub(crate) fn scrub(text: &str) -> String {
    let seen = text
        .char_indices()
        .nth(SEEN)
        .map_or(text, |(end, _)| &text[..end]);
    // PostgreSQL stores no NUL.
    let seen = seen.replace('\0', "\u{fffd}");
    let clean = redact(&seen);
    match clean.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None if seen.len() < text.len() => format!("{clean}…"),
        None => clean.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_signed_queries_do_not_stay() {
        for (text, kept) in [
            (
                "dial postgres://app:hunter2@db:5432/x failed",
                "dial postgres://app:***@db:5432/x failed",
            ),
            ("redis://:hunter2@h/0", "redis://:***@h/0"),
            ("postgres://u:hun/ter2@h/0", "postgres://u:***@h/0"),
            (
                "GET https://b.oss/k?Signature=hunter2&Expires=1: 403",
                "GET https://b.oss/k?*** 403",
            ),
            ("host=db password=hunter2 user=x", "host=db password=*** user=x"),
            ("PASSWORD='hunter2'", "PASSWORD=***"),
            ("{\"password\":\"hunter2\"}", "{\"password\":\"***\"}"),
            ("token:hunter2", "token:***"),
            ("plain text, unicode 血铅", "plain text, unicode 血铅"),
        ] {
            assert_eq!(scrub(text), kept);
        }
    }

    #[test]
    fn long_texts_are_cut_and_nul_is_replaced() {
        let cut = scrub(&"文".repeat(10_000));
        assert_eq!(cut.chars().count(), LIMIT + 1);
        assert_eq!(scrub("a\0b"), "a\u{fffd}b");
        let long = scrub(&"x y ".repeat(1_000_000));
        assert!(long.ends_with('…') && long.chars().count() == LIMIT + 1);
        let at_the_cut = format!("{} password=hunter2hunter2", "x".repeat(LIMIT - 15));
        assert!(!scrub(&at_the_cut).contains("hunter"), "{}", scrub(&at_the_cut));
        // One that begins before the end of what is looked at, and everything before it shrinks to nothing.
        let shrinks = format!("password={} token=hunter2", "y".repeat(SEEN - 20));
        assert!(!scrub(&shrinks).contains("hunter"), "{}", scrub(&shrinks));
    }
}
