//! What is not there is loaded: once, for everyone who asks.

use std::any::Any;
use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::codec::{self, Dates};
use crate::error::Result;
use crate::fleet::Turn;
use crate::flight::{Lead, Seat, State};
use crate::options::LoadOptions;

/// After a refresh that failed, the next one for its key waits this long.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// What a load needs to know, with all defaults filled in.
struct Plan {
    ttl: Duration,
    absent_ttl: Duration,
    lease: Option<Duration>,
    fresh_for: Option<Duration>,
}

impl Cache {
    /// The value under `key`, or what `load` brings, which is then stored. `options` is a [`LoadOptions`], or simply a
    /// time to live.
    ///
    /// - Many callers in this process that miss the same key at once run **one** load between them. The others wait
    ///   for it and get a copy. [`LoadOptions::once_per_fleet`] makes it one in all processes.
    /// - The loader's error reaches everyone who waited and is not stored. It arrives in an [`Arc`] because it is
    ///   shared; an `Arc` of an error is an error, so `?` works. A panic of the loader is everyone's panic, too.
    /// - If the leading caller is dropped (a client that hung up), a waiter takes over with its own loader.
    /// - **The cache can't make this fail.** A store that does not answer is a miss; that costs at most the operation
    ///   timeout before the load and again after it, and nothing once the breaker is open.
    /// - To cache "there is none" as well, load an `Option<V>`; `None` lives for [`LoadOptions::absent_ttl`].
    ///
    /// The deadline of the load itself is the loader's business; waiters wait as long as it runs.
    ///
    /// # Panics
    ///
    /// If `load` panics, here or for the caller that led.
    pub async fn get_or_load<T, E, F, Fut>(
        &self,
        key: &str,
        options: impl Into<LoadOptions>,
        load: F,
    ) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if let Some(held) = self.peek(key)
            && let Some(value) = codec::decode_json(held.value())
        {
            self.inner.tallies.hit();
            return Ok(value);
        }
        let (full, plan) = match self.prepare(key, options.into(), None).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "loading without the cache");
                self.inner.tallies.error();
                return self.timed(load()).await.map_err(Arc::new);
            }
        };
        let (stored, reachable) = self.look(&full).await;
        match stored.and_then(|stored| self.judge_json(&full, stored)) {
            Some(value) => Ok(value),
            None => self.load(&full, &plan, reachable, load).await,
        }
    }

    /// [`get_or_load`](Self::get_or_load) and [`get_shared`](Self::get_shared) in one.
    ///
    /// # Panics
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_shared<T, E, F, Fut>(
        &self,
        key: &str,
        options: impl Into<LoadOptions>,
        load: F,
    ) -> Result<Arc<T>, Arc<E>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match self.peek_shared(key) {
            Some(value) => Ok(value),
            None => self.get_or_load(key, options, load).await.map(Arc::new),
        }
    }

    /// [`get_or_load`](Self::get_or_load) that serves a stale value while it loads a new one: for `fresh_for` (± 10 %)
    /// a value is simply answered; after that, until its time to live ends, it is still answered at once, and the first
    /// to ask has a new one loaded in the background. So nobody waits for a load but those who find nothing at all, and
    /// a loader that fails does no harm until the time to live ends; it is tried again every second.
    ///
    /// The longer the load takes, the earlier before `fresh_for` ends one of many callers may begin it. `load` is run
    /// in a task of its own then, so it must own what it uses.
    ///
    /// # Panics
    ///
    /// As [`get_or_load`](Self::get_or_load); a panic in the background is logged.
    pub async fn get_or_refresh<T, E, F, Fut>(
        &self,
        key: &str,
        fresh_for: Duration,
        options: impl Into<LoadOptions>,
        load: F,
    ) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let options = options.into();
        let peeked = self.peek(key).map(|held| held.value().clone());
        // A fresh value in memory needs no key and no plan.
        if let Some(stored) = &peeked
            && !codec::dates(stored).is_some_and(|dates| dates.is_due())
            && let Some(value) = codec::decode_json(stored)
        {
            self.inner.tallies.hit();
            return Ok(value);
        }
        let (full, plan) = match self.prepare(key, options, Some(fresh_for)).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "loading without the cache");
                self.inner.tallies.error();
                return self.timed(load()).await.map_err(Arc::new);
            }
        };
        let (stored, reachable) = match peeked {
            Some(stored) => (Some(Some(stored)), true),
            None => self.look(&full).await,
        };
        let Some(stored) = stored.flatten() else {
            if reachable {
                self.inner.tallies.miss();
            }
            return self.load(&full, &plan, reachable, load).await;
        };
        let Some(value) = self.judge_json(&full, Some(stored.clone())) else {
            return self.load(&full, &plan, reachable, load).await;
        };
        if codec::dates(&stored).is_some_and(|dates| dates.is_due()) {
            self.inner.tallies.stale_hit();
            if let Some(turn) = self.inner.refreshes.begin(&full) {
                let cache = self.clone();
                tokio::spawn(async move {
                    if !cache.refresh(&full, &plan, load).await {
                        tokio::time::sleep(REFRESH_PAUSE).await;
                    }
                    drop(turn);
                });
            }
        }
        Ok(value)
    }

    async fn prepare(
        &self,
        key: &str,
        options: LoadOptions,
        fresh_for: Option<Duration>,
    ) -> Result<(String, Plan)> {
        let ttl = self.resolve(options.ttl, "get_or_load", key)?;
        let absent_ttl = self.resolve(options.absent(ttl), "get_or_load", key)?;
        let fresh_for = match fresh_for {
            Some(fresh_for) => Some(self.resolve(fresh_for, "get_or_refresh", key)?),
            None => None,
        };
        let full = self.full_key("get_or_load", key, true).await?;
        Ok((
            full,
            Plan {
                ttl,
                absent_ttl,
                lease: options.lease,
                fresh_for,
            },
        ))
    }

    /// What the store has under `key`, and whether it could be asked.
    async fn look(&self, key: &str) -> (Option<Option<Bytes>>, bool) {
        match self.fetch(key).await {
            Ok(stored) => (Some(stored), true),
            Err(error) => {
                tracing::debug!(%error, "loading without the cache");
                (None, false)
            }
        }
    }

    async fn load<T, E, F, Fut>(&self, key: &str, plan: &Plan, reachable: bool, load: F) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            match self.inner.flights.join(key) {
                Seat::Lead(lead) => return self.lead(lead, key, plan, reachable, load).await,
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
                    State::Panicked(message) => panic!("the loader of cache key {key:?} panicked: {message}"),
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
        plan: &Plan,
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
        // Given back when this function ends, with the value stored or without.
        let _lease = match plan.lease {
            Some(lease) if reachable => match self.fleet_turn(key, lease).await {
                Turn::Found(stored) => match codec::decode_json(&stored) {
                    Some(value) => {
                        lead.publish(State::Loaded(stored));
                        self.inner.tallies.shared_load();
                        return Ok(value);
                    }
                    None => None,
                },
                Turn::Mine(lease) => Some(lease),
                Turn::Alone => None,
            },
            _ => None,
        };
        match self.run(&lead, key, plan, load).await {
            Loaded::Value(value) => Ok(value),
            Loaded::Error(error) => Err(error),
            Loaded::Panic(panic) => resume_unwind(panic),
        }
    }

    /// Runs the loader, tells those who wait for it, and stores what it brought.
    async fn run<T, E, F, Fut>(&self, lead: &Lead, key: &str, plan: &Plan, load: F) -> Loaded<T, E>
    where
        T: Serialize,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let start = Instant::now();
        let value = match AssertUnwindSafe(self.timed(async { load().await }))
            .catch_unwind()
            .await
        {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => {
                let error = Arc::new(error);
                lead.publish(State::Failed(error.clone()));
                return Loaded::Error(error);
            }
            Err(panic) => {
                lead.publish(State::Panicked(message_of(&*panic).into()));
                return Loaded::Panic(panic);
            }
        };
        let dates = plan
            .fresh_for
            .map(|fresh_for| Dates::new(fresh_for, start.elapsed()));
        match codec::encode_json("get_or_load", key, &value, dates) {
            Ok(stored) => {
                lead.publish(State::Loaded(stored.clone()));
                self.keep(lead, key, plan, stored).await;
            }
            Err(error) => {
                tracing::warn!(%error, "loaded value can't be cached");
                self.inner.tallies.error();
                lead.publish(State::Unshareable);
            }
        }
        Loaded::Value(value)
    }

    async fn keep(&self, lead: &Lead, key: &str, plan: &Plan, stored: Bytes) {
        if lead.superseded() {
            return;
        }
        let ttl = if codec::is_absent(&stored) {
            plan.absent_ttl
        } else {
            plan.ttl
        };
        if let Err(error) = self.counted(self.inner.adapter.set(key, stored, ttl).await) {
            tracing::debug!(%error, "loaded value not stored");
        }
        // Written or deleted while this was being stored: which came last is not known, so neither stays.
        if lead.superseded() {
            let _ = self.inner.adapter.delete(key).await;
        }
    }

    /// Loads a new value in the background; `false` if that failed.
    async fn refresh<T, E, F, Fut>(&self, key: &str, plan: &Plan, load: F) -> bool
    where
        T: Serialize,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        // Someone who found nothing is loading already.
        let Seat::Lead(lead) = self.inner.flights.join(key) else {
            return true;
        };
        let _lease = match plan.lease {
            Some(lease) => match self.fleet_lease(key, lease).await {
                // Another instance is at it; its value will be found here soon enough.
                Ok(None) => return true,
                Ok(lease) => lease,
                Err(_) => None,
            },
            None => None,
        };
        match self.run(&lead, key, plan, load).await {
            Loaded::Value(_) => true,
            Loaded::Error(_) => {
                tracing::debug!(key, "stale value not refreshed: the loader failed");
                false
            }
            Loaded::Panic(panic) => {
                tracing::error!(
                    key,
                    message = message_of(&*panic),
                    "stale value not refreshed: the loader panicked"
                );
                false
            }
        }
    }

    async fn timed<T, E>(&self, load: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = Instant::now();
        let result = load.await;
        self.inner.tallies.load(start.elapsed(), result.is_ok());
        result
    }
}

enum Loaded<T, E> {
    Value(T),
    Error(Arc<E>),
    Panic(Box<dyn Any + Send>),
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// The keys that are being refreshed in the background.
#[derive(Debug, Default)]
pub(crate) struct Refreshes {
    keys: Mutex<HashSet<String>>,
}

/// Lets the next refresh of its key begin when it is dropped.
pub(crate) struct Refresh {
    all: Arc<Refreshes>,
    key: String,
}

impl Refreshes {
    fn begin(self: &Arc<Self>, key: &str) -> Option<Refresh> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let free = keys.insert(key.to_owned());
        free.then(|| Refresh {
            all: self.clone(),
            key: key.to_owned(),
        })
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.all
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
