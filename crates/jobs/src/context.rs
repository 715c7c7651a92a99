use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zhuji_db_pool::Transaction;

use crate::adapter::{Claimed, Fence, JobsAdapter};
use crate::batch::BatchId;
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::record::Progress;

const MAX_RESULT: usize = 1024 * 1024;

/// What a handler and its worker tell one another.
#[derive(Debug)]
pub(crate) struct Notes {
    /// The handler has ended the job in a transaction of its own, so the lease is no longer its concern.
    pub(crate) completed: AtomicBool,
    /// Somebody wants the job cancelled.
    pub(crate) cancel: AtomicBool,
    /// What the handler leaves behind, if it ends well.
    pub(crate) result: Mutex<Option<String>>,
    /// How far it is, if that is news.
    pub(crate) progress: Mutex<Option<Progress>>,
    /// Tells the worker of news.
    news: Arc<Notify>,
}

impl Notes {
    pub(crate) fn new(news: Arc<Notify>) -> Self {
        Self {
            completed: AtomicBool::new(false),
            cancel: AtomicBool::new(false),
            result: Mutex::default(),
            progress: Mutex::default(),
            news,
        }
    }

    pub(crate) fn take_progress(&self) -> Option<Progress> {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(crate) fn take_result(&self) -> Option<String> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

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
    batch: Option<BatchId>,
    notes: Arc<Notes>,
}

impl JobContext {
    pub(crate) fn new(
        adapter: Arc<dyn JobsAdapter>,
        fence: Fence,
        claimed: &Claimed,
        cancelled: CancellationToken,
        notes: Arc<Notes>,
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
                batch: claimed.batch,
                notes,
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

    /// The batch the job is a member of.
    pub fn batch(&self) -> Option<BatchId> {
        self.inner.batch
    }

    /// Cancelled when the worker is stopping, when it could not renew the lease in time, and when somebody cancelled the
    /// job. A long handler should then stop and return [`JobError::interrupted`](crate::JobError::interrupted); one that
    /// goes on is dropped: at the end of the worker's grace period, and its job handed back; or ten seconds after the
    /// job was cancelled.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Whether somebody cancelled this job. However the handler ends then, the job is cancelled and not tried again,
    /// unless [`complete_in`](Self::complete_in) was first.
    pub fn is_cancel_requested(&self) -> bool {
        self.inner.notes.cancel.load(Ordering::SeqCst)
    }

    /// Says how far the job is, for whoever looks at it. As often as you like: it is stored once a second at most.
    pub fn progress(&self, done: u64, total: u64) {
        let notes = &self.inner.notes;
        *notes.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Progress { done, total });
        notes.news.notify_one();
    }

    /// Leaves a result behind: it is stored with the end of this attempt if the handler returns `Ok(())`, and kept as
    /// long as the job is ([`JobDetail::result`](crate::JobDetail::result)). The last call counts.
    ///
    /// # Errors
    ///
    /// If the value has no JSON form or one longer than 1 MiB.
    pub fn complete_with<T: Serialize>(&self, result: &T) -> Result<()> {
        let result = self.encode(result)?;
        *self
            .inner
            .notes
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(result);
        Ok(())
    }

    fn encode<T: Serialize>(&self, result: &T) -> Result<String> {
        let text = serde_json::to_string(result).map_err(|source| {
            Error::new(
                ErrorKind::Encode,
                "complete",
                self.id(),
                "the result has no JSON form",
            )
            .with_source(source)
        })?;
        if text.len() > MAX_RESULT {
            let reason = "its result is longer than 1 MiB: keep it in storage and its key in the result";
            return Err(Error::new(ErrorKind::InvalidInput, "complete", self.id(), reason));
        }
        Ok(text)
    }

    /// Marks the job as done as a part of the caller's transaction, so that its result and its end are committed
    /// together or not at all.
    ///
    /// A result given to [`complete_with`](Self::complete_with) before is stored with it.
    ///
    /// Call it last in the transaction: until the commit the job's row is locked. The handler should then return
    /// `Ok(())`. With the memory adapter it takes effect at once, whatever becomes of the transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Fenced`] if the lease was lost: another attempt may be running. Let the error out of the
    /// transaction, so that it is rolled back. Otherwise as any statement.
    pub async fn complete_in(&self, tx: &Transaction<'_>) -> Result<()> {
        let result = self.inner.notes.take_result();
        if self
            .inner
            .adapter
            .finish_in(tx, self.inner.fence, result.as_deref())
            .await?
        {
            self.inner.notes.completed.store(true, Ordering::SeqCst);
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
