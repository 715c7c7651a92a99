//! Namespaces, and how one is dropped in one step: a part of every key is drawn at random when the namespace is first
//! used and drawn anew when it is dropped. What was stored under the old keys is never asked for again and ends with
//! its time to live.
//!
//! The drawn part (the generation) lies in the store itself under a key of its own. If the store loses it, a new one is
//! drawn: that drops the namespace once more, which a cache may do at any time. A counter instead of a random number
//! would begin again and bring old values back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::Mutex;

use crate::adapter::{CacheAdapter, generation_key};
use crate::error::{Error, ErrorKind, Result};
use crate::ttl::LONGEST;

/// How long calls make do with what is known after the store could not be asked.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What the handles of one namespace share.
pub(crate) struct Scope {
    /// What stands in front of all its keys: `literature:asl:`.
    names: Arc<str>,
    /// Where the generations are: of this namespace last, of those around it before.
    generations: Vec<String>,
    current: ArcSwapOption<Prefix>,
    asking: Mutex<()>,
}

/// What stands in front of a value's key: the names and the generations.
pub(crate) struct Prefix {
    text: String,
    epoch: u64,
    /// Whether `text` holds generations that the store knows, if perhaps not the latest.
    known: bool,
    failed: Option<Failure>,
}

struct Failure {
    at: Instant,
    kind: ErrorKind,
    reason: String,
}

impl Prefix {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn is_current(&self, epoch: u64) -> bool {
        let waits = |failure: &Failure| failure.at.elapsed() < ASK_AGAIN_AFTER;
        self.epoch == epoch && self.failed.as_ref().is_none_or(waits)
    }

    /// A prefix that the store does not know will do where a miss will do.
    fn usable(self: Arc<Self>, operation: &'static str, miss_will_do: bool) -> Result<Arc<Self>> {
        match &self.failed {
            Some(failure) if !self.known && !miss_will_do => Err(Error::new(
                failure.kind,
                operation,
                &self.text,
                failure.reason.clone(),
            )),
            _ => Ok(self),
        }
    }
}

impl Scope {
    pub(crate) fn root(names: &str) -> Self {
        Self::with(names.into(), Vec::new())
    }

    pub(crate) fn within(&self, names: Arc<str>) -> Self {
        Self::with(names, self.generations.clone())
    }

    fn with(names: Arc<str>, mut generations: Vec<String>) -> Self {
        generations.push(generation_key(&names));
        Self {
            names,
            generations,
            current: ArcSwapOption::empty(),
            asking: Mutex::new(()),
        }
    }

    pub(crate) fn names(&self) -> &Arc<str> {
        &self.names
    }

    /// Where this namespace's own generation is.
    pub(crate) fn generation_key(&self) -> &str {
        self.generations.last().map_or("", String::as_str)
    }

    /// Calls `then` with the prefix if it is known without asking anyone.
    pub(crate) fn with_current<T>(&self, epoch: u64, then: impl FnOnce(&Prefix) -> T) -> Option<T> {
        let current = self.current.load();
        current
            .as_ref()
            .filter(|prefix| prefix.epoch == epoch && prefix.failed.is_none())
            .map(|prefix| then(prefix))
    }

    /// The prefix. If the store can't be asked, the one of before; if there is none, and `miss_will_do`, one that the
    /// store knows nothing under, so that memory can still be used.
    pub(crate) async fn prefix(
        &self,
        adapter: &dyn CacheAdapter,
        epoch: impl Fn() -> u64,
        operation: &'static str,
        miss_will_do: bool,
    ) -> Result<Arc<Prefix>> {
        let known = self.current.load_full();
        if let Some(prefix) = &known
            && prefix.is_current(epoch())
        {
            return prefix.clone().usable(operation, miss_will_do);
        }
        let _turn = match (self.asking.try_lock(), known) {
            (Ok(turn), _) => turn,
            // Someone is asking already, and what was right a moment ago is good enough meanwhile.
            (Err(_), Some(prefix)) if prefix.known => return Ok(prefix),
            (Err(_), _) => self.asking.lock().await,
        };
        let known = self.current.load_full();
        if let Some(prefix) = &known
            && prefix.is_current(epoch())
        {
            return prefix.clone().usable(operation, miss_will_do);
        }
        // Before the question: what changes during it makes the answer old.
        let epoch = epoch();
        match self.ask(adapter).await {
            Ok(generation) => {
                let text = format!("{}{generation:016x}:", self.names);
                let prefix = Arc::new(Prefix {
                    text,
                    epoch,
                    known: true,
                    failed: None,
                });
                self.current.store(Some(prefix.clone()));
                Ok(prefix)
            }
            Err(error) => {
                let (text, known) = match known {
                    Some(prefix) => (prefix.text.clone(), prefix.known),
                    None => (format!("{}{:016x}:", self.names, fastrand::u64(..)), false),
                };
                let failed = Failure {
                    at: Instant::now(),
                    kind: error.kind(),
                    reason: error.reason().to_owned(),
                };
                let prefix = Arc::new(Prefix {
                    text,
                    epoch,
                    known,
                    failed: Some(failed),
                });
                self.current.store(Some(prefix.clone()));
                if known || miss_will_do {
                    Ok(prefix)
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn ask(&self, adapter: &dyn CacheAdapter) -> Result<u64> {
        let keys: Vec<&str> = self.generations.iter().map(String::as_str).collect();
        let mut all = Fnv::default();
        for (key, found) in keys.iter().zip(adapter.get_many(&keys).await?) {
            let generation = match found {
                Some(generation) => generation,
                None => adapter.get_or_insert(key, new_generation(), LONGEST).await?,
            };
            all.add(&generation);
        }
        Ok(all.0)
    }

    /// Draws a new generation for this namespace.
    pub(crate) async fn clear(&self, adapter: &dyn CacheAdapter) -> Result<()> {
        adapter
            .set(self.generation_key(), new_generation(), LONGEST)
            .await
    }
}

fn new_generation() -> Bytes {
    format!("{:016x}", fastrand::u64(..)).into()
}

/// FNV-1a, which is the same in every version of this program: instances of two versions share their keys.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(b"/") {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
