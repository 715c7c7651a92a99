mod local;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::local::{Local, Version};
use crate::adapter::{AdapterStats, CacheAdapter, Entry, Held, NewEntry, is_generation};
use crate::config::MAX_LOCAL_TTL;
use crate::error::Result;
use crate::memory::MemoryAdapter;
use crate::redis::{Invalidation, Listener, RedisAdapter};

/// Memory in front of a shared store: repeated reads are answered in this process, and all instances share the rest.
///
/// # How stale a value can be
///
/// A write, delete or namespace drop is seen at once by the instance that made it. The others are told over publish and
/// subscribe and drop the key, usually within milliseconds ([`with_invalidation`](Self::with_invalidation); the factory
/// does that). A message can be lost: an instance that has lost its subscription drops all it holds when it has
/// subscribed again, and until then, or without invalidation, goes on answering with a value for at most the local time
/// to live (`CACHE_LOCAL_TTL`, 10 s by default, never above 30 s). A value never outlives its own time to live. What
/// must be the same everywhere at once belongs in the database.
///
/// # When the shared store is out of reach
///
/// Reads are answered from memory where they can and fail where they can't. A `set` keeps the value in memory for the
/// local time to live and returns the store's error: the other instances have not seen it. A `delete` removes the
/// value from memory and returns the error.
///
/// Counters and locks are always in the shared store.
pub struct TieredAdapter {
    local: Arc<Local>,
    shared: Arc<dyn CacheAdapter>,
    local_ttl: Duration,
    local_hits: AtomicU64,
    invalidation: Option<Invalidation>,
}

impl TieredAdapter {
    /// `local` in front of `shared`. A `local_ttl` above [`MAX_LOCAL_TTL`] is cut to it.
    pub fn new(local: MemoryAdapter, shared: Arc<dyn CacheAdapter>, local_ttl: Duration) -> Self {
        Self {
            local: Arc::new(Local::new(local)),
            shared,
            local_ttl: local_ttl.min(MAX_LOCAL_TTL),
            local_hits: AtomicU64::new(0),
            invalidation: None,
        }
    }

    /// Tells the other instances of this one's writes over `redis`, and hears of theirs: one more connection, made and
    /// made again in the background. Must be called on a tokio runtime.
    pub fn with_invalidation(mut self, redis: &RedisAdapter) -> Self {
        let listener: Arc<dyn Listener> = self.local.clone();
        self.invalidation = Some(redis.invalidation(&listener));
        self
    }

    fn keep(&self, key: &str, entry: &Entry, asked: Version) {
        let ttl = entry.expires_in.unwrap_or(self.local_ttl).min(self.local_ttl);
        self.local.keep(key, entry.value.clone(), ttl, asked);
    }

    /// Begins a write. It ends, and is told to the others, when the answer is dropped: also when the caller gives up,
    /// for the store may have taken it all the same.
    fn write<'k>(&'k self, key: &'k str) -> Write<'k> {
        Write {
            tiers: self,
            key,
            begun: self.local.begin_write(key),
            value: None,
        }
    }
}

struct Write<'k> {
    tiers: &'k TieredAdapter,
    key: &'k str,
    begun: Version,
    /// What memory may keep.
    value: Option<(Bytes, Duration)>,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.tiers
            .local
            .end_write(self.key, self.value.take(), self.begun);
        if let Some(invalidation) = &self.tiers.invalidation {
            invalidation.announce(self.key);
        }
    }
}

impl fmt::Debug for TieredAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredAdapter")
            .field("local", &self.local.memory)
            .field("shared", &self.shared)
            .field("local_ttl", &self.local_ttl)
            .field("invalidation", &self.invalidation.is_some())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheAdapter for TieredAdapter {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn peek(&self, key: &str) -> Option<Held> {
        let held = self.local.memory.peek(key)?;
        self.local_hits.fetch_add(1, Ordering::Relaxed);
        Some(held)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        if let Some(held) = self.peek(key) {
            return Ok(Some(held.value().clone()));
        }
        let asked = self.local.version(key);
        let entry = self.shared.get_entry(key).await?;
        Ok(entry.map(|entry| {
            self.keep(key, &entry, asked);
            entry.value
        }))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let mut values: Vec<_> = keys
            .iter()
            .map(|key| match is_generation(key) {
                // The handle's own bookkeeping is nobody's hit.
                true => self.local.memory.peek(key),
                false => self.peek(key),
            })
            .map(|held| held.map(|held| held.value().clone()))
            .collect();
        let missing: Vec<_> = (0..keys.len())
            .filter(|&n| values[n].is_none())
            .map(|n| (n, keys[n], self.local.version(keys[n])))
            .collect();
        if missing.is_empty() {
            return Ok(values);
        }
        let asked: Vec<&str> = missing.iter().map(|(_, key, _)| *key).collect();
        for ((n, key, asked), entry) in missing.into_iter().zip(self.shared.get_entries(&asked).await?) {
            if let Some(entry) = entry {
                self.keep(key, &entry, asked);
                values[n] = Some(entry.value);
            }
        }
        Ok(values)
    }

    async fn get_or_insert(&self, key: &str, value: Bytes, ttl: Duration) -> Result<Bytes> {
        self.shared.get_or_insert(key, value, ttl).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let mut write = self.write(key);
        let stored = self.shared.set(key, value.clone(), ttl).await;
        write.value = Some((value, ttl.min(self.local_ttl)));
        stored
    }

    async fn set_many(&self, entries: &[NewEntry]) -> Result<()> {
        let mut writes: Vec<_> = entries.iter().map(|entry| self.write(&entry.key)).collect();
        let stored = self.shared.set_many(entries).await;
        for (write, entry) in writes.iter_mut().zip(entries) {
            write.value = Some((entry.value.clone(), entry.ttl.min(self.local_ttl)));
        }
        stored
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.local.memory.remove(key);
        let _write = self.write(key);
        self.shared.delete(key).await
    }

    async fn expires_in(&self, key: &str) -> Result<Option<Duration>> {
        self.shared.expires_in(key).await
    }

    async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        let _write = self.write(key);
        self.shared.touch(key, ttl).await
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let _write = self.write(key);
        self.shared.increment(key, delta, ttl).await
    }

    async fn lock(&self, key: &str, token: &str, ttl: Duration) -> Result<Option<u64>> {
        self.shared.lock(key, token, ttl).await
    }

    async fn extend_lock(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.shared.extend_lock(key, token, ttl).await
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        self.shared.unlock(key, token).await
    }

    async fn check(&self) -> Result<()> {
        self.shared.check().await
    }

    fn epoch(&self) -> u64 {
        self.shared.epoch().wrapping_add(self.local.memory.epoch())
    }

    fn stats(&self) -> AdapterStats {
        let local = self.local.memory.stats();
        let (invalidations, flushes) = self.local.counts();
        AdapterStats {
            entries: local.entries,
            bytes: local.bytes,
            evictions: local.evictions,
            local_hits: self.local_hits.load(Ordering::Relaxed),
            invalidations,
            flushes,
            ..self.shared.stats()
        }
    }
}
