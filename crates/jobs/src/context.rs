use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use zhuji_db_pool::Transaction;

use crate::adapter::{Claimed, Fence, JobsAdapter};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;

/// What a handler knows about the attempt it is making. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

struct Inner {
    adapter: Arc<dyn JobsAdapter>,
    fence: Fence,
    attempt: u32,
    queue: String,
    kind: String,
    max_attempts: u32,
    traceparent: Option<String>,
    request_id: Option<String>,
    cancelled: CancellationToken,
    completed: Arc<AtomicBool>,
}

impl JobContext {
    pub(crate) fn new(
        adapter: Arc<dyn JobsAdapter>,
        fence: Fence,
        claimed: &Claimed,
        cancelled: CancellationToken,
        completed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                adapter,
                fence,
                attempt: claimed.attempt,
                queue: claimed.queue.clone(),
                kind: claimed.kind.clone(),
                max_attempts: claimed.max_attempts,
                traceparent: claimed.traceparent.clone(),
                request_id: claimed.request_id.clone(),
                cancelled,
                completed,
            }),
        }
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.inner.fence.id
    }

    /// The number of this attempt, from 1. Attempts that were given back are not counted.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Attempts the job has in all.
    pub fn max_attempts(&self) -> u32 {
        self.inner.max_attempts
    }

    /// Whether the job is dead if this attempt fails: the moment to write down why.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= self.max_attempts()
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.inner.queue
    }

    /// The job's kind.
    pub fn kind(&self) -> &str {
        &self.inner.kind
    }

    /// The W3C `traceparent` of what caused the job.
    pub fn traceparent(&self) -> Option<&str> {
        self.inner.traceparent.as_deref()
    }

    /// The id of the request that caused the job.
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }

    /// Cancelled when the worker is stopping, or when it could not renew the lease in time. A long handler should then
    /// stop and return [`JobError::interrupted`](crate::JobError::interrupted); one that goes on is dropped at the end
    /// of the grace period and its job handed back.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Marks the job as done as a part of the caller's transaction, so that its result and its end are committed
    /// together or not at all.
    ///
    /// Call it last in the transaction: until the commit the job's row is locked. The handler should then return
    /// `Ok(())`. With the memory adapter it takes effect at once, whatever becomes of the transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Fenced`] if the lease was lost: another attempt may be running. Let the error out of the
    /// transaction, so that it is rolled back. Otherwise as any statement.
    pub async fn complete_in(&self, tx: &Transaction<'_>) -> Result<()> {
        if self.inner.adapter.finish_in(tx, self.inner.fence).await? {
            self.inner.completed.store(true, Ordering::SeqCst);
            return Ok(());
        }
        let reason = "the lease was lost and the job may be running elsewhere";
        Err(Error::new(ErrorKind::Fenced, "complete", self.id(), reason))
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.id())
            .field("queue", &self.queue())
            .field("kind", &self.kind())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
