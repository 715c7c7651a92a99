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
    pace: Pace,
    /// See [`CacheAdapter::epoch`](crate::CacheAdapter::epoch).
    epoch: AtomicU64,
    current: ArcSwapOption<Live>,
    dialling: Mutex<Dialling>,
}

/// How the link keeps time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// A connection that takes longer to answer a ping is taken for dead.
    pub(crate) patience: Duration,
    /// The epoch changes this often.
    pub(crate) epoch: Duration,
}

/// The connection is pinged this often.
const HEARTBEAT: Duration = Duration::from_secs(1);

struct Live {
    wire: Wire,
    id: u64,
}

/// A handle on the connection, for one command. `id` tells it from its successors.
pub(crate) struct Line {
    pub(crate) connection: MultiplexedConnection,
    id: u64,
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
    fn line(&self) -> Line {
        Line {
            connection: self.wire.connection.clone(),
            id: self.id,
        }
    }
}

impl Link {
    /// Connects to nothing yet.
    pub(crate) fn new(dialer: Arc<Dialer>, pace: Pace) -> Self {
        let idle = Dialling::Idle {
            backoff: Backoff::default(),
            last: None,
        };
        let shared = Shared {
            dialer,
            pace,
            epoch: AtomicU64::new(0),
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
    pub(crate) async fn line(&self, probe: bool) -> Result<Line, DialError> {
        // A command takes the connection without counting itself among the owners of `Live`: that counter would go back
        // and forth between the processors at every command.
        if let Some(live) = &*self.shared.current.load() {
            return Ok(live.line());
        }
        let mut result = match self.shared.join(probe) {
            Ok(result) => result,
            Err(outcome) => return outcome.map(|live| live.line()),
        };
        // An error means that the dialling task is gone, which only a runtime that shuts down does.
        let outcome = result
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        let given_up = || DialError {
            kind: ErrorKind::Unavailable,
            reason: format!("dialling {} was given up", self.shared.dialer.place()),
            source: None,
        };
        outcome.unwrap_or_else(|| Err(given_up())).map(|live| live.line())
    }

    /// The connection of `line` is of no use any more: what waits for it fails, and the next call dials.
    pub(crate) fn lost(&self, line: &Line) {
        self.shared.lost(line.id);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
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

    fn lost(&self, id: u64) {
        let current = self.current.load();
        if let Some(live) = &*current
            && live.id == id
        {
            self.current.compare_and_swap(&current, None);
            // Whoever still waits for an answer on it has waited long enough.
            live.wire.cut();
        }
    }
}

async fn dial(shared: Arc<Shared>, result: watch::Sender<Option<Outcome>>, mut backoff: Backoff) {
    let outcome = match shared.dialer.dial().await {
        Ok(wire) => {
            // A number of its own: the epoch changes with every connection, and generations are looked for again.
            let id = shared.epoch.fetch_add(1, Ordering::AcqRel);
            let live = Arc::new(Live { wire, id });
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
/// waits for it; but someone must give the connection up, or it would be used for ever.
async fn watch_over(link: Weak<Shared>, live: Weak<Live>) {
    let Some(pace) = link.upgrade().map(|link| link.pace) else {
        return;
    };
    let (mut ping_at, mut turn_at) = (Instant::now() + HEARTBEAT, Instant::now() + pace.epoch);
    loop {
        tokio::time::sleep_until(ping_at.min(turn_at).into()).await;
        let (Some(link), Some(live)) = (link.upgrade(), live.upgrade()) else {
            return;
        };
        if Instant::now() >= turn_at {
            link.epoch.fetch_add(1, Ordering::AcqRel);
            turn_at = Instant::now() + pace.epoch;
        }
        if Instant::now() >= ping_at {
            let ping = ::redis::cmd("PING");
            let mut connection = live.line().connection;
            let answer = tokio::time::timeout(pace.patience, connection.send_packed_command(&ping)).await;
            if !matches!(answer, Ok(Ok(_))) {
                tracing::debug!(server = %link.dialer.place(), "no answer to a ping: the connection is given up");
                return link.lost(live.id);
            }
            ping_at = Instant::now() + HEARTBEAT;
        }
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
