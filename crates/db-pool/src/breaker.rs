use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};

/// How long callers are held back while the server may be only restarting.
const GRACE: Duration = Duration::from_secs(1);
/// A failure older than this says nothing about now.
const STALE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Short enough that a server that is back is found within a third of a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// For what somebody has to mend first: a wrong password may lock the account if it is tried too often.
const LONGEST_PAUSE_PERMANENT: Duration = Duration::from_secs(1);

/// Remembers that the server could not be reached, spaces out the attempts, and says when callers should stop waiting.
///
/// Attempts are made by callers and never by a timer, so a process nobody calls leaves the server alone.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open: Mutex<Option<Open>>,
    /// Whether there is something in `open`, for the many who ask while all is well.
    is_open: AtomicBool,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Open {
    since: Instant,
    last: Instant,
    retry_at: Instant,
    failures: u32,
    cause: Error,
}

impl Open {
    fn is_permanent(&self) -> bool {
        matches!(
            self.cause.kind(),
            ErrorKind::Auth | ErrorKind::Tls | ErrorKind::Config
        )
    }

    /// When a caller that came at `started` should be told. `None`: others will give connections back, so wait.
    fn give_up_at(&self, started: Instant, alive: Option<Instant>) -> Option<Instant> {
        if self.cause.kind() == ErrorKind::TooManyConnections {
            return None;
        }
        let fresh = self.last + STALE >= started;
        if self.is_permanent() {
            // The next attempt decides.
            return Some(if fresh { self.last } else { started + GRACE });
        }
        // A connection came back in working order since: the trouble is with new ones only.
        let some_work = alive.is_some_and(|alive| alive > self.since && alive + STALE >= started);
        Some(if fresh && !some_work {
            self.since + GRACE
        } else {
            started + GRACE
        })
    }
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt failed. No other is made before a random part of the pause has passed.
    pub(crate) fn failed(&self, cause: &Error) {
        let now = Instant::now();
        let mut open = self.lock();
        let (since, failures) = open.as_ref().map_or((now, 0), |open| (open.since, open.failures));
        let mut next = Open {
            since,
            last: now,
            retry_at: now,
            failures: failures.saturating_add(1),
            cause: cause.clone(),
        };
        let longest = if next.is_permanent() {
            LONGEST_PAUSE_PERMANENT
        } else {
            LONGEST_PAUSE
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(longest);
        next.retry_at = now + pause.mul_f64(fastrand::f64()).max(Duration::from_millis(2));
        *open = Some(next);
        self.is_open.store(true, Ordering::Release);
        drop(open);
        self.changed.notify_waiters();
    }

    /// An attempt went well.
    pub(crate) fn succeeded(&self) {
        let mut open = self.lock();
        let was_open = open.take();
        self.is_open.store(false, Ordering::Release);
        drop(open);
        if let Some(open) = was_open {
            tracing::info!(
                failures = open.failures,
                seconds = open.since.elapsed().as_secs_f64(),
                "the database is reachable again"
            );
            self.changed.notify_waiters();
        }
    }

    /// When the next attempt may be made; `None`: at once.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.lock()
            .as_ref()
            .map(|open| open.retry_at)
            .filter(|at| *at > Instant::now())
    }

    /// Why the last attempt failed, if none went well since.
    pub(crate) fn cause(&self) -> Option<Error> {
        self.lock().as_ref().map(|open| open.cause.clone())
    }

    /// Makes all who wait look at the time: see [`gives_up`](Self::gives_up).
    pub(crate) fn tick(&self) {
        self.changed.notify_waiters();
    }

    /// Ends when a caller that came at `started` should stop waiting, with the cause; without one when its `deadline`
    /// has passed, which is looked at with every [`tick`](Self::tick). `alive` tells when a connection was last given
    /// back in working order.
    pub(crate) async fn gives_up(
        &self,
        started: Instant,
        deadline: Option<Instant>,
        alive: impl Fn() -> Option<Instant>,
    ) -> Option<Error> {
        // Whoever waits has just come: no look at the clock before the first tick.
        let mut ticked = false;
        loop {
            let changed = self.changed.notified();
            if ticked && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            ticked = true;
            let state = match self.is_open.load(Ordering::Acquire) {
                true => self.lock().clone(),
                false => None,
            };
            let at = state.as_ref().and_then(|open| open.give_up_at(started, alive()));
            match (state, at) {
                (Some(open), Some(at)) if at <= Instant::now() => return Some(open.cause),
                (_, Some(at)) => {
                    // Whichever comes first; then look again.
                    let _ = tokio::time::timeout_at(at.into(), changed).await;
                }
                _ => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(kind: ErrorKind) -> Error {
        Error::new(kind, "connect", "database", "no")
    }

    #[tokio::test]
    async fn callers_are_held_for_the_grace_and_then_told_at_once() {
        let breaker = Breaker::default();
        breaker.failed(&cause(ErrorKind::Unreachable));
        let first = Instant::now();
        assert_eq!(
            breaker
                .gives_up(first, None, || None)
                .await
                .map(|cause| cause.kind()),
            Some(ErrorKind::Unreachable)
        );
        assert!(
            first.elapsed() >= Duration::from_millis(900),
            "{:?}",
            first.elapsed()
        );
        breaker.failed(&cause(ErrorKind::Unreachable));
        let second = Instant::now();
        breaker.gives_up(second, None, || None).await;
        assert!(second.elapsed() < Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_at_once() {
        let breaker = Breaker::default();
        breaker.failed(&cause(ErrorKind::Auth));
        let started = Instant::now();
        breaker.gives_up(started, None, || None).await;
        assert!(started.elapsed() < Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_full_server_makes_callers_wait() {
        let breaker = Breaker::default();
        breaker.failed(&cause(ErrorKind::TooManyConnections));
        let waited = tokio::time::timeout(
            Duration::from_millis(50),
            breaker.gives_up(Instant::now(), None, || None),
        )
        .await;
        assert!(waited.is_err());
    }

    #[test]
    fn pauses_grow_and_stay_below_the_longest() {
        let breaker = Breaker::default();
        for _ in 0..40 {
            breaker.failed(&cause(ErrorKind::Unreachable));
            let pause = breaker
                .retry_at()
                .map(|at| at - Instant::now())
                .unwrap_or_default();
            assert!(pause <= LONGEST_PAUSE);
        }
        breaker.succeeded();
        assert!(breaker.retry_at().is_none() && breaker.cause().is_none());
    }
}
