use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache as Moka;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;

use crate::adapter::{AdapterStats, CacheAdapter, Entry};
use crate::error::{Error, ErrorKind, Result};

/// What an entry costs beyond its key and value, about: moka's nodes, the timer wheel and the allocator.
const BOOKKEEPING: usize = 160;

/// Values in this process, up to a number of bytes. When it is full, what is asked for least gives way (TinyLFU): a
/// value that was never asked for may be dropped at once in favour of popular ones.
///
/// Every call is answered without waiting for anything outside the process.
#[derive(Clone)]
pub struct MemoryAdapter {
    entries: Moka<Box<str>, Held>,
    evictions: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Held {
    value: Bytes,
    expires_at: Instant,
}

/// The entry carries its own end, so that a counter keeps its end when it is counted up.
struct ByEntry;

impl Expiry<Box<str>, Held> for ByEntry {
    fn expire_after_create(&self, _: &Box<str>, held: &Held, now: Instant) -> Option<Duration> {
        Some(held.expires_at.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        held: &Held,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.expires_at.saturating_duration_since(now))
    }
}

impl MemoryAdapter {
    /// An empty store that holds at most `capacity` bytes, keys and bookkeeping included.
    pub fn new(capacity: u64) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = evictions.clone();
        let entries = Moka::<Box<str>, Held>::builder()
            .max_capacity(capacity)
            .weigher(|key, held| {
                u32::try_from(key.len() + held.value.len() + BOOKKEEPING).unwrap_or(u32::MAX)
            })
            .expire_after(ByEntry)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self { entries, evictions }
    }

    /// Runs the upkeep that otherwise rides along with calls, so that the counters are exact.
    pub async fn settle(&self) {
        self.entries.run_pending_tasks().await;
    }
}

impl std::fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryAdapter")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheAdapter for MemoryAdapter {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.entries.get(key).await.map(|held| held.value))
    }

    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.entries.get(key).await.map(|held| Entry {
            value: held.value,
            expires_in: Some(held.expires_at.saturating_duration_since(Instant::now())),
        }))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.entries
            .insert(
                key.into(),
                Held {
                    value,
                    expires_at: Instant::now() + ttl,
                },
            )
            .await;
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.entries.remove(key).await.is_some())
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let refuse = |reason| Error::new(ErrorKind::InvalidInput, "increment", key, reason);
        let mut count = 0;
        self.entries
            .entry(key.into())
            .and_try_compute_with(|entry| {
                let next = match entry.map(moka::Entry::into_value) {
                    None => Ok((delta, Instant::now() + ttl)),
                    Some(held) => std::str::from_utf8(&held.value)
                        .ok()
                        .and_then(|text| text.parse::<i64>().ok())
                        .ok_or_else(|| refuse("the value is not a counter"))
                        .and_then(|n| {
                            n.checked_add(delta)
                                .ok_or_else(|| refuse("the counter would overflow"))
                        })
                        .map(|n| (n, held.expires_at)),
                };
                let next = next.map(|(n, expires_at)| {
                    count = n;
                    Op::Put(Held {
                        value: Bytes::from(n.to_string()),
                        expires_at,
                    })
                });
                std::future::ready(next)
            })
            .await?;
        Ok(count)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> AdapterStats {
        AdapterStats {
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            evictions: self.evictions.load(Ordering::Relaxed),
            ..AdapterStats::default()
        }
    }
}
