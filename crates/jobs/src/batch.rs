use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zhuji_db_pool::Transaction;

use crate::adapter::NewJob;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{EnqueueOptions, Job, JobId};
use crate::jobs::Jobs;

/// The name of one batch, unique for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(Uuid);

impl BatchId {
    /// The id as a UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for BatchId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for BatchId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| Error::new(ErrorKind::InvalidInput, "parse", "a batch id", "it is not a UUID"))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Jobs that belong together, and the one that follows when all of them have ended.
///
/// ```
/// # use zhuji_jobs::{Job, Jobs};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct ExtractPdf { key: String }
/// # impl Job for ExtractPdf { const KIND: &'static str = "extract_pdf"; }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Summarise { batch: zhuji_jobs::BatchId }
/// # impl Job for Summarise { const KIND: &'static str = "summarise"; }
/// # async fn example(jobs: Jobs) -> zhuji_jobs::Result<()> {
/// let mut batch = jobs.batch();
/// for n in 0..100 {
///     batch.add(&ExtractPdf { key: format!("pdfs/{n}.pdf") })?;
/// }
/// let summary = Summarise { batch: batch.id() };
/// let id = batch.then(&summary)?.enqueue().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a batch is nothing until it is enqueued"]
pub struct Batch {
    jobs: Jobs,
    new: NewBatch,
}

/// What is stored of a batch when it is enqueued.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its id.
    pub id: BatchId,
    /// The queue of what follows.
    pub queue: String,
    /// Its jobs.
    pub members: Vec<NewJob>,
    /// The job that follows the last of them.
    pub next: Option<NewJob>,
}

/// How a batch stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchRecord {
    /// Its id.
    pub id: BatchId,
    /// The queue it was enqueued into.
    pub queue: String,
    /// Jobs in it.
    pub total: u64,
    /// Of those, not ended yet.
    pub pending: u64,
    /// Of those, dead or cancelled.
    pub failed: u64,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When the last of its jobs ended.
    pub ended_at: Option<Timestamp>,
    /// The job that follows.
    pub next: Option<JobId>,
}

impl BatchRecord {
    pub(crate) fn new(new: &NewBatch, created_at: Timestamp) -> Self {
        let total = new.members.len() as u64;
        Self {
            id: new.id,
            queue: new.queue.clone(),
            total,
            pending: total,
            failed: 0,
            created_at,
            ended_at: None,
            next: new.next.as_ref().map(|next| next.id),
        }
    }
}

impl Batch {
    pub(crate) fn new(jobs: Jobs) -> Self {
        let new = NewBatch {
            id: BatchId(Uuid::now_v7()),
            queue: jobs.queue().to_owned(),
            members: Vec::new(),
            next: None,
        };
        Self { jobs, new }
    }

    /// Its id, to be kept or to be put into the job that follows.
    pub fn id(&self) -> BatchId {
        self.new.id
    }

    /// Adds a job.
    ///
    /// # Errors
    ///
    /// If the job has no JSON form or one longer than 1 MiB.
    pub fn add<J: Job>(&mut self, job: &J) -> Result<JobId> {
        self.add_with(job, EnqueueOptions::default())
    }

    /// The same with a delay or a priority.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); and for a unique key, by which the job might be another batch's.
    pub fn add_with<J: Job>(&mut self, job: &J, options: EnqueueOptions) -> Result<JobId> {
        if options.unique_key.is_some() {
            let reason = "a batch's jobs can't have unique keys";
            return Err(Error::new(ErrorKind::InvalidInput, "enqueue", J::KIND, reason));
        }
        let mut new = self.jobs.prepare(job, options)?;
        new.batch = Some(self.new.id);
        let id = new.id;
        self.new.members.push(new);
        Ok(id)
    }

    /// The job that follows when every other has ended, well or badly: it can ask [`Jobs::batch_record`] how they did.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn then<J: Job>(mut self, job: &J) -> Result<Self> {
        self.new.next = Some(self.jobs.prepare(job, EnqueueOptions::default())?);
        Ok(self)
    }

    /// Puts all of it into the queue, or none. What follows an empty batch is enqueued at once.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the batch may or may not be in the queue.
    pub async fn enqueue(self) -> Result<BatchId> {
        let Self { jobs, new } = self;
        let id = new.id;
        jobs.inner.adapter.enqueue_batch(new).await?;
        jobs.inner.wake.now();
        Ok(id)
    }

    /// The same as a part of the caller's transaction.
    ///
    /// # Errors
    ///
    /// As [`Jobs::enqueue_in`].
    pub async fn enqueue_in(self, tx: &Transaction<'_>) -> Result<BatchId> {
        let Self { jobs, new } = self;
        let id = new.id;
        jobs.inner.adapter.enqueue_batch_in(tx, new).await?;
        jobs.inner.wake.soon();
        Ok(id)
    }
}
