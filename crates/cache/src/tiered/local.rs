use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::memory::MemoryAdapter;
use crate::redis::Listener;

/// Keys share versions: a collision only costs a value that is not kept.
const STRIPES: usize = 1024;

/// The tier in this process, and the order of what happens to it.
///
/// A value that was fetched before a write and arrives after it must not be kept, or it would look fresh for the whole
/// local time to live. So every write, own or told, moves its key's version, and a value is kept only if the version is
/// still the one from before it was asked for. Looking and keeping are one step under the stripe's lock; reading a hit
/// takes no lock.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) memory: MemoryAdapter,
    versions: Vec<Mutex<u64>>,
    hasher: RandomState,
    invalidations: AtomicU64,
    flushes: AtomicU64,
}

/// A moment in the life of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Local {
    pub(crate) fn new(memory: MemoryAdapter) -> Self {
        Self {
            memory,
            versions: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
            invalidations: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
        }
    }

    fn version_of(&self, key: &str) -> MutexGuard<'_, u64> {
        let stripe = self.hasher.hash_one(key) as usize % STRIPES;
        self.versions[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before the shared store is asked.
    pub(crate) fn version(&self, key: &str) -> Version {
        Version(*self.version_of(key))
    }

    /// Keeps a fetched value, unless the key was written since `asked`.
    pub(crate) fn keep(&self, key: &str, value: Bytes, ttl: Duration, asked: Version) {
        let version = self.version_of(key);
        if *version == asked.0 && !ttl.is_zero() {
            self.memory.fill(key, value, ttl);
        }
    }

    /// A write begins: what was asked for before must not be kept.
    pub(crate) fn begin_write(&self, key: &str) -> Version {
        let mut version = self.version_of(key);
        *version += 1;
        Version(*version)
    }

    /// The write is done. Its value is kept if no other write of the key came in between; otherwise the order in which
    /// they reached the store is not known, and nothing is.
    pub(crate) fn end_write(&self, key: &str, value: Option<(Bytes, Duration)>, begun: Version) {
        let mut version = self.version_of(key);
        let alone = *version == begun.0;
        *version += 1;
        match value {
            Some((value, ttl)) if alone && !ttl.is_zero() => self.memory.put(key, value, ttl),
            _ => {
                self.memory.remove(key);
            }
        }
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.invalidations.load(Ordering::Relaxed),
            self.flushes.load(Ordering::Relaxed),
        )
    }
}

impl Listener for Local {
    fn forget(&self, key: &str) {
        let mut version = self.version_of(key);
        *version += 1;
        self.memory.remove(key);
        drop(version);
        self.invalidations.fetch_add(1, Ordering::Relaxed);
    }

    fn forget_all(&self) {
        for version in &self.versions {
            *version.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        self.memory.clear();
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::CacheAdapter;

    const LONG: Duration = Duration::from_secs(60);

    fn held(local: &Local) -> Option<Bytes> {
        local.memory.peek("k").map(|held| held.value().clone())
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_value_fetched_before_a_write_is_not_kept_after_it() {
        type Write = fn(&Local);
        let own: Write = |local| {
            let begun = local.begin_write("k");
            local.end_write("k", Some((bytes("new"), LONG)), begun);
        };
        let delete: Write = |local| {
            let begun = local.begin_write("k");
            local.end_write("k", None, begun);
        };
        let told: Write = |local| local.forget("k");
        let flush: Write = |local| local.forget_all();
        for (write, stays) in [(own, Some("new")), (delete, None), (told, None), (flush, None)] {
            let local = Local::new(MemoryAdapter::new(1 << 20));
            let asked = local.version("k");
            write(&local);
            local.keep("k", bytes("old"), LONG, asked);
            assert_eq!(held(&local), stays.map(bytes));
            let asked = local.version("k");
            local.keep("k", bytes("fresh"), LONG, asked);
            assert_eq!(held(&local), Some(bytes("fresh")));
        }
    }

    #[test]
    fn a_value_fetched_during_a_write_does_not_replace_the_written_one() {
        let local = Local::new(MemoryAdapter::new(1 << 20));
        let begun = local.begin_write("k");
        let asked = local.version("k");
        local.end_write("k", Some((bytes("new"), LONG)), begun);
        local.keep("k", bytes("old"), LONG, asked);
        assert_eq!(held(&local), Some(bytes("new")));
    }

    #[test]
    fn of_two_writes_at_once_neither_is_kept_by_the_one_that_began_first() {
        let local = Local::new(MemoryAdapter::new(1 << 20));
        let (one, two) = (local.begin_write("k"), local.begin_write("k"));
        local.end_write("k", Some((bytes("two"), LONG)), two);
        local.end_write("k", Some((bytes("one"), LONG)), one);
        assert_eq!(
            held(&local),
            None,
            "which of them the store took last is not known"
        );
    }
}
