//! Telling the workers of other processes that there is something to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zhuji_db_pool::DbPool;

use super::CHANNEL;
use crate::adapter::Hint;

/// A transaction that has just been given a job needs about this long to commit; and a process that enqueues without
/// pause rings this often and not at every job.
const PAUSE: Duration = Duration::from_millis(20);
/// What tells a hint about leases from one about jobs.
const LEASES: &str = "leases";

/// The notification's own commit may be lost with the server, but need not wait for the disk; and all commits that
/// notify wait for one another.
const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";

/// Sends notifications in transactions of their own. In the caller's transaction they would be simpler, but all commits
/// that notify wait for one another, which costs a busy service two thirds of its commits.
#[derive(Debug)]
pub(super) struct Bell {
    pool: DbPool,
    // Whether somebody is about to ring.
    raised: Arc<AtomicBool>,
    rung: Mutex<Option<Instant>>,
}

impl Bell {
    pub(super) fn new(pool: DbPool) -> Self {
        Self {
            pool,
            raised: Arc::default(),
            rung: Mutex::default(),
        }
    }

    /// Rings at once, unless it has just rung: for what is committed.
    pub(super) fn ring(&self) {
        self.ring_after(false);
    }

    /// Rings in a moment: for what is about to be committed. Whoever hears it looks often for a while, and so finds what
    /// commits a little later.
    pub(super) fn ring_soon(&self) {
        self.ring_after(true);
    }

    fn ring_after(&self, soon: bool) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let pause = {
            let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
            let quiet = rung.is_none_or(|rung| rung.elapsed() >= PAUSE);
            let pause = if quiet && !soon { Duration::ZERO } else { PAUSE };
            *rung = Some(Instant::now() + pause);
            pause
        };
        let (pool, raised) = (self.pool.clone(), self.raised.clone());
        tokio::spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // First, because a job that comes from now on may not be covered by this notification.
            raised.store(false, Ordering::Release);
            notify(&pool, "").await;
        });
    }

    /// Tells all workers that there may be jobs, and waits until they are told: for a program that ends then.
    pub(super) async fn call_for_jobs(&self) {
        notify(&self.pool, "").await;
    }

    /// Tells all workers to look at their leases, and waits until they are told.
    pub(super) async fn call_for_leases(&self) {
        notify(&self.pool, LEASES).await;
    }
}

async fn notify(pool: &DbPool, payload: &str) {
    if let Err(error) = pool.query(NOTIFY, &[&CHANNEL, &payload]).await {
        tracing::debug!(%error, "other processes were not told of a change; they will find it by polling");
    }
}

pub(super) fn hint(payload: &str) -> Hint {
    match payload {
        LEASES => Hint::Leases,
        _ => Hint::Jobs,
    }
}
