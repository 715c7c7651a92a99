use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
// Keys are hashed at every hit, and the default hasher takes longer for that than the look itself. Seeded at random, so
// that nobody can choose keys that meet.
use foldhash::quality::RandomState;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache as Moka;
use tokio::sync::RwLock;

use crate::adapter::{AdapterStats, CacheAdapter, Entry, Held, NewEntry, is_generation};
use crate::error::{Error, ErrorKind, Result};

/// What an entry costs beyond its key and value, about: moka's nodes, the timer wheel and the allocator.
const BOOKKEEPING: usize = 160;

/// Values in this process, up to a number of bytes. When it is full, what is asked for least gives way (TinyLFU): a
/// value that was never asked for may be dropped at once in favour of popular ones.
///
/// Every call is answered without waiting for anything outside the process. Locks hold within this process only.
#[derive(Clone)]
pub struct MemoryAdapter {
    entries: Moka<Box<str>, Held, RandomState>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    evictions: AtomicU64,
    epoch: AtomicU64,
    fence: AtomicU64,
    /// Beside the entries, because a lock must not be dropped to make room.
    locks: Mutex<HashMap<String, HeldLock>>,
    /// Written by `set_many`, so that a `get_many` sees all of it or nothing.
    batch: RwLock<()>,
}

struct HeldLock {
    token: String,
    until: Instant,
}

impl Shared {
    fn locks(&self) -> MutexGuard<'_, HashMap<String, HeldLock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry carries its own end, so that a counter keeps its end when it is counted up.
struct ByEntry;

impl Expiry<Box<str>, Held> for ByEntry {
    fn expire_after_create(&self, _: &Box<str>, held: &Held, now: Instant) -> Option<Duration> {
        Some(held.expires_at().saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        held: &Held,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.expires_at().saturating_duration_since(now))
    }
}

impl MemoryAdapter {
    /// An empty store that holds at most `capacity` bytes, keys and bookkeeping included. The decoded forms that
    /// [`get_shared`](crate::Cache::get_shared) keeps beside the bytes are not counted.
    pub fn new(capacity: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let counter = shared.clone();
        let entries = Moka::<Box<str>, Held>::builder()
            .max_capacity(capacity)
            .weigher(|key, held| {
                u32::try_from(key.len() + held.value().len() + BOOKKEEPING).unwrap_or(u32::MAX)
            })
            .expire_after(ByEntry)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.evictions.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build_with_hasher(RandomState::default());
        Self { entries, shared }
    }

    /// Runs the upkeep that otherwise rides along with calls, so that the counters are exact.
    pub fn settle(&self) {
        self.entries.run_pending_tasks();
    }

    pub(crate) fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        self.fill(key, value, ttl);
        self.written(key);
    }

    /// Puts what another store was found to hold: no write, so no reason to look for new generations.
    pub(crate) fn fill(&self, key: &str, value: Bytes, ttl: Duration) {
        self.entries
            .insert(key.into(), Held::new(value, Instant::now() + ttl));
    }

    pub(crate) fn remove(&self, key: &str) -> bool {
        let removed = self.entries.remove(key).is_some();
        self.written(key);
        removed
    }

    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// After the write, so that who sees the new epoch sees the new generation.
    fn written(&self, key: &str) {
        if is_generation(key) {
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Changes the entry in one step; says what came of it.
    fn compute(
        &self,
        key: &str,
        change: impl FnOnce(Option<Held>) -> Op<Held>,
    ) -> CompResult<Box<str>, Held> {
        let entry = self.entries.entry(key.into());
        entry.and_compute_with(|entry| change(entry.map(moka::Entry::into_value)))
    }
}

impl std::fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryAdapter")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

fn changed(result: &CompResult<Box<str>, Held>) -> bool {
    matches!(
        result,
        CompResult::Inserted(_) | CompResult::ReplacedWith(_) | CompResult::Removed(_)
    )
}

#[async_trait]
impl CacheAdapter for MemoryAdapter {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn peek(&self, key: &str) -> Option<Held> {
        self.entries.get(key)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.entries.get(key).map(|held| held.value().clone()))
    }

    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.entries.get(key).map(|held| Entry {
            value: held.value().clone(),
            expires_in: Some(held.expires_at().saturating_duration_since(Instant::now())),
        }))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let _batch = self.shared.batch.read().await;
        Ok(keys
            .iter()
            .map(|key| self.entries.get(*key).map(|held| held.value().clone()))
            .collect())
    }

    async fn get_or_insert(&self, key: &str, value: Bytes, ttl: Duration) -> Result<Bytes> {
        let insert = |entry: Option<Held>| match entry {
            Some(_) => Op::Nop,
            None => Op::Put(Held::new(value.clone(), Instant::now() + ttl)),
        };
        let result = self.compute(key, insert);
        if changed(&result) {
            self.written(key);
        }
        let found = result
            .into_entry()
            .map(|entry| entry.into_value().value().clone());
        Ok(found.unwrap_or(value))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.put(key, value, ttl);
        Ok(())
    }

    async fn set_many(&self, entries: &[NewEntry]) -> Result<()> {
        let _batch = self.shared.batch.write().await;
        for entry in entries {
            self.put(&entry.key, entry.value.clone(), entry.ttl);
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.remove(key))
    }

    async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        let renew = |entry: Option<Held>| match entry {
            Some(held) => Op::Put(Held::new(held.value().clone(), Instant::now() + ttl)),
            None => Op::Nop,
        };
        Ok(changed(&self.compute(key, renew)))
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let refuse = |reason| Error::new(ErrorKind::InvalidInput, "increment", key, reason);
        let mut count = 0;
        self.entries.entry(key.into()).and_try_compute_with(|entry| {
            let (next, expires_at) = match entry.map(moka::Entry::into_value) {
                None => (delta, Instant::now() + ttl),
                Some(held) => {
                    let text = std::str::from_utf8(held.value()).ok();
                    let now = text.and_then(|text| text.parse::<i64>().ok());
                    let now = now.ok_or_else(|| refuse("the value is not a counter"))?;
                    let next = now
                        .checked_add(delta)
                        .ok_or_else(|| refuse("the counter would overflow"))?;
                    (next, held.expires_at())
                }
            };
            count = next;
            Ok::<_, Error>(Op::Put(Held::new(Bytes::from(next.to_string()), expires_at)))
        })?;
        Ok(count)
    }

    async fn lock(&self, key: &str, token: &str, ttl: Duration) -> Result<Option<u64>> {
        let now = Instant::now();
        let mut locks = self.shared.locks();
        locks.retain(|_, held| held.until > now);
        if locks.contains_key(key) {
            return Ok(None);
        }
        locks.insert(
            key.to_owned(),
            HeldLock {
                token: token.to_owned(),
                until: now + ttl,
            },
        );
        Ok(Some(self.shared.fence.fetch_add(1, Ordering::SeqCst) + 1))
    }

    async fn extend_lock(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        let now = Instant::now();
        let mut locks = self.shared.locks();
        let held = locks
            .get_mut(key)
            .filter(|held| held.token == token && held.until > now);
        Ok(held.map(|held| held.until = now + ttl).is_some())
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        let now = Instant::now();
        let mut locks = self.shared.locks();
        let held = locks
            .get(key)
            .is_some_and(|held| held.token == token && held.until > now);
        if held {
            locks.remove(key);
        }
        Ok(held)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    fn stats(&self) -> AdapterStats {
        AdapterStats {
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            evictions: self.shared.evictions.load(Ordering::Relaxed),
            ..AdapterStats::default()
        }
    }
}
