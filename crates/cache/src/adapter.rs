use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// A value together with what is left of its time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stored bytes.
    pub value: Bytes,
    /// Time until the store forgets the entry; `None` if the store does not tell.
    pub expires_in: Option<Duration>,
}

/// What an adapter can tell about itself without asking a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterStats {
    /// Entries held in this process (approximate).
    pub entries: u64,
    /// Bytes held in this process: keys, values and bookkeeping (approximate).
    pub bytes: u64,
    /// Entries dropped to make room, in this process.
    pub evictions: u64,
    /// Hits answered by the tier in this process.
    pub local_hits: u64,
    /// Whether a breaker keeps calls away from the server now.
    pub breaker_open: bool,
}

/// What a back end has to offer. Product code uses [`Cache`](crate::Cache) instead.
///
/// # Contract
///
/// - Keys are any UTF-8 text from 1 byte to 64 KiB; values are any bytes. The handle has checked the key, put the
///   namespace in front of it and put a format byte in front of the value.
/// - `set` replaces value *and* time to live. After `set` returned `Ok`, a `get` through the same adapter sees the
///   value until `ttl` has passed, another write replaces it, or the store needs room. It never sees half a value.
/// - An entry is gone `ttl` after its `set`, on the store's clock. `ttl` is at least one millisecond.
/// - `delete` of a missing key is `Ok(false)`.
/// - `increment` is atomic against other increments. The time to live is set when the counter is created and does not
///   move afterwards.
/// - Every call ends by itself. An adapter that talks to a network is put behind [`Guard`](crate::Guard) by the
///   factory, which cuts calls off at the operation timeout; a cut-off write may still take effect.
/// - An error whose [`is_unavailable`](Error::is_unavailable) is true counts towards the breaker.
#[async_trait]
pub trait CacheAdapter: Send + Sync + fmt::Debug + 'static {
    /// A short fixed name for metrics and logs: `memory`, `redis` …
    fn name(&self) -> &'static str;

    /// The value under `key`, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Like [`get`](Self::get), with the rest of the time to live where the store can tell it in the same round trip.
    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.get(key).await?.map(|value| Entry {
            value,
            expires_in: None,
        }))
    }

    /// Stores `value` for `ttl`.
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Removes `key`; says whether there was something to remove.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// Adds `delta` to the counter under `key`, which starts at 0 and then lives for `ttl`; returns the new count.
    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let _ = (delta, ttl);
        Err(Error::new(
            ErrorKind::InvalidInput,
            "increment",
            key,
            "this adapter has no counters",
        ))
    }

    /// Asks the store for a sign of life. Called by the health check and by the breaker's probe, which also expects
    /// it to mend a broken connection.
    async fn check(&self) -> Result<()>;

    /// Counters kept in this process.
    fn stats(&self) -> AdapterStats {
        AdapterStats::default()
    }
}
