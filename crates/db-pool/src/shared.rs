use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{Object, Pool, PoolError, Timeouts};

use crate::conn::Conn;
use crate::dialer::Dialer;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::gate::{Gate, Pass};
use crate::lane::ParameterTypes;
use crate::loans::Loans;
use crate::manager::{DEADLINE, Manager};
use crate::metrics::Instruments;
use crate::replica::Replica;
use crate::roles::Roles;
use crate::scope::Scope;
use crate::sizing::Sizing;

/// A connection idle for longer is tested before it is handed out. Testing every time costs half the throughput.
const TESTED_AFTER: Duration = Duration::from_secs(1);
/// How long such a test may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadlines from here on are looked at four times a second by one task for all ([`watch`](crate::watch)); a timer for
/// each costs as much as the rest of the checkout.
const WATCHED_FROM: Duration = Duration::from_secs(2);
/// Microseconds between two notes that connections come back in working order.
const WELL_EVERY: u64 = 10_000;
/// The gate has let the caller in, so that the pool beneath has nothing to wait for.
const AT_ONCE: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};

/// What all handles of a pool have in common.
pub(crate) struct Shared {
    pub(crate) pool: Pool<Manager>,
    pub(crate) gate: Gate,
    /// Where requests go.
    pub(crate) dialer: Arc<Dialer>,
    /// Where migrations, sessions and LISTEN go; the same unless there is a pooler.
    pub(crate) direct: Option<Arc<Dialer>>,
    /// Where reading may go instead.
    pub(crate) replica: Option<Replica>,
    pub(crate) limits: Limits,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) loans: Arc<Loans>,
    pub(crate) types: ParameterTypes,
    pub(crate) roles: Roles,
    pub(crate) sizing: Sizing,
    pub(crate) scopes: Scopes,
    pub(crate) epoch: Instant,
    /// Microseconds after `epoch` when a connection last came back in working order; 0: never.
    pub(crate) well_at: AtomicU64,
    /// Microseconds after `epoch`: connections given back before then are not even tested, because one of them failed
    /// its test. Otherwise a dead peer costs a test's timeout for every idle connection.
    pub(crate) distrusted_before: AtomicU64,
    pub(crate) keeps_house: AtomicBool,
}

/// What was configured.
pub(crate) struct Limits {
    pub(crate) acquire_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) min_idle: usize,
    pub(crate) leak_after: Duration,
    pub(crate) slow_query: Duration,
}

type Key = (Option<String>, bool);

/// The schemas handles were made for.
#[derive(Default)]
pub(crate) struct Scopes {
    /// By schema, and whether it is for reading only.
    known: Mutex<HashMap<Key, Arc<Scope>>>,
    last: AtomicU32,
}

impl Scopes {
    /// A number no scope had before.
    pub(crate) fn next(&self) -> u32 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn get(&self, schema: Option<&str>, read_only: bool, roles: &Roles) -> Arc<Scope> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (schema.map(str::to_owned), read_only);
        let make = || {
            let role = schema.and_then(|schema| roles.name_for(schema));
            Scope::of(self.next(), schema, role, read_only)
        };
        Arc::clone(known.entry(key).or_insert_with(make))
    }

    /// Those of one schema.
    pub(crate) fn of_schema(&self, schema: &str) -> Vec<Arc<Scope>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |scope: &&Arc<Scope>| scope.schema.as_deref() == Some(schema);
        known.values().filter(same).cloned().collect()
    }

    pub(crate) fn schema(&self, id: u32) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = known.values().find(|scope| scope.id() == id)?;
        scope.schema.clone()
    }
}

impl Shared {
    /// The direct address, for what needs a session.
    pub(crate) fn direct(&self, operation: &'static str) -> Result<&Arc<Dialer>> {
        self.direct.as_ref().ok_or_else(|| {
            let reason =
                "it needs a session of its own, and only DATABASE_POOLED_URL is set: set DATABASE_URL too";
            Error::new(ErrorKind::Unsupported, operation, &self.dialer.subject, reason)
        })
    }

    fn micros(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX).max(1)
    }

    fn last_well(&self) -> Option<Instant> {
        match self.well_at.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.epoch + Duration::from_micros(micros)),
        }
    }

    /// A connection, and since when it is in the caller's hands.
    pub(crate) async fn acquire(&self) -> Result<(Object<Manager>, Instant)> {
        let started = Instant::now();
        match self.obtain(started, self.limits.acquire_timeout).await {
            Ok(object) => {
                let taken = Instant::now();
                self.instruments.acquired(taken - started);
                Ok((object, taken))
            }
            Err(error) => {
                self.instruments.not_acquired(&error);
                Err(error)
            }
        }
    }

    pub(crate) async fn obtain(&self, started: Instant, patience: Duration) -> Result<Object<Manager>> {
        // Mostly nobody waits and a connection is idle: no timer, no watch on the breaker.
        if let Some(pass) = self.gate.try_enter()
            && let Some(object) = self.idle(started, None).await?
        {
            pass.keep();
            return Ok(object);
        }
        let deadline = started + patience;
        let watched = patience >= WATCHED_FROM;
        tokio::select! {
            biased;
            result = self.wait(deadline, watched) => result,
            // Polled only while there is nothing to hand out.
            cause = self.dialer.breaker.gives_up(started, watched.then_some(deadline), || self.last_well()) => {
                Err(cause.map_or_else(|| self.saturated(), |cause| cause.doing("get a connection")))
            }
        }
    }

    /// `watched`: somebody else sees to the deadline while we wait for others.
    async fn wait(&self, deadline: Instant, watched: bool) -> Result<Object<Manager>> {
        let mut refusals = 0;
        loop {
            let pass = self.pass(deadline, watched).await?;
            if let Some(object) = self.idle(Instant::now(), Some(deadline)).await? {
                pass.keep();
                return Ok(object);
            }
            let error = match DEADLINE.scope(deadline, self.pool.timeout_get(&AT_ONCE)).await {
                Ok(object) => {
                    pass.keep();
                    return Ok(object);
                }
                Err(PoolError::Closed) => return Err(self.closed()),
                Err(PoolError::Backend(error)) => error,
                Err(_) => return Err(self.saturated()),
            };
            if error.kind() == ErrorKind::TooManyConnections {
                self.refused();
            } else if !may_pass(&error) {
                return Err(error);
            }
            // Without the pass in hand, so that a connection given back meanwhile finds a caller.
            drop(pass);
            let pause = Duration::from_millis(2 + fastrand::u64(..16 << u32::min(refusals, 4)));
            refusals += 1;
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn pass(&self, deadline: Instant, watched: bool) -> Result<Pass<'_>> {
        match self.gate.try_enter() {
            Some(pass) => Ok(pass),
            None if watched => self.gate.enter().await.ok_or_else(|| self.closed()),
            None => match tokio::time::timeout_at(deadline.into(), self.gate.enter()).await {
                Ok(Some(pass)) => Ok(pass),
                Ok(None) => Err(self.closed()),
                Err(_) => Err(self.saturated()),
            },
        }
    }

    /// An idle connection that works, if there is one. The caller has a pass. One that sat idle for long is tested if
    /// there is a deadline for that, and otherwise left alone.
    async fn idle(&self, now: Instant, deadline: Option<Instant>) -> Result<Option<Object<Manager>>> {
        loop {
            let object = match self.pool.timeout_get(&AT_ONCE).await {
                Ok(object) => object,
                Err(PoolError::Closed) => return Err(self.closed()),
                Err(_) => return Ok(None),
            };
            let unfit = match (self.judge(&object, now), deadline) {
                (Fitness::Fit, _) => return Ok(Some(object)),
                (Fitness::Unfit(reason), _) => reason,
                (Fitness::Doubtful, None) => return Ok(None),
                (Fitness::Doubtful, Some(deadline)) => {
                    let left = deadline
                        .saturating_duration_since(Instant::now())
                        .min(TEST_TIMEOUT);
                    match tokio::time::timeout(left, object.client.check_connection()).await {
                        Ok(Ok(())) => return Ok(Some(object)),
                        _ => {
                            let now = self.micros(Instant::now());
                            self.distrusted_before.store(now, Ordering::Relaxed);
                            "failed_test"
                        }
                    }
                }
            };
            self.instruments.discarded(unfit);
            drop(Object::take(object));
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let (operation, subject) = ("get a connection", &self.dialer.subject);
                let reason = "connections that sat idle did not answer";
                return Err(Error::timeout(operation, subject, Phase::Recycling, reason)
                    .after(self.dialer.breaker.cause()));
            }
        }
    }

    fn judge(&self, conn: &Conn, now: Instant) -> Fitness {
        if !conn.is_usable() {
            Fitness::Unfit("closed")
        } else if conn.has_lived(now) {
            Fitness::Unfit("lifetime")
        } else if now.saturating_duration_since(conn.returned) < TESTED_AFTER {
            Fitness::Fit
        } else if self.micros(conn.returned) < self.distrusted_before.load(Ordering::Relaxed) {
            Fitness::Unfit("distrusted")
        } else {
            Fitness::Doubtful
        }
    }

    /// Takes back a connection that is fit for the next caller.
    pub(crate) fn give_back(&self, mut object: Object<Manager>, now: Instant) {
        if self.gate.is_over() {
            return self.close(object, "surplus");
        }
        object.side.slot.close();
        object.returned = now;
        let (well, now) = (self.well_at.load(Ordering::Relaxed), self.micros(now));
        // Seldom, because everybody reads what lies beside it.
        if now >= well + WELL_EVERY {
            self.well_at.store(now, Ordering::Relaxed);
        }
        drop(object);
        self.gate.leave();
    }

    /// Takes back a connection that is not.
    pub(crate) fn close(&self, object: Object<Manager>, reason: &'static str) {
        self.instruments.discarded(reason);
        object.side.slot.close();
        drop(Object::take(object));
        self.gate.leave();
    }

    /// Closes idle connections beyond the limit, the coldest first.
    pub(crate) fn close_surplus(&self) {
        let status = self.pool.status();
        let mut surplus = status.size.saturating_sub(self.gate.limit());
        let kept = self.pool.retain(|_, _| {
            let keep = surplus == 0;
            surplus = surplus.saturating_sub(1);
            keep
        });
        // Closing sends a message each; the pool is not locked any more.
        drop(kept);
    }

    fn saturated(&self) -> Error {
        let mut reason = format!(
            "{} of {} connections are in use and {} callers wait",
            self.loans.count(),
            self.gate.limit(),
            self.gate.waiting()
        );
        if self.sizing.was_refused() {
            reason.push_str("; the server has refused more (53300)");
        }
        Error::timeout("get a connection", &self.dialer.subject, Phase::Waiting, reason)
            .after(self.dialer.breaker.cause())
    }

    pub(crate) fn closed(&self) -> Error {
        let reason = "the pool was drained";
        Error::new(
            ErrorKind::Closed,
            "get a connection",
            &self.dialer.subject,
            reason,
        )
    }
}

enum Fitness {
    Fit,
    /// It sat idle for so long that it may be dead without our knowing.
    Doubtful,
    Unfit(&'static str),
}

fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::TooManyConnections | ErrorKind::Disconnected
    )
}
