//! One byte in front of every value says how the rest is written, so that a value of another version, another program
//! or another type is recognised as such and counts as a miss instead of being misread.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// serde_json text.
const JSON: u8 = 0x01;
/// The caller's own bytes.
const RAW: u8 = 0x02;

pub(crate) fn encode_json<T: Serialize + ?Sized>(
    operation: &'static str,
    key: &str,
    value: &T,
) -> Result<Bytes> {
    let mut out = vec![JSON];
    serde_json::to_writer(&mut out, value).map_err(|source| {
        Error::new(ErrorKind::Encode, operation, key, "the value has no JSON form").with_source(source)
    })?;
    Ok(Bytes::from(out))
}

pub(crate) fn encode_raw(value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len() + 1);
    out.put_u8(RAW);
    out.put_slice(value);
    out.freeze()
}

/// `None`: not a value of this type and format.
pub(crate) fn decode_json<T: DeserializeOwned>(stored: &[u8]) -> Option<T> {
    match stored.split_first() {
        Some((&JSON, text)) => serde_json::from_slice(text).ok(),
        _ => None,
    }
}

/// `None`: not written by [`encode_raw`].
pub(crate) fn decode_raw(stored: &Bytes) -> Option<Bytes> {
    match stored.first() {
        Some(&RAW) => Some(stored.slice(1..)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_no_value() {
        for stored in [
            &b""[..],
            b"5",
            b"\x01",
            b"\x01{",
            b"\x02{}",
            b"\x01\xff\xfe",
            b"\xffabc",
            b"\x00\x00",
        ] {
            assert!(decode_json::<serde_json::Value>(stored).is_none(), "{stored:?}");
        }
        let deep = [&b"\x01"[..], "[".repeat(1_000_000).as_bytes()].concat();
        assert!(decode_json::<serde_json::Value>(&deep).is_none());
    }

    #[test]
    fn each_format_reads_only_its_own() {
        let raw = encode_raw(b"7");
        assert_eq!(decode_raw(&raw).as_deref(), Some(&b"7"[..]));
        assert!(decode_json::<u8>(&raw).is_none());
        let json = encode_json("set", "k", &7u8).expect("a number");
        assert_eq!(decode_json::<u8>(&json), Some(7));
        assert!(decode_raw(&json).is_none());
    }
}
