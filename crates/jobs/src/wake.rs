//! How an idle worker learns that there may be something to do, without asking the store all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// So many delayed calls may be pending; later ones are left to polling.
const MOST_PENDING: usize = 1000;

/// Shared by all workers and handles of one process.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    signal: Arc<watch::Sender<Signal>>,
    pending: Arc<AtomicUsize>,
    /// Delays up to this are worth a timer; polling sees to the longer ones.
    horizon: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Changes when there is something to do now.
    pub(crate) now: u64,
    /// Changes when there will be something to do as soon as a transaction commits, if it does.
    pub(crate) soon: u64,
    /// Changes when somebody may want a running job cancelled.
    pub(crate) leases: u64,
}

impl Wake {
    pub(crate) fn new(horizon: Duration) -> Self {
        Self {
            signal: Arc::new(watch::Sender::new(Signal::default())),
            pending: Arc::default(),
            horizon,
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub(crate) fn now(&self) {
        self.signal
            .send_modify(|signal| signal.now = signal.now.wrapping_add(1));
    }

    pub(crate) fn soon(&self) {
        self.signal
            .send_modify(|signal| signal.soon = signal.soon.wrapping_add(1));
    }

    pub(crate) fn look_at_leases(&self) {
        self.signal
            .send_modify(|signal| signal.leases = signal.leases.wrapping_add(1));
    }

    /// Someone else enqueued something, and may be enqueuing more that is not announced.
    pub(crate) fn now_and_soon(&self) {
        self.signal.send_modify(|signal| {
            signal.now = signal.now.wrapping_add(1);
            signal.soon = signal.soon.wrapping_add(1);
        });
    }

    pub(crate) fn after(&self, delay: Duration) {
        if delay.is_zero() {
            return self.now();
        }
        if delay > self.horizon || self.pending.load(Ordering::Relaxed) >= MOST_PENDING {
            return;
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        let wake = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            wake.pending.fetch_sub(1, Ordering::Relaxed);
            wake.now();
        });
    }
}
