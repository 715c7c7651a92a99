//! Content types, download names and object metadata as headers carry them.

use std::{collections::BTreeMap, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{Error, ErrorKind, Result};

/// Most bytes of user metadata (names plus values) an object may carry, on every adapter.
pub const MAX_METADATA_BYTES: usize = 2048;

/// RFC 5987 `attr-char`: everything else is percent-encoded.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The content type that an object gets when the caller names none: by the extension of its key, else
/// `application/octet-stream`. The same table on every adapter.
pub fn guess_content_type(key: &str) -> &'static str {
    mime_guess::from_path(key)
        .first_raw()
        .unwrap_or("application/octet-stream")
}

/// `attachment` with a file name in any language, as RFC 6266 and RFC 5987 write it: an ASCII fallback and the
/// UTF-8 name. Control characters and path separators are replaced by `_`.
///
/// ```
/// assert_eq!(
///     zhuji_storage::attachment("文献 1.pdf"),
///     "attachment; filename=\"__ 1.pdf\"; filename*=UTF-8''%E6%96%87%E7%8C%AE%201.pdf"
/// );
/// ```
pub fn attachment(name: &str) -> String {
    disposition("attachment", name)
}

/// Like [`attachment`], for a document that the browser should show instead of save.
pub fn inline(name: &str) -> String {
    disposition("inline", name)
}

fn disposition(kind: &str, name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_control() || c == '/' || c == '\\' {
                '_'
            } else {
                c
            }
        })
        .collect();
    let fallback: String = clean
        .chars()
        .map(|c| {
            if c.is_ascii() && c != '"' && c != '%' && c != ';' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let mut text = format!("{kind}; filename=\"{fallback}\"");
    if fallback != clean {
        let _ = write!(
            text,
            "; filename*=UTF-8''{}",
            utf8_percent_encode(&clean, ATTR_CHAR)
        );
    }
    text
}

/// Refuses a header value that HTTP, OSS or the signature could read differently from us.
pub(crate) fn check_header_value(operation: &'static str, key: &str, what: &str, value: &str) -> Result<()> {
    let printable = value.bytes().all(|b| (0x20..0x7f).contains(&b));
    let refuse = |why: &str| {
        Err(Error::new(
            ErrorKind::InvalidInput,
            operation,
            key,
            format!("{what} {why}"),
        ))
    };
    if value.is_empty() {
        refuse("is empty")
    } else if value.len() > 1024 {
        refuse("is longer than 1024 bytes")
    } else if !printable {
        refuse("contains characters other than printable ASCII (for a file name use `download_name`)")
    } else if value.starts_with(' ') || value.ends_with(' ') {
        refuse("starts or ends with a space")
    } else {
        Ok(())
    }
}

/// Names are lower-case letters, digits and `-`; values any text without control characters; 2 KiB in all.
pub(crate) fn check_user_metadata(
    operation: &'static str,
    key: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidInput, operation, key, why));
    let mut total = 0;
    for (name, value) in metadata {
        let good_name = !name.is_empty()
            && name.len() <= 64
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good_name {
            return refuse(format!("metadata name {name:?} is not 1 to 64 of a-z, 0-9 and -"));
        }
        if value.chars().any(char::is_control) {
            return refuse(format!(
                "the value of metadata {name:?} contains a control character"
            ));
        }
        total += name.len() + value.len();
    }
    if total > MAX_METADATA_BYTES {
        return refuse(format!(
            "metadata has {total} bytes, {MAX_METADATA_BYTES} are allowed"
        ));
    }
    Ok(())
}

/// A metadata value as a header can carry it: printable ASCII stays, the rest (and `%`, and spaces at the edges,
/// which HTTP would trim) is percent-encoded.
pub(crate) fn encode_metadata_value(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, byte) in value.bytes().enumerate() {
        let edge_space = byte == b' ' && (index == 0 || index == last);
        if (0x20..0x7f).contains(&byte) && byte != b'%' && !edge_space {
            text.push(byte as char);
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The reverse of [`encode_metadata_value`]; a value that other tools wrote and that isn't encoded stays as it is.
pub(crate) fn decode_metadata_value(value: &str) -> String {
    match percent_decode_str(value).decode_utf8() {
        Ok(text) => text.into_owned(),
        Err(_) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_needs_no_second_form() {
        assert_eq!(attachment("a b.pdf"), "attachment; filename=\"a b.pdf\"");
        assert_eq!(inline("x.html"), "inline; filename=\"x.html\"");
    }

    #[test]
    fn a_name_can_not_break_out_of_its_quotes() {
        let text = attachment("a\"; filename=evil\r\nSet-Cookie: x");
        assert!(!text.contains('\r') && !text.contains('\n'));
        assert_eq!(text.matches('"').count(), 2);
    }

    #[test]
    fn metadata_values_survive_the_header() {
        for value in ["", " ", " a ", "100%", "%41", "中文 值", "a+b", "😀"] {
            let encoded = encode_metadata_value(value);
            assert!(encoded.is_ascii() && !encoded.starts_with(' ') && !encoded.ends_with(' '));
            assert_eq!(decode_metadata_value(&encoded), value);
        }
        assert_eq!(decode_metadata_value("100%"), "100%");
    }

    #[test]
    fn types_are_guessed_by_extension() {
        assert_eq!(guess_content_type("a/b.PDF"), "application/pdf");
        assert_eq!(guess_content_type("a/b"), "application/octet-stream");
    }
}
