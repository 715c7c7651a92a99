use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use uuid::Uuid;
use zhuji_db_pool::Transaction;

use crate::admin::AdminAdapter;
use crate::batch::{BatchId, BatchRecord, NewBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::limit::Limit;
use crate::record::{JobRecord, Progress, QueueCounts};
use crate::schedule::ScheduleAdapter;

/// The name of one running worker: random, so that a restarted process is never mistaken for its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(pub Uuid);

impl WorkerId {
    /// A new name.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is stored of a job when it is enqueued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// JSON text.
    pub payload: String,
    /// Higher runs first.
    pub priority: i16,
    /// Attempts in all.
    pub max_attempts: u32,
    /// Not before this moment of the store's clock; `None` is now.
    pub run_at: Option<Timestamp>,
    /// And this much later.
    pub delay: Duration,
    /// At most one unfinished job of this queue, kind and key.
    pub unique_key: Option<String>,
    /// The trace that caused it.
    pub traceparent: Option<String>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// The batch it is a member of.
    pub batch: Option<BatchId>,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who asks.
    pub worker: WorkerId,
    /// From this queue.
    pub queue: String,
    /// Only these kinds: a program is not handed what it can't do.
    pub kinds: Vec<String>,
    /// At most this many.
    pub limit: usize,
    /// For so long, unless renewed.
    pub lease: Duration,
}

/// A job that a worker now has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// Its id.
    pub id: JobId,
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// JSON text.
    pub payload: String,
    /// The number of this claim: greater than that of every earlier claim of the job.
    pub claim: u64,
    /// The number of this attempt, from 1. One that was given back is not counted, so the number may come again.
    pub attempt: u32,
    /// Attempts in all.
    pub max_attempts: u32,
    /// The trace that caused it.
    pub traceparent: Option<String>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// How long it could have run and did not.
    pub waited: Duration,
    /// The batch it is a member of.
    pub batch: Option<BatchId>,
}

/// What a worker was given.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The jobs.
    pub jobs: Vec<Claimed>,
    /// If there were fewer than asked for: when there may be more, if that is known.
    pub again_in: Option<Duration>,
}

impl Claimed {
    /// A claim with what every store has; the rest is empty.
    pub fn new(
        id: JobId,
        queue: String,
        kind: String,
        payload: String,
        claim: u64,
        attempt: u32,
        max_attempts: u32,
    ) -> Self {
        Self {
            id,
            queue,
            kind,
            payload,
            claim,
            attempt,
            max_attempts,
            traceparent: None,
            request_id: None,
            waited: Duration::ZERO,
            batch: None,
        }
    }
}

/// What proves that a claim still owns its job: nobody has claimed it since, the same worker included.
///
/// The number of the attempt would not do: an attempt that is given back is not counted, and its number comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The job.
    pub id: JobId,
    /// The number of the claim.
    pub claim: u64,
    /// The worker that made it.
    pub worker: WorkerId,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// Well.
    Done {
        /// What it left behind, as JSON text.
        result: Option<String>,
    },
    /// Badly; try again after `delay`.
    Retry {
        /// The pause.
        delay: Duration,
        /// What is kept of the error.
        error: String,
    },
    /// Badly, for good.
    Dead {
        /// What is kept of the error.
        error: String,
    },
    /// Because it was asked to: the job is cancelled.
    Cancelled,
    /// Not at all: the worker is stopping. The job is ready again and the attempt not counted.
    HandBack,
}

/// One ended attempt.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose it was.
    pub fence: Fence,
    /// How it ended.
    pub finish: Finish,
}

/// A lease that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Whose.
    pub fence: Fence,
    /// Whether somebody wants the job cancelled.
    pub cancel: bool,
}

/// Why a worker should look at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// There may be jobs to claim.
    Jobs,
    /// Somebody may have asked for a running job to be cancelled.
    Leases,
}

/// What became of jobs whose lease had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Ready for another attempt.
    pub ready: u64,
    /// Dead: that was the last attempt.
    pub dead: u64,
}

/// What may be forgotten.
#[derive(Clone, Copy, Debug)]
pub struct SweepRequest {
    /// Done for longer than this.
    pub done: Duration,
    /// Dead for longer than this.
    pub dead: Duration,
    /// At most this many in this step.
    pub limit: usize,
}

/// What a back end has to offer. Product code uses [`Jobs`](crate::Jobs) instead.
///
/// # Contract
///
/// - **Time is the store's.** Leases, delays and ages are reckoned on one clock, never on a caller's.
/// - **A claim is exclusive.** `claim` marks what it returns as running with a lease, counts the attempt and numbers the
///   claim, all at once; two calls never return the same job unless its lease ended or it was finished in between.
///   Order: higher priority, then earlier `run_at`. It keeps to the queue's limits and to whether it is paused, which
///   hold over all workers together.
/// - **A job's claims are numbered upwards**, and nothing ever takes a number back: no two claims of a job have the same
///   fence.
/// - **Everything after the claim is fenced.** `renew`, `finish` and `finish_in` change a job only if it is running and
///   claim and worker are still the fence's; otherwise they change nothing and say so.
/// - `finish` and `renew` take many at once; a store that can should use one round trip.
/// - A job that somebody wants cancelled is so at the end of its attempt, unless that was `Done`.
/// - The last member of a batch to end enqueues the batch's next job, in the same transaction.
/// - `rescue` makes jobs ready whose lease has ended (or dead, if that was their last attempt). The attempt stays
///   counted: it may have done its work.
/// - `release` gives back whatever `worker` holds in the store besides `keep`, without counting the attempt: claims
///   whose answer got lost on the way. An older claim of the same job in `keep` keeps nothing.
/// - `enqueue` of a `unique_key` that an unfinished job of the queue and kind has returns that job's id.
/// - Every call ends by itself, and may be dropped at any point: it then happened as a whole or not at all.
#[async_trait]
pub trait JobsAdapter: Send + Sync + fmt::Debug + 'static {
    /// A short fixed name for logs: `postgres`, `memory` …
    fn name(&self) -> &'static str;

    /// Stores jobs, all or none; returns their ids in order.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>>;

    /// The same as a part of the caller's transaction, where the store can take part in one.
    async fn enqueue_in(&self, tx: &Transaction<'_>, jobs: Vec<NewJob>) -> Result<Vec<JobId>>;

    /// Hands jobs to a worker.
    async fn claim(&self, request: &ClaimRequest) -> Result<Claims>;

    /// Moves the leases of `running` to `lease` from now; returns those that are still owned.
    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Renewed>>;

    /// Records how attempts ended; for each, whether it was still owned and so took effect.
    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>>;

    /// Of reports whose [`finish`](Self::finish) failed before and now took no effect: whether they took effect then, and
    /// only the answer was lost. For the log and the metrics; a store may leave it out.
    async fn has_ended(&self, reports: &[Report]) -> Result<Vec<bool>> {
        Ok(vec![false; reports.len()])
    }

    /// Marks a job as done as a part of the caller's transaction, with what it leaves behind as JSON text; `false` if it
    /// is no longer owned.
    async fn finish_in(&self, tx: &Transaction<'_>, fence: Fence, result: Option<&str>) -> Result<bool>;

    /// Takes up jobs whose lease has ended, at most `limit`.
    async fn rescue(&self, limit: usize) -> Result<Rescued>;

    /// Gives back what `worker` holds besides `keep`; returns how many.
    async fn release(&self, worker: WorkerId, keep: &[Fence]) -> Result<u64>;

    /// Forgets finished jobs, one small step; returns how many.
    async fn sweep(&self, request: SweepRequest) -> Result<u64>;

    /// One job.
    async fn get(&self, id: JobId) -> Result<Option<JobRecord>>;

    /// Counts by queue, sorted by name.
    async fn counts(&self) -> Result<Vec<QueueCounts>>;

    /// The same as it was at most so long ago: a store in which counting costs much need not do it for each instance.
    async fn recent_counts(&self, max_age: Duration) -> Result<Vec<QueueCounts>> {
        let _ = max_age;
        self.counts().await
    }

    /// Notes how far jobs are that are still owned. A courtesy: a store may leave it out.
    async fn progress(&self, progress: &[(Fence, Progress)]) -> Result<()> {
        let _ = progress;
        Ok(())
    }

    /// Stores a batch and its members, or none of them.
    async fn enqueue_batch(&self, batch: NewBatch) -> Result<()> {
        Err(unsupported("enqueue", batch.id, "this adapter knows no batches"))
    }

    /// The same as a part of the caller's transaction, where the store can take part in one.
    async fn enqueue_batch_in(&self, tx: &Transaction<'_>, batch: NewBatch) -> Result<()> {
        let _ = tx;
        Err(unsupported("enqueue", batch.id, "this adapter knows no batches"))
    }

    /// One batch.
    async fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>> {
        Err(unsupported("get", id, "this adapter knows no batches"))
    }

    /// Makes these the limits of the queue and of its kinds; limits of other kinds stay.
    async fn set_limits(&self, queue: &str, limit: Option<Limit>, kinds: &[(&str, Limit)]) -> Result<()> {
        if limit.is_none_or(|limit| limit.is_none()) && kinds.iter().all(|(_, limit)| limit.is_none()) {
            return Ok(());
        }
        Err(unsupported("limit", queue, "this adapter knows no limits"))
    }

    /// Opens a stream with an item whenever another process may have done something that concerns workers. Hints may be
    /// missing or too many: workers look by themselves now and then. `None` if the store can't tell.
    async fn hints(&self) -> Result<Option<BoxStream<'static, Result<Hint>>>> {
        Ok(None)
    }

    /// What it offers for administration.
    fn admin(&self) -> Option<&dyn AdminAdapter> {
        None
    }

    /// Where it keeps the timetable.
    fn timetable(&self) -> Option<&dyn ScheduleAdapter> {
        None
    }
}

fn unsupported(operation: &'static str, subject: impl fmt::Display, reason: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, subject, reason)
}
