use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// What the key of a namespace's generation ends in. No other key ends so by the handle's doing.
const GENERATION: &str = "~gen";

/// The key that holds the generation of the namespace whose keys begin with `names`.
pub(crate) fn generation_key(names: &str) -> String {
    format!("{names}{GENERATION}")
}

/// Whether the handle has to look for new generations after this key was written.
pub(crate) fn is_generation(key: &str) -> bool {
    key.ends_with(GENERATION)
}

/// A value together with what is left of its time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stored bytes.
    pub value: Bytes,
    /// Time until the store forgets the entry; `None` if the store does not tell.
    pub expires_in: Option<Duration>,
}

/// An entry to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The full key.
    pub key: String,
    /// The bytes to store.
    pub value: Bytes,
    /// How long they live.
    pub ttl: Duration,
}

/// A value that lies in this process, with room for its decoded form, so that it is decoded once and not at each hit.
/// Clones share that room.
#[derive(Clone)]
pub struct Held(Arc<HeldInner>);

struct HeldInner {
    value: Bytes,
    expires_at: Instant,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Held {
    /// A value that ends at `expires_at`.
    pub fn new(value: Bytes, expires_at: Instant) -> Self {
        Self(Arc::new(HeldInner {
            value,
            expires_at,
            decoded: OnceLock::new(),
        }))
    }

    /// The stored bytes.
    pub fn value(&self) -> &Bytes {
        &self.0.value
    }

    /// When the entry ends.
    pub fn expires_at(&self) -> Instant {
        self.0.expires_at
    }

    /// The value as a `T`: what an earlier call decoded, or what `decode` makes of the bytes now. `None` is not kept.
    pub(crate) fn decoded<T: Send + Sync + 'static>(
        &self,
        decode: impl FnOnce(&Bytes) -> Option<T>,
    ) -> Option<Arc<T>> {
        if let Some(known) = self.0.decoded.get()
            && let Ok(value) = known.clone().downcast::<T>()
        {
            return Some(value);
        }
        let value = Arc::new(decode(&self.0.value)?);
        // Filled by a reader of another type: this one goes on decoding.
        let _ = self.0.decoded.set(value.clone());
        Some(value)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("bytes", &self.0.value.len())
            .finish_non_exhaustive()
    }
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
    /// Keys that other instances wrote and this one dropped from memory.
    pub invalidations: u64,
    /// Times everything was dropped from memory because invalidations may have been missed.
    pub flushes: u64,
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
///
/// What has a default here is built from the rest; an adapter overrides it to be faster or, where the default says so,
/// to be atomic.
#[async_trait]
pub trait CacheAdapter: Send + Sync + fmt::Debug + 'static {
    /// A short fixed name for metrics and logs: `memory`, `redis` …
    fn name(&self) -> &'static str;

    /// The value under `key` if it lies in this process, without waiting for anything. `None` says nothing: ask
    /// [`get`](Self::get).
    fn peek(&self, key: &str) -> Option<Held> {
        let _ = key;
        None
    }

    /// The value under `key`, or `None`.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Like [`get`](Self::get), with the rest of the time to live where the store can tell it in the same round trip.
    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        let entry = |value| Entry {
            value,
            expires_in: None,
        };
        Ok(self.get(key).await?.map(entry))
    }

    /// The values under `keys`, in their order.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// Like [`get_many`](Self::get_many), with the rest of each time to live.
    async fn get_entries(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            entries.push(self.get_entry(key).await?);
        }
        Ok(entries)
    }

    /// What is under `key`, after storing `value` there if there was nothing. The default is not atomic.
    async fn get_or_insert(&self, key: &str, value: Bytes, ttl: Duration) -> Result<Bytes> {
        if let Some(found) = self.get(key).await? {
            return Ok(found);
        }
        self.set(key, value.clone(), ttl).await?;
        Ok(value)
    }

    /// Stores `value` for `ttl`.
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Stores all entries. The default stores one after the other.
    async fn set_many(&self, entries: &[NewEntry]) -> Result<()> {
        for entry in entries {
            self.set(&entry.key, entry.value.clone(), entry.ttl).await?;
        }
        Ok(())
    }

    /// Removes `key`; says whether there was something to remove.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// What is left of the time to live under `key`; `None` if there is nothing, [`Duration::MAX`] if the store does
    /// not tell.
    async fn expires_in(&self, key: &str) -> Result<Option<Duration>> {
        let entry = self.get_entry(key).await?;
        Ok(entry.map(|entry| entry.expires_in.unwrap_or(Duration::MAX)))
    }

    /// Lets what is under `key` live for `ttl` from now; says whether there is something. The default is not atomic.
    async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        match self.get(key).await? {
            Some(value) => self.set(key, value, ttl).await.map(|()| true),
            None => Ok(false),
        }
    }

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

    /// Takes the lock `key` for `ttl` in the name of `token`, if nobody holds it; returns a number above that of every
    /// earlier holder. Atomic.
    async fn lock(&self, key: &str, token: &str, ttl: Duration) -> Result<Option<u64>> {
        let _ = (token, ttl);
        Err(Error::new(
            ErrorKind::InvalidInput,
            "lock",
            key,
            "this adapter has no locks",
        ))
    }

    /// Lets the lock go on for `ttl` from now; `false` if `token` does not hold it. Atomic.
    async fn extend_lock(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        let _ = (key, token, ttl);
        Ok(false)
    }

    /// Gives the lock back; `false` if `token` does not hold it. Atomic.
    async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        let _ = (key, token);
        Ok(false)
    }

    /// Asks the store for a sign of life. Called by the health check and by the breaker's probe, which also expects
    /// it to mend a broken connection.
    async fn check(&self) -> Result<()>;

    /// A number that changes after a generation key (the handle's bookkeeping of namespaces) was written: at once where
    /// the adapter notices, and in any case after some seconds. The default changes every ten seconds.
    fn epoch(&self) -> u64 {
        SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs() / 10)
    }

    /// Counters kept in this process.
    fn stats(&self) -> AdapterStats {
        AdapterStats::default()
    }
}
