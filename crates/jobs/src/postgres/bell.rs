//! Telling the workers of other processes that there is something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zhuji_db_pool::DbPool;

use super::CHANNEL;

/// A transaction that has just been given a job needs about this long to commit; and a process that enqueues without
/// pause rings this often and not at every job.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends notifications in transactions of their own. In the caller's transaction they would be simpler, but all commits
/// that notify wait for one another, which costs a busy service two thirds of its commits.
#[derive(Debug)]
pub(super) struct Bell {
    pool: DbPool,
    // Whether somebody is about to ring.
    raised: Arc<AtomicBool>,
}

impl Bell {
    pub(super) fn new(pool: DbPool) -> Self {
        Self {
            pool,
            raised: Arc::default(),
        }
    }

    /// Rings in a moment. Whoever hears it looks often for a while, and so finds what commits a little later.
    pub(super) fn ring(&self) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, raised) = (self.pool.clone(), self.raised.clone());
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            // First, because a job that comes from now on may not be covered by this notification.
            raised.store(false, Ordering::Release);
            if let Err(error) = pool.execute("SELECT pg_notify($1, '')", &[&CHANNEL]).await {
                tracing::debug!(%error, "other processes were not told of a new job; they will find it by polling");
            }
        });
    }
}
