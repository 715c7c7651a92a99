//! One connection that is made when it is first needed and again when it is lost, by one dialler at a time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::dial::{DialError, Dialer, Wire};
use crate::error::ErrorKind;

/// The connection that all commands share.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Arc<Dialer>,
    /// A connection that lets this long pass without any answer to anything is taken for dead.
    silence: Duration,
    current: ArcSwapOption<Live>,
    dialling: Mutex<Dialling>,
}

/// A connection in use.
pub(crate) struct Live {
    wire: Wire,
    asked: AtomicU64,
    answered: AtomicU64,
}

type Outcome = Result<Arc<Live>, DialError>;

enum Dialling {
    /// Nobody dials; after failures, nobody but a probe may before a moment.
    Idle {
        backoff: Backoff,
        last: Option<(Instant, DialError)>,
    },
    UnderWay {
        result: watch::Receiver<Option<Outcome>>,
        backoff: Backoff,
    },
}

impl Live {
    /// A handle for one command; count it with [`asked`](Self::asked) and [`answered`](Self::answered).
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.wire.connection.clone()
    }

    pub(crate) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}

impl Link {
    /// `silence` is how long a connection may leave everything unanswered. Connects to nothing yet.
    pub(crate) fn new(dialer: Arc<Dialer>, silence: Duration) -> Self {
        let idle = Dialling::Idle {
            backoff: Backoff::default(),
            last: None,
        };
        let shared = Shared {
            dialer,
            silence,
            current: ArcSwapOption::empty(),
            dialling: Mutex::new(idle),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The connection, dialled if there is none. While the server refuses connections, most calls fail at once with
    /// the reason of the last attempt. `probe` dials in any case.
    ///
    /// Safe to cancel: the dialling goes on and the next call finds its result.
    pub(crate) async fn live(&self, probe: bool) -> Outcome {
        if let Some(live) = self.shared.current.load_full() {
            return Ok(live);
        }
        let mut result = match self.shared.join(probe) {
            Ok(result) => result,
            Err(outcome) => return outcome,
        };
        // An error means that the dialling task is gone, which only a runtime that shuts down does.
        let outcome = result
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            Err(DialError {
                kind: ErrorKind::Unavailable,
                reason: format!("dialling {} was given up", self.shared.dialer.place()),
                source: None,
            })
        })
    }

    /// `live` is of no use any more: what waits for it fails, and the next call dials.
    pub(crate) fn lost(&self, live: &Arc<Live>) {
        self.shared.lost(live);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Dialling> {
        // Every change under the lock is one assignment, so a poisoned lock is as good as a whole one.
        self.dialling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, probe: bool) -> Result<watch::Receiver<Option<Outcome>>, Outcome> {
        let mut dialling = self.lock();
        // It may have been made between the caller's look and the lock.
        if let Some(live) = self.current.load_full() {
            return Err(Ok(live));
        }
        let backoff = match &*dialling {
            Dialling::UnderWay { result, .. } if result.has_changed().is_ok() => return Ok(result.clone()),
            Dialling::UnderWay { backoff, .. } => *backoff,
            Dialling::Idle {
                last: Some((not_before, error)),
                ..
            } if !probe && Instant::now() < *not_before => {
                return Err(Err(error.clone()));
            }
            Dialling::Idle { backoff, .. } => *backoff,
        };
        let (sender, result) = watch::channel(None);
        *dialling = Dialling::UnderWay {
            result: result.clone(),
            backoff,
        };
        drop(dialling);
        tokio::spawn(dial(self.clone(), sender, backoff));
        Ok(result)
    }

    fn lost(&self, live: &Arc<Live>) {
        let current = self.current.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            self.current.compare_and_swap(&current, None);
        }
        // Whoever still waits for an answer on it has waited long enough.
        live.wire.cut();
    }
}

async fn dial(shared: Arc<Shared>, result: watch::Sender<Option<Outcome>>, mut backoff: Backoff) {
    let outcome = match shared.dialer.dial().await {
        Ok(wire) => {
            let live = Arc::new(Live {
                wire,
                asked: AtomicU64::new(0),
                answered: AtomicU64::new(0),
            });
            tokio::spawn(watch_over(Arc::downgrade(&shared), Arc::downgrade(&live)));
            Ok(live)
        }
        Err(error) => Err(error),
    };
    {
        let mut dialling = shared.lock();
        let last = match &outcome {
            Ok(live) => {
                shared.current.store(Some(live.clone()));
                backoff = Backoff::default();
                None
            }
            Err(error) => {
                tracing::debug!(server = %shared.dialer.place(), reason = error.reason, "no connection");
                Some((Instant::now() + backoff.next(), error.clone()))
            }
        };
        *dialling = Dialling::Idle { backoff, last };
    }
    let _ = result.send(Some(outcome));
}

/// A peer that is gone without a word answers nothing and closes nothing. Callers have limits of their own, so nobody
/// waits for it; but someone must give the connection up, or it would be used for ever. Costs a caller two counters
/// instead of a timer.
async fn watch_over(link: Weak<Shared>, live: Weak<Live>) {
    let Some(silence) = link.upgrade().map(|link| link.silence) else {
        return;
    };
    let mut before = (0, 0);
    loop {
        tokio::time::sleep(silence).await;
        let (Some(link), Some(live)) = (link.upgrade(), live.upgrade()) else {
            return;
        };
        let now = (
            live.asked.load(Ordering::Relaxed),
            live.answered.load(Ordering::Relaxed),
        );
        // Asked and not answered: silence, or all askers have hung up. A ping tells.
        if now.0 != before.0 && now.1 == before.1 {
            let ping = ::redis::cmd("PING");
            let mut connection = live.connection();
            let answer = tokio::time::timeout(silence, connection.send_packed_command(&ping)).await;
            if !matches!(answer, Ok(Ok(_))) {
                tracing::debug!(server = %link.dialer.place(), "no answer to anything: the connection is given up");
                return link.lost(&live);
            }
        }
        before = now;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("dialer", &self.dialer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
