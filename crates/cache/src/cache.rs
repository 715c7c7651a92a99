use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zhuji_health::Check;

use crate::adapter::CacheAdapter;
use crate::codec;
use crate::config::CacheConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::{Flights, Lead, Seat, State};
use crate::health::CacheCheck;
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
    inner: Arc<Inner>,
    /// What stands in front of every key of this handle: `literature:asl:`.
    prefix: Arc<str>,
}

struct Inner {
    adapter: Arc<dyn CacheAdapter>,
    default_ttl: Duration,
    flights: Arc<Flights>,
    tallies: Tallies,
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
                tallies: Tallies::new(),
            }),
            prefix: config.key_prefix.as_deref().unwrap_or_default().into(),
        }
    }

    /// The value under `key`; `None` if there is none, or none of this type.
    ///
    /// # Errors
    ///
    /// If the store can't be asked, or the key is empty or longer than 64 KiB. Where a missing cache should not
    /// matter, use [`get_or_load`](Self::get_or_load).
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let key = self.full_key("get", key)?;
        let stored = self.fetch(&key).await?;
        Ok(self.judge(&key, stored, |stored| codec::decode_json(stored)))
    }

    /// The bytes stored under `key` with [`set_bytes`](Self::set_bytes).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let key = self.full_key("get", key)?;
        let stored = self.fetch(&key).await?;
        Ok(self.judge(&key, stored, codec::decode_raw))
    }

    /// Stores `value` under `key`: `set("k", &v, Duration::from_secs(60))`, or `None` for the default time to live.
    /// The time is spread by ±10 % unless it is [`Ttl::exact`].
    ///
    /// # Errors
    ///
    /// If the store can't be reached, the value has no JSON form, or the key or the time to live can't be used.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T, ttl: impl Into<Ttl>) -> Result<()> {
        let full = self.full_key("set", key)?;
        let ttl = ttl.into().resolve(self.inner.default_ttl, "set", &full)?;
        let value = codec::encode_json("set", &full, value)?;
        self.store(&full, value, ttl).await
    }

    /// Stores bytes as they are; read them with [`get_bytes`](Self::get_bytes).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn set_bytes(&self, key: &str, value: impl AsRef<[u8]>, ttl: impl Into<Ttl>) -> Result<()> {
        let full = self.full_key("set", key)?;
        let ttl = ttl.into().resolve(self.inner.default_ttl, "set", &full)?;
        self.store(&full, codec::encode_raw(value.as_ref()), ttl).await
    }

    /// Removes `key`; says whether there was something to remove. A load that is under way for the key does not bring
    /// the old value back.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the value may still be there.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let key = self.full_key("delete", key)?;
        self.inner.flights.supersede(&key);
        self.inner
            .adapter
            .delete(&key)
            .await
            .inspect_err(|_| self.inner.tallies.error())
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
        let key = self.full_key("increment", key)?;
        let ttl = ttl.into().resolve(self.inner.default_ttl, "increment", &key)?;
        self.inner
            .adapter
            .increment(&key, delta, ttl)
            .await
            .inspect_err(|_| self.inner.tallies.error())
    }

    /// The value under `key`, or what `load` brings, which is then stored for `ttl`.
    ///
    /// - Many callers in this process that miss the same key at once run **one** load between them. The others wait
    ///   for it and get a copy.
    /// - The loader's error reaches everyone who waited and is not stored. It arrives in an [`Arc`] because it is
    ///   shared; an `Arc` of an error is an error, so `?` works.
    /// - If the leading caller is dropped (a client that hung up) or its loader panics, a waiter takes over with its
    ///   own loader.
    /// - **The cache can't make this fail.** A store that does not answer is a miss; that costs at most the operation
    ///   timeout before the load and again after it, and nothing once the breaker is open.
    /// - To cache "there is none" as well, load an `Option<V>`.
    ///
    /// The deadline of the load itself is the loader's business; waiters wait as long as it runs.
    pub async fn get_or_load<T, E, F, Fut>(
        &self,
        key: &str,
        ttl: impl Into<Ttl>,
        load: F,
    ) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let prepared = self.full_key("get_or_load", key).and_then(|key| {
            let ttl = ttl.into().resolve(self.inner.default_ttl, "get_or_load", &key)?;
            Ok((key, ttl))
        });
        let (key, ttl) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "loading without the cache");
                self.inner.tallies.error();
                return self.timed(load()).await.map_err(Arc::new);
            }
        };
        let reachable = match self.fetch(&key).await {
            Ok(stored) => {
                if let Some(value) = self.judge(&key, stored, |stored| codec::decode_json(stored)) {
                    return Ok(value);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "loading without the cache");
                false
            }
        };
        loop {
            match self.inner.flights.join(&key) {
                Seat::Lead(lead) => return self.lead(lead, &key, ttl, reachable, load).await,
                Seat::Wait(wait) => match wait.landed().await {
                    State::Loaded(stored) => {
                        if let Some(value) = codec::decode_json(&stored) {
                            self.inner.tallies.shared_load();
                            return Ok(value);
                        }
                    }
                    State::Failed(error) => {
                        if let Ok(error) = error.downcast::<E>() {
                            self.inner.tallies.shared_load();
                            return Err(error);
                        }
                    }
                    State::Unshareable => {}
                    State::Abandoned | State::Loading => continue,
                },
            }
            // Someone loads another type under the same key, or a type that can't be stored.
            return self.timed(load()).await.map_err(Arc::new);
        }
    }

    async fn lead<T, E, F, Fut>(
        &self,
        lead: Lead,
        key: &str,
        ttl: Duration,
        reachable: bool,
        load: F,
    ) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        // Another load may have landed between this caller's read and its taking the lead.
        if reachable
            && let Ok(Some(stored)) = self.inner.adapter.get(key).await
            && let Some(value) = codec::decode_json(&stored)
        {
            lead.publish(State::Loaded(stored));
            return Ok(value);
        }
        let value = match self.timed(load()).await {
            Ok(value) => value,
            Err(error) => {
                let error = Arc::new(error);
                lead.publish(State::Failed(error.clone()));
                return Err(error);
            }
        };
        match codec::encode_json("get_or_load", key, &value) {
            Ok(stored) => {
                lead.publish(State::Loaded(stored.clone()));
                if !lead.superseded() {
                    if let Err(error) = self.inner.adapter.set(key, stored, ttl).await {
                        tracing::debug!(%error, "loaded value not stored");
                        self.inner.tallies.error();
                    }
                    // Written or deleted while this was being stored: which came last is not known, so neither stays.
                    if lead.superseded() {
                        let _ = self.inner.adapter.delete(key).await;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "loaded value can't be cached");
                self.inner.tallies.error();
                lead.publish(State::Unshareable);
            }
        }
        Ok(value)
    }

    /// The same cache with `name:` in front of every key. Scopes nest. `:` and `%` in the name are percent-encoded, so
    /// that two different names never share a key.
    pub fn scoped(&self, name: &str) -> Self {
        let name = name.replace('%', "%25").replace(':', "%3A");
        Self {
            inner: self.inner.clone(),
            prefix: format!("{}{name}:", self.prefix).into(),
        }
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

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner
            .adapter
            .get(key)
            .await
            .inspect_err(|_| self.inner.tallies.error())
    }

    async fn store(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.inner.flights.supersede(key);
        self.inner
            .adapter
            .set(key, value, ttl)
            .await
            .inspect_err(|_| self.inner.tallies.error())
    }

    fn judge<T>(&self, key: &str, stored: Option<Bytes>, decode: impl Fn(&Bytes) -> Option<T>) -> Option<T> {
        let Some(stored) = stored else {
            self.inner.tallies.miss();
            return None;
        };
        let value = decode(&stored);
        match value {
            Some(_) => self.inner.tallies.hit(),
            None => {
                tracing::debug!(key, "stored value is not of the wanted type");
                self.inner.tallies.decode_error();
            }
        }
        value
    }

    async fn timed<T, E>(&self, load: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = Instant::now();
        let result = load.await;
        self.inner.tallies.load(start.elapsed(), result.is_ok());
        result
    }

    fn full_key<'k>(&self, operation: &'static str, key: &'k str) -> Result<Cow<'k, str>> {
        if key.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                operation,
                &*self.prefix,
                "the key is empty",
            ));
        }
        if key.len() + self.prefix.len() > MAX_KEY {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                operation,
                key,
                "the key is longer than 64 KiB",
            ));
        }
        if self.prefix.is_empty() {
            return Ok(Cow::Borrowed(key));
        }
        Ok(Cow::Owned([&*self.prefix, key].concat()))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("adapter", &self.inner.adapter)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
