use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram};

use crate::adapter::{AdapterStats, CacheAdapter, Entry, Held, NewEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::tally::Timing;

/// How patient a [`Guard`] is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuardSettings {
    /// The longest any call waits. Default: 100 ms.
    pub timeout: Duration,
    /// This many failures in a row open the breaker. Default: 5.
    pub failures: u32,
    /// So does a row of at least two failures that lasts this long. Default: 1 s.
    pub failing_for: Duration,
    /// How often an open breaker looks whether the server is back. Default: 500 ms (± 20 %).
    pub probe_every: Duration,
    /// The longest such a look may take, dialling included. Default: 2 s.
    pub probe_timeout: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(100),
            failures: 5,
            failing_for: Duration::from_secs(1),
            probe_every: Duration::from_millis(500),
            probe_timeout: Duration::from_secs(2),
        }
    }
}

/// An adapter around an adapter: cuts every call off at the timeout, and stops calling a server that does not answer.
///
/// While the breaker is open, calls fail at once with [`ErrorKind::Unavailable`] and a background task asks the
/// adapter's [`check`](CacheAdapter::check) for a sign of life; the first success closes the breaker. No caller's
/// call is spent on probing. The task ends with the guard.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn CacheAdapter>,
    settings: GuardSettings,
    started: Instant,
    open: AtomicBool,
    /// Failures since the last success.
    failures: AtomicU32,
    /// When the first of them was, in milliseconds after `started`.
    failing_since: AtomicU64,
    /// Why the breaker opened, for the errors it answers with.
    cause: Mutex<String>,
    instruments: Instruments,
}

impl Guard {
    /// Puts a guard around `inner`.
    pub fn new(inner: Arc<dyn CacheAdapter>, settings: GuardSettings) -> Self {
        let instruments = Instruments::new(inner.name());
        Self {
            shared: Arc::new(Shared {
                inner,
                settings,
                started: Instant::now(),
                open: AtomicBool::new(false),
                failures: AtomicU32::new(0),
                failing_since: AtomicU64::new(0),
                cause: Mutex::new(String::new()),
                instruments,
            }),
        }
    }

    async fn run<T>(
        &self,
        operation: Operation,
        key: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let shared = &self.shared;
        let instruments = &shared.instruments.of[operation as usize];
        if shared.open.load(Ordering::Acquire) {
            instruments.refused.increment(1);
            return Err(shared.refusal(operation, key));
        }
        let start = Instant::now();
        let until = (start + shared.settings.timeout).into();
        let result = match tokio::time::timeout_at(until, call).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("no answer within {:?}", shared.settings.timeout);
                Err(Error::new(ErrorKind::Timeout, operation.name(), key, reason))
            }
        };
        let took = start.elapsed();
        match &result {
            Ok(_) => {
                instruments.ok.record(took);
                shared.succeeded();
            }
            Err(error) => {
                instruments.seconds.record(took.as_secs_f64());
                if error.is_unavailable() {
                    instruments.unavailable.increment(1);
                    shared.failed(error);
                } else {
                    instruments.error.increment(1);
                    shared.succeeded();
                }
            }
        }
        result
    }
}

impl Shared {
    fn refusal(&self, operation: Operation, key: &str) -> Error {
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = format!(
            "{} is out of reach, not asked again yet ({cause})",
            self.inner.name()
        );
        Error::new(ErrorKind::Unavailable, operation.name(), key, reason)
    }

    fn succeeded(&self) {
        // Read first: in the usual case nobody writes, and the cache line stays shared between the cores.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn failed(self: &Arc<Self>, error: &Error) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures == 1 {
            self.failing_since.store(now, Ordering::Relaxed);
        }
        let failing_for =
            Duration::from_millis(now.saturating_sub(self.failing_since.load(Ordering::Relaxed)));
        let enough =
            failures >= self.settings.failures || (failures >= 2 && failing_for >= self.settings.failing_for);
        if enough && !self.open.swap(true, Ordering::AcqRel) {
            self.opened(error);
        }
    }

    fn opened(self: &Arc<Self>, error: &Error) {
        let cause = format!("{}: {error}", error.kind().as_str());
        tracing::warn!(
            store = self.inner.name(),
            cause,
            "cache server out of reach: calls to it are suspended"
        );
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = error.kind().as_str().to_owned();
        self.instruments.breaker_open.set(1.0);
        tokio::spawn(probe(Arc::downgrade(self)));
    }

    fn closed(&self, after: Duration) {
        self.failures.store(0, Ordering::Relaxed);
        self.open.store(false, Ordering::Release);
        self.instruments.breaker_open.set(0.0);
        tracing::info!(
            store = self.inner.name(),
            after_ms = after.as_millis() as u64,
            "cache server is back"
        );
    }
}

/// Looks for the server until it answers or nobody holds the guard any more.
async fn probe(guard: Weak<Shared>) {
    let since = Instant::now();
    loop {
        let Some(every) = guard.upgrade().map(|shared| shared.settings.probe_every) else {
            return;
        };
        tokio::time::sleep(every.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        let Some(shared) = guard.upgrade() else { return };
        match tokio::time::timeout(shared.settings.probe_timeout, shared.inner.check()).await {
            Ok(Ok(())) => return shared.closed(since.elapsed()),
            Ok(Err(error)) => {
                tracing::debug!(store = shared.inner.name(), %error, "cache server is still away")
            }
            Err(_) => tracing::debug!(
                store = shared.inner.name(),
                "cache server is still away: no answer"
            ),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    GetMany,
    Set,
    SetMany,
    Delete,
    Expiry,
    Increment,
    Lock,
    Check,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::Get,
        Self::GetMany,
        Self::Set,
        Self::SetMany,
        Self::Delete,
        Self::Expiry,
        Self::Increment,
        Self::Lock,
        Self::Check,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::Delete => "delete",
            Self::Expiry => "expiry",
            Self::Increment => "increment",
            Self::Lock => "lock",
            Self::Check => "check",
        }
    }
}

struct Instruments {
    of: [OperationInstruments; Operation::ALL.len()],
    breaker_open: Gauge,
}

struct OperationInstruments {
    ok: Timing,
    error: Counter,
    unavailable: Counter,
    refused: Counter,
    seconds: Histogram,
}

impl Instruments {
    fn new(store: &'static str) -> Self {
        let of = Operation::ALL.map(|operation| {
            let name = operation.name();
            let count = |outcome: &'static str| {
                metrics::counter!(
                    "zhuji_cache_operations_total",
                    "store" => store, "operation" => name, "outcome" => outcome
                )
            };
            let seconds = metrics::histogram!(
                "zhuji_cache_operation_seconds", "store" => store, "operation" => name
            );
            OperationInstruments {
                ok: Timing::new(count("ok"), seconds.clone()),
                error: count("error"),
                unavailable: count("unavailable"),
                refused: count("breaker_open"),
                seconds,
            }
        });
        let breaker_open = metrics::gauge!("zhuji_cache_breaker_open", "store" => store);
        breaker_open.set(0.0);
        Self { of, breaker_open }
    }
}

#[async_trait]
impl CacheAdapter for Guard {
    fn name(&self) -> &'static str {
        self.shared.inner.name()
    }

    fn peek(&self, key: &str) -> Option<Held> {
        self.shared.inner.peek(key)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.run(Operation::Get, key, self.shared.inner.get(key)).await
    }

    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        self.run(Operation::Get, key, self.shared.inner.get_entry(key))
            .await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.run(Operation::GetMany, first(keys), self.shared.inner.get_many(keys))
            .await
    }

    async fn get_entries(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        self.run(
            Operation::GetMany,
            first(keys),
            self.shared.inner.get_entries(keys),
        )
        .await
    }

    async fn get_or_insert(&self, key: &str, value: Bytes, ttl: Duration) -> Result<Bytes> {
        self.run(
            Operation::Set,
            key,
            self.shared.inner.get_or_insert(key, value, ttl),
        )
        .await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.run(Operation::Set, key, self.shared.inner.set(key, value, ttl))
            .await
    }

    async fn set_many(&self, entries: &[NewEntry]) -> Result<()> {
        let key = entries.first().map_or("", |entry| &entry.key);
        self.run(Operation::SetMany, key, self.shared.inner.set_many(entries))
            .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.run(Operation::Delete, key, self.shared.inner.delete(key))
            .await
    }

    async fn expires_in(&self, key: &str) -> Result<Option<Duration>> {
        self.run(Operation::Expiry, key, self.shared.inner.expires_in(key))
            .await
    }

    async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        self.run(Operation::Expiry, key, self.shared.inner.touch(key, ttl))
            .await
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        self.run(
            Operation::Increment,
            key,
            self.shared.inner.increment(key, delta, ttl),
        )
        .await
    }

    async fn lock(&self, key: &str, token: &str, ttl: Duration) -> Result<Option<u64>> {
        self.run(Operation::Lock, key, self.shared.inner.lock(key, token, ttl))
            .await
    }

    async fn extend_lock(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.run(
            Operation::Lock,
            key,
            self.shared.inner.extend_lock(key, token, ttl),
        )
        .await
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        self.run(Operation::Lock, key, self.shared.inner.unlock(key, token))
            .await
    }

    async fn check(&self) -> Result<()> {
        self.run(Operation::Check, self.name(), self.shared.inner.check())
            .await
    }

    fn epoch(&self) -> u64 {
        self.shared.inner.epoch()
    }

    fn stats(&self) -> AdapterStats {
        self.shared
            .instruments
            .of
            .iter()
            .for_each(|operation| operation.ok.flush());
        AdapterStats {
            breaker_open: self.shared.open.load(Ordering::Acquire),
            ..self.shared.inner.stats()
        }
    }
}

fn first<'k>(keys: &[&'k str]) -> &'k str {
    keys.first().copied().unwrap_or_default()
}
