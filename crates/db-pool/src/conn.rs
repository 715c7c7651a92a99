use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::loans::Slot;
use crate::scope::Scope;
use crate::statements::Statements;

/// One connection to the server, as it lies in the pool.
pub(crate) struct Conn {
    /// The driver's client; dropping it ends the task that moves its bytes.
    pub(crate) client: ClientWrapper,
    pub(crate) side: Side,
    pub(crate) born: Instant,
    /// When it was last given back: how long it sat idle.
    pub(crate) returned: Instant,
    /// How old it may become; different for each, so that a fleet does not redial in step.
    pub(crate) lifetime: Duration,
}

/// What has to be known about a connection besides its client.
pub(crate) struct Side {
    /// Who holds it, and until when what it does has to be done.
    pub(crate) slot: Arc<Slot>,
    pub(crate) statements: Statements,
    /// The scope whose search path the session has.
    pub(crate) serves: AtomicU32,
    /// A statement was abandoned half-way: its answer is still to come.
    pub(crate) interrupted: AtomicBool,
    /// The server did not answer in time: nothing more may be sent.
    pub(crate) abandoned: AtomicBool,
    /// Of no further use.
    pub(crate) spoiled: AtomicBool,
    /// Something may have changed the session.
    pub(crate) dirty: AtomicBool,
    /// A statement of the transaction under way met others: it is worth running again.
    pub(crate) conflict: AtomicBool,
    /// Through a transaction-mode pooler: nothing may be kept in the session.
    pub(crate) pooled: bool,
    cancel: Cancel,
}

#[derive(Clone)]
struct Cancel {
    token: CancelToken,
    tls: MakeRustlsConnect,
}

impl Conn {
    pub(crate) fn new(
        client: ClientWrapper,
        tls: MakeRustlsConnect,
        max_lifetime: Duration,
        pooled: bool,
    ) -> Self {
        let now = Instant::now();
        let cancel = Cancel {
            token: client.cancel_token(),
            tls,
        };
        Self {
            client,
            side: Side {
                slot: Arc::default(),
                statements: Statements::default(),
                serves: AtomicU32::new(Scope::SERVER_DEFAULT),
                interrupted: AtomicBool::new(false),
                abandoned: AtomicBool::new(false),
                spoiled: AtomicBool::new(false),
                dirty: AtomicBool::new(false),
                conflict: AtomicBool::new(false),
                pooled,
                cancel,
            },
            born: now,
            returned: now,
            lifetime: max_lifetime.mul_f64(0.9 + 0.2 * fastrand::f64()),
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.side.spoiled.load(Ordering::Relaxed)
    }

    pub(crate) fn has_lived(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.born) >= self.lifetime
    }
}

impl Side {
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is(&self, flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    /// Asks the server to end what the connection is doing. At most two seconds; best effort.
    pub(crate) async fn cancel(&self) {
        let Cancel { token, tls } = self.cancel.clone();
        let _ = tokio::time::timeout(Duration::from_secs(2), token.cancel_query(tls)).await;
    }

    /// Marks the connection as interrupted unless the returned guard is told that the answer came.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        InFlight {
            side: self,
            answered: false,
        }
    }
}

/// See [`Side::in_flight`].
pub(crate) struct InFlight<'a> {
    side: &'a Side,
    answered: bool,
}

impl InFlight<'_> {
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.side.interrupted.store(true, Ordering::Relaxed);
        }
    }
}
