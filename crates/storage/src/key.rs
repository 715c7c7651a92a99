//! Checked object keys.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use crate::{Error, ErrorKind, Result};

/// The longest key in bytes, on every adapter (the limit of OSS).
pub const MAX_KEY_BYTES: usize = 1023;

/// The longest part of a key between two `/`, in bytes (the limit of common file systems).
pub const MAX_SEGMENT_BYTES: usize = 255;

/// The first segment that the local adapter keeps for itself; refused on every adapter, so that files can move
/// between them.
pub const RESERVED_SEGMENT: &str = ".zhuji";

/// The name of an object: `asl/pdfs/2025 文献.pdf`.
///
/// The same rules hold on every adapter, so that what works on a laptop works in the cloud and the reverse:
/// UTF-8, 1 to 1,023 bytes; segments between `/` of 1 to 255 bytes; no leading `/` or `\`; no control character
/// (NUL, CR, LF, …); no empty, `.` or `..` segment, hence no trailing `/`; the first segment is not `.zhuji`.
///
/// ```
/// use zhuji_storage::Key;
///
/// assert!(Key::new("asl/pdfs/心脏 病+50%.pdf").is_ok());
/// assert!(Key::new("../etc/passwd").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks `text` and wraps it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], naming the rule that is broken.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        match broken_rule(text) {
            None => Ok(Self(Arc::from(text))),
            Some(rule) => Err(invalid(text, rule)),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn invalid(text: &str, rule: &str) -> Error {
    // A hostile key may be megabytes long; the log line must not be.
    let shown: String = text.chars().take(120).collect();
    Error::new(
        ErrorKind::InvalidKey,
        "key check",
        shown,
        format!("the key {rule}"),
    )
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.len() > MAX_KEY_BYTES {
        return Some("is longer than 1023 bytes");
    }
    if text.starts_with('/') || text.starts_with('\\') {
        return Some("starts with a slash or a backslash");
    }
    if text.chars().any(char::is_control) {
        return Some("contains a control character");
    }
    for (index, segment) in text.split('/').enumerate() {
        match segment {
            "" => return Some("contains an empty segment (`//` or a trailing `/`)"),
            "." | ".." => return Some("contains a `.` or `..` segment"),
            RESERVED_SEGMENT if index == 0 => return Some("starts with the reserved segment `.zhuji`"),
            long if long.len() > MAX_SEGMENT_BYTES => {
                return Some("has a segment longer than 255 bytes");
            }
            _ => {}
        }
    }
    None
}

/// Checks the prefix of a listing: the beginning of a key, possibly in the middle of a segment, possibly empty.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let rule = if prefix.len() > MAX_KEY_BYTES {
        Some("is longer than 1023 bytes")
    } else if prefix.starts_with('/') || prefix.starts_with('\\') {
        Some("starts with a slash or a backslash")
    } else if prefix.chars().any(char::is_control) {
        Some("contains a control character")
    } else {
        let (folders, _partial) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let bad = !folders.is_empty() && folders.split('/').any(|s| s.is_empty() || s == "." || s == "..");
        bad.then_some("contains an empty, `.` or `..` segment")
    };
    match rule {
        None => Ok(()),
        Some(rule) => Err(invalid(prefix, rule)),
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_both_back_ends_can_hold() {
        let longest_segment = "s".repeat(255);
        for good in [
            "a",
            "a/b",
            ".hidden",
            "a/.zhuji/b",
            "...",
            "a+b %2F?&#=~!*'().pdf",
            "中文/😀",
            &longest_segment,
        ] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        assert!(Key::new(["x"; 512].join("/")).is_ok(), "1023 bytes");
    }

    #[test]
    fn refuses_everything_else() {
        let long_segment = "s".repeat(256);
        let long_key = ["x"; 513].join("/");
        for bad in [
            "",
            "/",
            "/a",
            "\\a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/./b",
            "a\0b",
            "a\nb",
            "a\rb",
            "a\u{7f}",
            "a\u{85}b",
            ".zhuji",
            ".zhuji/tmp/x",
            &long_segment,
            &long_key,
        ] {
            let error = Key::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{bad:?}");
            assert!(error.to_string().len() < 400);
        }
    }

    #[test]
    fn prefixes_may_end_anywhere() {
        for good in ["", "a", "a/", "a/b", "asl/pd"] {
            check_prefix(good).unwrap();
        }
        for bad in ["/", "a//", "../", "a/../b", "a\0"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
