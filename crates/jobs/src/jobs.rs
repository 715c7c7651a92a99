use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use zhuji_db_pool::Transaction;
use zhuji_health::Check;

use crate::adapter::{JobsAdapter, NewJob};
use crate::admin::JobsAdmin;
use crate::batch::{Batch, BatchId, BatchRecord};
use crate::config::JobsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::health::JobsCheck;
use crate::job::{EnqueueOptions, Job, JobId};
use crate::job_set::JobSet;
use crate::meters;
use crate::origin::{Origin, OriginSource};
use crate::record::{JobRecord, QueueCounts};
use crate::wake::Wake;
use crate::worker::{Timetable, Upkeep, Worker, WorkerSettings};

const MAX_PAYLOAD: usize = 1024 * 1024;
const MAX_NAME: usize = 512;
const MAX_TRACE: usize = 256;
const DEFAULT_QUEUE: &str = "default";

/// The queue of background work. Cheap to clone; clones and scopes share everything.
///
/// All methods are safe to cancel: a job whose `enqueue` was dropped may or may not be in the queue.
#[derive(Clone)]
pub struct Jobs {
    pub(crate) inner: Arc<Inner>,
    scope: Option<Arc<str>>,
    origin: Option<OriginSource>,
}

pub(crate) struct Inner {
    pub(crate) adapter: Arc<dyn JobsAdapter>,
    pub(crate) config: JobsConfig,
    pub(crate) wake: Wake,
    /// One per job that may run at once in this process, whichever worker runs it.
    pub(crate) permits: Arc<Semaphore>,
    /// Rescue and sweep, once per process, as long as a worker runs.
    pub(crate) upkeep: Mutex<Weak<Upkeep>>,
    /// The queues whose schedules this process fires.
    pub(crate) timetable: Timetable,
}

impl Jobs {
    /// A queue on this adapter, without the factory: for tests and special adapters.
    pub fn new(adapter: Arc<dyn JobsAdapter>, config: &JobsConfig) -> Self {
        meters::describe();
        let permits = config.effective_concurrency().min(Semaphore::MAX_PERMITS);
        Self {
            inner: Arc::new(Inner {
                adapter,
                config: config.clone(),
                wake: Wake::new(config.poll_interval * 2),
                permits: Arc::new(Semaphore::new(permits)),
                upkeep: Mutex::new(Weak::new()),
                timetable: Timetable::default(),
            }),
            scope: None,
            origin: None,
        }
    }

    /// Puts a job into the queue, to be run as soon as a worker is free.
    ///
    /// # Errors
    ///
    /// If the store can't be reached (then the job may or may not be in the queue), or the job has no JSON form or one
    /// longer than 1 MiB.
    pub async fn enqueue<J: Job>(&self, job: &J) -> Result<JobId> {
        self.enqueue_with(job, EnqueueOptions::default()).await
    }

    /// The same with a delay, a priority, a unique key or a trace.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with<J: Job>(&self, job: &J, options: EnqueueOptions) -> Result<JobId> {
        let delay = options.delay.unwrap_or_default();
        let new = self.prepare(job, options)?;
        let ids = self.inner.adapter.enqueue(vec![new]).await?;
        meters::enqueued(self.queue(), J::KIND, 1);
        self.inner.wake.after(delay);
        first(ids, J::KIND)
    }

    /// Puts many jobs into the queue at once, all or none; returns their ids in order.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_many<J: Job>(&self, jobs: &[J]) -> Result<Vec<JobId>> {
        let new: Vec<NewJob> = jobs
            .iter()
            .map(|job| self.prepare(job, EnqueueOptions::default()))
            .collect::<Result<_>>()?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let ids = self.inner.adapter.enqueue(new).await?;
        meters::enqueued(self.queue(), J::KIND, ids.len());
        self.inner.wake.now();
        Ok(ids)
    }

    /// Puts a job into the queue as a part of the caller's transaction: it is there when the transaction commits and
    /// never was when it rolls back.
    ///
    /// The memory adapter knows no transactions: there the job is in the queue at once.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue). Let the error out of the transaction.
    pub async fn enqueue_in<J: Job>(&self, tx: &Transaction<'_>, job: &J) -> Result<JobId> {
        self.enqueue_in_with(tx, job, EnqueueOptions::default()).await
    }

    /// The same with a delay, a priority, a unique key or a trace.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    pub async fn enqueue_in_with<J: Job>(
        &self,
        tx: &Transaction<'_>,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<JobId> {
        let new = self.prepare(job, options)?;
        let ids = self.inner.adapter.enqueue_in(tx, vec![new]).await?;
        meters::enqueued(self.queue(), J::KIND, 1);
        // When the transaction commits is not known here, so this process's workers look often for a while.
        self.inner.wake.soon();
        first(ids, J::KIND)
    }

    /// The same jobs; from now on this handle and its scopes ask `source` what caused a job, unless its options say so.
    /// A service gives its current request, so that a job's log lines carry the request's id and trace.
    #[must_use]
    pub fn with_origin(mut self, source: impl Fn() -> Origin + Send + Sync + 'static) -> Self {
        self.origin = Some(OriginSource::new(source));
        self
    }

    /// A worker for this handle's queue, yet to be started.
    pub fn worker(&self, set: JobSet, settings: WorkerSettings) -> Worker {
        Worker::new(self.clone(), set, settings)
    }

    /// The same jobs, another queue: that of a module. Scopes nest (`asl:index`). `:` and `%` in the name are
    /// percent-encoded, so that two different names never share a queue.
    pub fn scoped(&self, name: &str) -> Self {
        let name = name.replace('%', "%25").replace(':', "%3A");
        let scope = match &self.scope {
            Some(outer) => format!("{outer}:{name}"),
            None => name,
        };
        Self {
            inner: self.inner.clone(),
            scope: Some(scope.into()),
            origin: self.origin.clone(),
        }
    }

    /// The queue this handle enqueues into; `default` outside of every scope.
    pub fn queue(&self) -> &str {
        self.scope.as_deref().unwrap_or(DEFAULT_QUEUE)
    }

    /// One job as it is in the store; `None` if there is none (any more). A scoped handle sees only its own queue.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        let record = self.inner.adapter.get(id).await?;
        Ok(record.filter(|record| self.sees(&record.queue)))
    }

    /// How many jobs stand where, by queue. A scoped handle sees only its own queue.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn counts(&self) -> Result<Vec<QueueCounts>> {
        self.recent_counts(Duration::ZERO).await
    }

    pub(crate) async fn recent_counts(&self, max_age: Duration) -> Result<Vec<QueueCounts>> {
        let adapter = &self.inner.adapter;
        let mut counts = match max_age.is_zero() {
            true => adapter.counts().await?,
            false => adapter.recent_counts(max_age).await?,
        };
        counts.retain(|counts| self.sees(&counts.queue));
        Ok(counts)
    }

    /// A batch, yet to be filled and enqueued: jobs that belong together, and the one that follows them.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// How a batch stands; `None` if there is none (any more). A scoped handle sees only its own queue's.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn batch_record(&self, id: BatchId) -> Result<Option<BatchRecord>> {
        let record = self.inner.adapter.batch(id).await?;
        Ok(record.filter(|record| self.sees(&record.queue)))
    }

    /// Looks into the queues and sets things right. That of a scoped handle sees only its own queue.
    pub fn admin(&self) -> JobsAdmin {
        JobsAdmin::new(self.clone())
    }

    /// The one queue this handle sees; `None`: all of them.
    pub(crate) fn own_queue(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    pub(crate) fn sees(&self, queue: &str) -> bool {
        self.own_queue().is_none_or(|own| own == queue)
    }

    /// The adapter's name: `postgres`, `memory` …
    pub fn adapter_name(&self) -> &'static str {
        self.inner.adapter.name()
    }

    /// A check called `jobs`, not critical: requests are served while background work waits. Down when the store can't
    /// be asked, degraded when jobs are stuck or have died within the last hour.
    pub fn health_check(&self) -> Arc<dyn Check> {
        Arc::new(JobsCheck { jobs: self.clone() })
    }

    pub(crate) fn prepare<J: Job>(&self, job: &J, options: EnqueueOptions) -> Result<NewJob> {
        let refuse = |reason: &'static str| Error::new(ErrorKind::InvalidInput, "enqueue", J::KIND, reason);
        let payload = serde_json::to_string(job).map_err(|source| {
            Error::new(ErrorKind::Encode, "enqueue", J::KIND, "the job has no JSON form").with_source(source)
        })?;
        if payload.len() > MAX_PAYLOAD {
            return Err(refuse(
                "its data is longer than 1 MiB: keep it in storage and its key in the job",
            ));
        }
        for name in [Some(self.queue()), Some(J::KIND), options.unique_key.as_deref()]
            .into_iter()
            .flatten()
        {
            if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
                return Err(refuse(
                    "queue, kind and unique key must have 1 to 512 bytes and no NUL",
                ));
            }
        }
        let origin = self.origin.as_ref().map(OriginSource::ask).unwrap_or_default();
        // Ids of other systems are a courtesy: a strange one is left out, it must not stop the work.
        let fit =
            |id: Option<String>| id.filter(|id| id.len() <= MAX_TRACE && !id.contains(char::is_control));
        Ok(NewJob {
            id: options.id.unwrap_or_else(JobId::generate),
            queue: self.queue().to_owned(),
            kind: J::KIND.to_owned(),
            payload,
            priority: options.priority,
            max_attempts: J::policy().max_attempts.clamp(1, i32::MAX as u32),
            run_at: options.run_at,
            delay: options
                .delay
                .unwrap_or_default()
                .min(Duration::from_secs(10 * 365 * 86_400)),
            unique_key: options.unique_key,
            traceparent: fit(options.traceparent.or(origin.traceparent)),
            request_id: fit(options.request_id.or(origin.request_id)),
            batch: None,
        })
    }
}

fn first(ids: Vec<JobId>, kind: &str) -> Result<JobId> {
    ids.into_iter().next().ok_or_else(|| {
        Error::new(
            ErrorKind::Store,
            "enqueue",
            kind,
            "the store returned no id for the job",
        )
    })
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("adapter", &self.inner.adapter)
            .field("queue", &self.queue())
            .finish_non_exhaustive()
    }
}
