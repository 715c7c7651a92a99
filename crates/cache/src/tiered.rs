use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::adapter::{AdapterStats, CacheAdapter, Entry};
use crate::config::MAX_LOCAL_TTL;
use crate::error::Result;
use crate::memory::MemoryAdapter;

/// Memory in front of a shared store: repeated reads are answered in this process, and all instances share the rest.
///
/// # How stale a value can be
///
/// A write or delete is seen at once by the instance that made it. Other instances may go on answering with the value
/// they hold in memory for at most the local time to live (`CACHE_LOCAL_TTL`, 10 s by default, never above 30 s). A
/// value never outlives its own time to live. What must be the same everywhere at once belongs in the database.
///
/// # When the shared store is out of reach
///
/// Reads are answered from memory where they can and fail where they can't. A `set` keeps the value in memory for the
/// local time to live and returns the store's error: the other instances have not seen it. A `delete` removes the
/// value from memory and returns the error.
///
/// Counters are always counted in the shared store.
#[derive(Debug)]
pub struct TieredAdapter {
    local: MemoryAdapter,
    shared: Arc<dyn CacheAdapter>,
    local_ttl: Duration,
    local_hits: AtomicU64,
}

impl TieredAdapter {
    /// `local` in front of `shared`. A `local_ttl` above [`MAX_LOCAL_TTL`] is cut to it.
    pub fn new(local: MemoryAdapter, shared: Arc<dyn CacheAdapter>, local_ttl: Duration) -> Self {
        Self {
            local,
            shared,
            local_ttl: local_ttl.min(MAX_LOCAL_TTL),
            local_hits: AtomicU64::new(0),
        }
    }

    async fn keep(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let ttl = ttl.min(self.local_ttl);
        if ttl.is_zero() {
            return Ok(());
        }
        self.local.set(key, value, ttl).await
    }
}

#[async_trait]
impl CacheAdapter for TieredAdapter {
    fn name(&self) -> &'static str {
        "tiered"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        if let Some(value) = self.local.get(key).await? {
            self.local_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(value));
        }
        let Some(Entry { value, expires_in }) = self.shared.get_entry(key).await? else {
            return Ok(None);
        };
        self.keep(key, value.clone(), expires_in.unwrap_or(self.local_ttl))
            .await?;
        Ok(Some(value))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let shared = self.shared.set(key, value.clone(), ttl).await;
        // After the shared store, so that a reader in between does not put the old value over the new one.
        self.keep(key, value, ttl).await?;
        shared
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.local.delete(key).await?;
        let removed = self.shared.delete(key).await;
        // Once more: a reader may have fetched the old value while it was being deleted.
        self.local.delete(key).await?;
        removed
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let count = self.shared.increment(key, delta, ttl).await;
        self.local.delete(key).await?;
        count
    }

    async fn check(&self) -> Result<()> {
        self.shared.check().await
    }

    fn stats(&self) -> AdapterStats {
        let AdapterStats {
            entries,
            bytes,
            evictions,
            ..
        } = self.local.stats();
        AdapterStats {
            entries,
            bytes,
            evictions,
            local_hits: self.local_hits.load(Ordering::Relaxed),
            ..self.shared.stats()
        }
    }
}
