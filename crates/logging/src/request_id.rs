use std::fmt;
use std::sync::Arc;

const LONGEST: usize = 128;

/// The name of one request, given back to the caller in `x-request-id` and carried by every line about it.
///
/// A caller's own id is kept when it is harmless: 1 to 128 of `A-Z a-z 0-9 . _ -`. Anything else is replaced, because
/// it ends up in headers, logs and support tickets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id: a UUID of version 7, so that ids sort by time.
    pub fn generate() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        Self(Arc::from(
            &*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer),
        ))
    }

    /// This text as an id, if it is harmless.
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = text.as_ref();
        let harmless = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if bytes.is_empty() || bytes.len() > LONGEST || !bytes.iter().all(harmless) {
            return None;
        }
        std::str::from_utf8(bytes).ok().map(|text| Self(text.into()))
    }

    /// The caller's id if it sent a harmless one, else a fresh one.
    pub fn accept(header: Option<impl AsRef<[u8]>>) -> Self {
        header.and_then(Self::parse).unwrap_or_else(Self::generate)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        for good in [
            "a",
            "req-1.2_3",
            &"x".repeat(128),
            "019A8C3E-0000-7000-8000-000000000000",
        ] {
            assert_eq!(RequestId::accept(Some(good)).as_str(), good);
        }
        let hostile: [&[u8]; 8] = [
            b"",
            b"a b",
            b"a\r\nset-cookie: x",
            "é".as_bytes(),
            &[0xff],
            b"a/b",
            &[b'x'; 129],
            b"\"}",
        ];
        for bad in hostile {
            assert_eq!(RequestId::parse(bad), None);
            assert_eq!(RequestId::accept(Some(bad)).as_str().len(), 36);
        }
        assert_ne!(RequestId::generate(), RequestId::generate());
        assert_eq!(RequestId::accept(None::<&str>).as_str().as_bytes()[14], b'7');
    }
}
