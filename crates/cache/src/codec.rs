//! One byte in front of every value says how the rest is written, so that a value of another version, another program
//! or another type is recognised as such and counts as a miss instead of being misread.

use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// serde_json text.
const JSON: u8 = 0x01;
/// The caller's own bytes.
const RAW: u8 = 0x02;
/// When it begins to be stale (milliseconds since 1970, 8 bytes) and how long it took to load (milliseconds, 4 bytes),
/// then serde_json text.
const DATED_JSON: u8 = 0x03;

/// Until when a value is fresh, and what a new one costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) stale_from_ms: u64,
    pub(crate) load_ms: u32,
}

impl Dates {
    pub(crate) fn new(fresh_for: Duration, load: Duration) -> Self {
        let fresh_ms = u64::try_from(fresh_for.as_millis()).unwrap_or(u64::MAX);
        Self {
            stale_from_ms: now_ms().saturating_add(fresh_ms),
            load_ms: u32::try_from(load.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// Whether it is time to load again. The costlier the load, the earlier one of many readers finds so, each with
    /// little probability (XFetch): usually one instance refreshes before the rest of the fleet thinks of it.
    pub(crate) fn is_due(&self) -> bool {
        // 1 - [0, 1) is never 0, so the logarithm is finite.
        let early_ms = f64::from(self.load_ms) * -(1.0 - fastrand::f64()).ln();
        now_ms().saturating_add(early_ms as u64) >= self.stale_from_ms
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn encode_json<T: Serialize + ?Sized>(
    operation: &'static str,
    key: &str,
    value: &T,
    dates: Option<Dates>,
) -> Result<Bytes> {
    let mut out = Vec::with_capacity(128);
    match dates {
        None => out.push(JSON),
        Some(dates) => {
            out.push(DATED_JSON);
            out.extend_from_slice(&dates.stale_from_ms.to_be_bytes());
            out.extend_from_slice(&dates.load_ms.to_be_bytes());
        }
    }
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

fn json(stored: &[u8]) -> Option<(&[u8], Option<Dates>)> {
    match stored.split_first()? {
        (&JSON, text) => Some((text, None)),
        (&DATED_JSON, rest) => {
            let (stale_from, rest) = rest.split_first_chunk::<8>()?;
            let (load, text) = rest.split_first_chunk::<4>()?;
            let dates = Dates {
                stale_from_ms: u64::from_be_bytes(*stale_from),
                load_ms: u32::from_be_bytes(*load),
            };
            Some((text, Some(dates)))
        }
        _ => None,
    }
}

/// `None`: not a value of this type and format.
pub(crate) fn decode_json<T: DeserializeOwned>(stored: &Bytes) -> Option<T> {
    serde_json::from_slice(json(stored)?.0).ok()
}

/// `None`: not written with dates, so fresh as long as it lives.
pub(crate) fn dates(stored: &Bytes) -> Option<Dates> {
    json(stored)?.1
}

/// Whether the value is a `None` (or another type's `null`).
pub(crate) fn is_absent(stored: &Bytes) -> bool {
    json(stored).is_some_and(|(text, _)| text == b"null")
}

/// `None`: not written by [`encode_raw`].
pub(crate) fn decode_raw(mut stored: Bytes) -> Option<Bytes> {
    match stored.first() {
        // Not a slice: that would count owners, and mostly there is one.
        Some(&RAW) => {
            stored.advance(1);
            Some(stored)
        }
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
            b"\x03",
            b"\x03{}",
            b"\x0300000000000{",
            b"\x01\xff\xfe",
            b"\xffabc",
            b"\x00\x00",
        ] {
            let stored = Bytes::from_static(stored);
            assert!(decode_json::<serde_json::Value>(&stored).is_none(), "{stored:?}");
        }
        let deep = [&b"\x01"[..], "[".repeat(1_000_000).as_bytes()].concat();
        assert!(decode_json::<serde_json::Value>(&deep.into()).is_none());
    }

    #[test]
    fn each_format_reads_only_its_own() {
        let raw = encode_raw(b"7");
        assert_eq!(decode_raw(raw.clone()).as_deref(), Some(&b"7"[..]));
        assert!(decode_json::<u8>(&raw).is_none());
        let json = encode_json("set", "k", &7u8, None).expect("a number");
        assert_eq!(decode_json::<u8>(&json), Some(7));
        assert!(decode_raw(json.clone()).is_none());
        assert!(dates(&json).is_none());
    }

    #[test]
    fn dates_travel_with_the_value_and_a_refresh_comes_due() {
        let fresh = Dates::new(Duration::from_secs(60), Duration::from_millis(5));
        let stored = encode_json("set", "k", &Some(7u8), Some(fresh)).expect("a number");
        assert_eq!(decode_json::<Option<u8>>(&stored), Some(Some(7)));
        assert_eq!(dates(&stored), Some(fresh));
        assert!(!is_absent(&stored));
        assert!(!fresh.is_due(), "a minute left, and five milliseconds to load");
        assert!(
            Dates {
                stale_from_ms: now_ms(),
                load_ms: 0
            }
            .is_due()
        );
        let costly = Dates::new(Duration::from_secs(60), Duration::from_secs(60));
        let due = (0..1000).filter(|_| costly.is_due()).count();
        assert!((250..500).contains(&due), "about e⁻¹ of the readers: {due}");
        let absent = encode_json("set", "k", &None::<u8>, Some(fresh)).expect("nothing");
        assert!(is_absent(&absent));
    }
}
