use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zhuji_health::Check;

use crate::adapter::{CacheAdapter, Held};
use crate::codec;
use crate::config::CacheConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::Flights;
use crate::health::CacheCheck;
use crate::load::Refreshes;
use crate::scope::{Prefix, Scope};
use crate::stats::{CacheStats, Tallies};
use crate::ttl::Ttl;

/// Longer keys are refused: they would cost more than what they save.
const MAX_KEY: usize = 64 * 1024;

/// A cache for values of any type that serde can turn into JSON and back.
///
/// Cheap to clone; clones and scopes share everything. All methods are safe to cancel: a write that was cut off may or
/// may not have happened, a read has no effect.
///
/// Every value has an end ([`Ttl`]). A stored value that is not of the wanted type is a miss, so a changed type needs
/// no clean-up, and a value that can't be read harms nobody.
#[derive(Clone)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: Arc<Scope>,
}

pub(crate) struct Inner {
    pub(crate) adapter: Arc<dyn CacheAdapter>,
    pub(crate) default_ttl: Duration,
    pub(crate) flights: Arc<Flights>,
    pub(crate) refreshes: Arc<Refreshes>,
    pub(crate) tallies: Tallies,
    /// So that a namespace scoped anew for each request asks for its generation once.
    scopes: Mutex<HashMap<Arc<str>, Weak<Scope>>>,
    /// Namespaces dropped by this process, which must look for new generations at once.
    drops: AtomicU64,
}

thread_local! {
    /// Where the key of a look into memory is put together, so that a hit allocates nothing.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Cache {
    /// A cache on this adapter, without the factory: for tests and special adapters. Only the default time to live and
    /// the key prefix of `config` are used.
    pub fn new(adapter: Arc<dyn CacheAdapter>, config: &CacheConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                adapter,
                default_ttl: config.default_ttl,
                flights: Arc::default(),
                refreshes: Arc::default(),
                tallies: Tallies::new(),
                scopes: Mutex::default(),
                drops: AtomicU64::new(0),
            }),
            scope: Arc::new(Scope::root(config.key_prefix.as_deref().unwrap_or_default())),
        }
    }

    /// The value under `key`; `None` if there is none, or none of this type.
    ///
    /// # Errors
    ///
    /// If the store can't be asked, or the key is empty or longer than 64 KiB. Where a missing cache should not
    /// matter, use [`get_or_load`](Self::get_or_load).
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let stored = self.stored(key).await?;
        Ok(self.judge_json(key, stored))
    }

    /// The bytes stored under `key` with [`set_bytes`](Self::set_bytes).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let stored = self.stored(key).await?;
        Ok(self.judge(key, stored, codec::decode_raw))
    }

    /// Like [`get`](Self::get), without a copy: a value that lies in this process (`memory`, and the near tier of
    /// `tiered`) is decoded at the first hit and kept in that form beside its bytes. For values that are read often or
    /// are large.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_shared<T>(&self, key: &str) -> Result<Option<Arc<T>>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        if let Some(value) = self.peek_shared(key) {
            return Ok(Some(value));
        }
        let key = self.full_key("get", key, true).await?;
        let stored = self.fetch(&key).await?;
        Ok(self.judge_json(&key, stored).map(Arc::new))
    }

    async fn stored(&self, key: &str) -> Result<Option<Bytes>> {
        let key = match self.near(key, str::to_owned) {
            Some(Ok(held)) => return Ok(Some(held.value().clone())),
            Some(Err(key)) => key,
            None => self.full_key("get", key, true).await?,
        };
        self.fetch(&key).await
    }

    /// Stores `value` under `key`: `set("k", &v, Duration::from_secs(60))`, or `None` for the default time to live.
    /// The time is spread by ±10 % unless it is [`Ttl::exact`].
    ///
    /// # Errors
    ///
    /// If the store can't be reached, the value has no JSON form, or the key or the time to live can't be used.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T, ttl: impl Into<Ttl>) -> Result<()> {
        let ttl = self.resolve(ttl, "set", key)?;
        let value = codec::encode_json("set", key, value, None)?;
        self.store(key, value, ttl).await
    }

    /// Stores bytes as they are; read them with [`get_bytes`](Self::get_bytes).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_bytes(&self, key: &str, value: impl AsRef<[u8]>, ttl: impl Into<Ttl>) -> Result<()> {
        let ttl = self.resolve(ttl, "set", key)?;
        self.store(key, codec::encode_raw(value.as_ref()), ttl).await
    }

    async fn store(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let key = self.full_key("set", key, false).await?;
        self.inner.flights.supersede(&key);
        self.counted(self.inner.adapter.set(&key, value, ttl).await)
    }

    /// Removes `key`; says whether there was something to remove. A load that is under way for the key does not bring
    /// the old value back.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the value may still be there.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let key = self.full_key("delete", key, false).await?;
        self.inner.flights.supersede(&key);
        self.counted(self.inner.adapter.delete(&key).await)
    }

    /// Whether there is something under `key`, of whatever type. Asks the store; does not count as a read.
    ///
    /// # Errors
    ///
    /// If the store can't be asked.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.ttl(key).await?.is_some())
    }

    /// What is left of the time to live of `key`; `None` if there is nothing under it.
    ///
    /// # Errors
    ///
    /// If the store can't be asked.
    pub async fn ttl(&self, key: &str) -> Result<Option<Duration>> {
        let key = self.full_key("ttl", key, false).await?;
        self.counted(self.inner.adapter.expires_in(&key).await)
    }

    /// Lets what is under `key` live for `ttl` from now; says whether there is something.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn touch(&self, key: &str, ttl: impl Into<Ttl>) -> Result<bool> {
        let ttl = self.resolve(ttl, "touch", key)?;
        let key = self.full_key("touch", key, false).await?;
        self.counted(self.inner.adapter.touch(&key, ttl).await)
    }

    /// Adds `delta` to a counter, atomically in the whole fleet, and returns the new count. A new counter starts at 0
    /// and lives for `ttl`, which later calls do not move. `increment(key, 0, ttl)` reads it.
    ///
    /// A counter is not a typed value: [`get`](Self::get) does not see it.
    ///
    /// # Errors
    ///
    /// If the store can't be reached (then it may or may not have been counted: there is no silent fallback), if the
    /// key holds a value that is no counter, or if the count would overflow.
    pub async fn increment(&self, key: &str, delta: i64, ttl: impl Into<Ttl>) -> Result<i64> {
        let ttl = self.resolve(ttl, "increment", key)?;
        let key = self.full_key("increment", key, false).await?;
        self.counted(self.inner.adapter.increment(&key, delta, ttl).await)
    }

    /// The same cache with `name:` in front of every key. Scopes nest. `:`, `~` and `%` in the name are
    /// percent-encoded, so that two different names never share a key.
    pub fn scoped(&self, name: &str) -> Self {
        let name = name.replace('%', "%25").replace(':', "%3A").replace('~', "%7E");
        let names: Arc<str> = format!("{}{name}:", self.scope.names()).into();
        let mut scopes = self.inner.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = scopes.get(&names).and_then(Weak::upgrade).unwrap_or_else(|| {
            if scopes.len() == scopes.capacity() {
                scopes.retain(|_, scope| scope.strong_count() > 0);
            }
            let scope = Arc::new(self.scope.within(names.clone()));
            scopes.insert(names, Arc::downgrade(&scope));
            scope
        });
        drop(scopes);
        Self {
            inner: self.inner.clone(),
            scope,
        }
    }

    /// Drops everything in this scope and the scopes within it, in one step however much that is: values and counters,
    /// not locks. What was stored is no longer found and ends with its time to live.
    ///
    /// Seen at once by this process; by others as soon as they are told (`tiered`) or after at most `CACHE_LOCAL_TTL`.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the scope may not have been dropped.
    pub async fn clear(&self) -> Result<()> {
        let cleared = self.scope.clear(&*self.inner.adapter).await;
        self.inner.drops.fetch_add(1, Ordering::SeqCst);
        self.counted(cleared)
    }

    /// Counters since the cache was built, over all scopes.
    pub fn stats(&self) -> CacheStats {
        self.inner.tallies.snapshot(self.inner.adapter.stats())
    }

    /// The adapter's name: `memory`, `redis`, `tiered` …
    pub fn adapter_name(&self) -> &'static str {
        self.inner.adapter.name()
    }

    /// A check called `cache`, not critical: a service without its cache is slow, not broken.
    pub fn health_check(&self) -> Arc<dyn Check> {
        Arc::new(CacheCheck { cache: self.clone() })
    }

    pub(crate) async fn check(&self) -> Result<()> {
        self.inner.adapter.check().await
    }

    /// Dials in the background, so that the first request finds the connection there.
    pub(crate) fn warm_up(&self) {
        let adapter = self.inner.adapter.clone();
        tokio::spawn(async move {
            match adapter.check().await {
                Ok(()) => tracing::debug!(adapter = adapter.name(), "cache ready"),
                Err(error) => tracing::warn!(adapter = adapter.name(), %error, "cache not reached yet"),
            }
        });
    }

    pub(crate) async fn fetch(&self, key: &str) -> Result<Option<Bytes>> {
        self.counted(self.inner.adapter.get(key).await)
    }

    pub(crate) fn counted<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| self.inner.tallies.error())
    }

    pub(crate) fn resolve(
        &self,
        ttl: impl Into<Ttl>,
        operation: &'static str,
        key: &str,
    ) -> Result<Duration> {
        ttl.into().resolve(self.inner.default_ttl, operation, key)
    }

    /// Decodes what was found, and counts what came of it.
    pub(crate) fn judge_json<T: DeserializeOwned>(&self, key: &str, stored: Option<Bytes>) -> Option<T> {
        self.judge(key, stored, |stored| codec::decode_json(&stored))
    }

    fn judge<T>(
        &self,
        key: &str,
        stored: Option<Bytes>,
        decode: impl FnOnce(Bytes) -> Option<T>,
    ) -> Option<T> {
        let Some(stored) = stored else {
            self.inner.tallies.miss();
            return None;
        };
        let value = decode(stored);
        match value {
            Some(_) => self.inner.tallies.hit(),
            None => {
                tracing::debug!(key, "stored value is not of the wanted type");
                self.inner.tallies.decode_error();
            }
        }
        value
    }

    /// The value if it lies in this process. `None` says nothing.
    pub(crate) fn peek(&self, key: &str) -> Option<Held> {
        self.near(key, |_| ())?.ok()
    }

    /// The value if it lies in this process, else what `elsewhere` makes of the key in the store. `None` if that key is
    /// not known without asking, or not usable.
    fn near<T>(&self, key: &str, elsewhere: impl FnOnce(&str) -> T) -> Option<Result<Held, T>> {
        let look = |prefix: &Prefix| {
            KEY.with_borrow_mut(|full| {
                full.clear();
                full.push_str(prefix.text());
                full.push_str(key);
                self.inner.adapter.peek(full).ok_or_else(|| elsewhere(full))
            })
        };
        match self.mistake(key) {
            None => self.scope.with_current(self.inner.epoch(), look),
            Some(_) => None,
        }
    }

    /// Why a key can't be used.
    fn mistake(&self, key: &str) -> Option<&'static str> {
        match key.len() {
            0 => Some("the key is empty"),
            n if n + self.scope.names().len() > MAX_KEY => Some("the key is longer than 64 KiB"),
            _ => None,
        }
    }

    pub(crate) fn peek_shared<T>(&self, key: &str) -> Option<Arc<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let value = self.peek(key)?.decoded(codec::decode_json)?;
        self.inner.tallies.hit();
        Some(value)
    }

    /// The key in the store. With `miss_will_do` this fails for unusable keys only.
    pub(crate) async fn full_key(
        &self,
        operation: &'static str,
        key: &str,
        miss_will_do: bool,
    ) -> Result<String> {
        if let Some(reason) = self.mistake(key) {
            return Err(Error::new(ErrorKind::InvalidInput, operation, key, reason));
        }
        let with = |prefix: &Prefix| [prefix.text(), key].concat();
        if let Some(full) = self.scope.with_current(self.inner.epoch(), with) {
            return Ok(full);
        }
        // Rare, and too large to be carried along in every call's future.
        let epoch = || self.inner.epoch();
        let ask = self
            .scope
            .prefix(&*self.inner.adapter, epoch, operation, miss_will_do);
        let prefix = Box::pin(ask).await;
        Ok(with(&*self.counted(prefix)?))
    }
}

impl Inner {
    fn epoch(&self) -> u64 {
        self.adapter
            .epoch()
            .wrapping_add(self.drops.load(Ordering::Acquire))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("adapter", &self.inner.adapter)
            .field("prefix", self.scope.names())
            .finish_non_exhaustive()
    }
}
