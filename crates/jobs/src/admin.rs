//! Looking into the queues and setting things right: what a page and a command line need.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;
use zhuji_db_pool::DbPool;

use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::jobs::Jobs;
use crate::limit::Limit;
use crate::postgres::PostgresAdapter;
use crate::record::{JobRecord, JobState, Progress, QueueCounts};

/// Jobs on one page, unless the filter says otherwise.
const PAGE: usize = 50;
const LONGEST_PAGE: usize = 1000;
/// Dead jobs replayed or dropped in one step.
const STEP: usize = 500;

/// Which jobs, and how many of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFilter {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this state.
    pub state: Option<JobState>,
    /// Older than this one: [`JobPage::next`] of the page before.
    pub after: Option<JobId>,
    /// At most this many, up to 1000; 0 means 50.
    pub limit: usize,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobPage {
    /// Newest first, by id. Payloads are cut after 1,000 characters here.
    pub jobs: Vec<JobRecord>,
    /// What to give as [`JobFilter::after`] for the next page; `None`: this is the last.
    pub next: Option<JobId>,
}

/// Which dead jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadFilter {
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
}

/// All there is to know about one job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobDetail {
    /// The job.
    pub record: JobRecord,
    /// Its attempts, the earliest first. Attempts that were handed back are not among them.
    pub history: Vec<AttemptRecord>,
    /// How far it said it was.
    pub progress: Option<Progress>,
    /// What it left behind with [`JobContext::complete_with`](crate::JobContext::complete_with), as JSON text.
    pub result: Option<String>,
    /// Whether its worker has been asked to stop it.
    pub cancel_requested: bool,
}

/// One attempt at a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// Its number, from 1.
    pub attempt: u32,
    /// The random name of the worker.
    pub worker: Option<Uuid>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What it said, if it failed.
    pub error: Option<String>,
}

impl AttemptRecord {
    /// The attempt that only the job itself tells of: the one that runs, or the one that ended well.
    pub(crate) fn present(record: &JobRecord, worker: Option<Uuid>) -> Option<Self> {
        let outcome = match record.state {
            JobState::Running => AttemptOutcome::Running,
            JobState::Done => AttemptOutcome::Done,
            _ => return None,
        };
        Some(Self {
            attempt: record.attempt,
            worker,
            started: record.started_at,
            ended: record.finished_at,
            outcome,
            error: None,
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// It has not.
    Running,
    /// Well.
    Done,
    /// With an error, a panic or a timeout.
    Failed,
    /// Its worker gave no sign of life any more.
    Lost,
    /// The job was cancelled.
    Cancelled,
}

impl AttemptOutcome {
    /// The name in the store and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Lost,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|outcome| outcome.as_str() == name)
    }
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueueRecord {
    /// Its name.
    pub queue: String,
    /// What is in it.
    pub counts: QueueCounts,
    /// Whether its jobs are held back.
    pub paused: bool,
    /// What the whole fleet keeps to.
    pub limit: Limit,
    /// The same for single kinds.
    pub kinds: BTreeMap<String, Limit>,
}

/// One entry of the timetable.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScheduleRecord {
    /// The queue its jobs go into.
    pub queue: String,
    /// Its name, unique within the queue.
    pub name: String,
    /// When: `0 3 * * *`.
    pub cron: String,
    /// On the clocks of this place: `Asia/Shanghai`.
    pub zone: String,
    /// The kind of its jobs.
    pub kind: String,
    /// When it fires next.
    pub next: Timestamp,
    /// The tick for which it fired last.
    pub last: Option<Timestamp>,
    /// The job of that time.
    pub last_job: Option<JobId>,
}

/// What became of a request to cancel a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cancellation {
    /// It was waiting and is cancelled now.
    Cancelled,
    /// It is running: its handler is told, and it is cancelled as soon as that ends.
    Requested,
}

/// One step through the dead jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadStep {
    /// Jobs replayed or dropped.
    pub changed: u64,
    /// The last one looked at, if there may be more after it.
    pub more_after: Option<JobId>,
}

/// What a back end offers for administration; see [`JobsAdmin`] for what the methods mean.
#[async_trait]
pub trait AdminAdapter: Send + Sync {
    /// Every queue that has jobs, rules or a schedule, by name.
    async fn queues(&self) -> Result<Vec<QueueRecord>>;

    /// Up to `filter.limit` jobs, by id downwards.
    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRecord>>;

    /// One job.
    async fn show(&self, id: JobId) -> Result<Option<JobDetail>>;

    /// Makes a job run now; `false` if it is not dead, cancelled or scheduled, or its unique key is taken.
    async fn retry(&self, id: JobId) -> Result<bool>;

    /// Cancels a job; `None` if it is not there or finished.
    async fn cancel(&self, id: JobId) -> Result<Option<Cancellation>>;

    /// Holds a queue back, or lets it go on.
    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()>;

    /// Puts up to `limit` dead jobs with ids greater than `after` back into the queue, in the order of their ids.
    async fn replay_dead(&self, filter: &DeadFilter, after: Option<JobId>, limit: usize) -> Result<DeadStep>;

    /// Forgets up to `limit` dead jobs.
    async fn drop_dead(&self, filter: &DeadFilter, limit: usize) -> Result<DeadStep>;

    /// The timetable, by queue and name.
    async fn schedules(&self) -> Result<Vec<ScheduleRecord>>;
}

/// Looks into the queues and sets things right, wherever the workers are. Cheap to clone.
///
/// All methods are safe to cancel; each change is made as a whole or not at all, and [`replay_dead`](Self::replay_dead)
/// and [`drop_dead`](Self::drop_dead) in steps.
#[derive(Clone)]
pub struct JobsAdmin {
    jobs: Jobs,
}

impl JobsAdmin {
    pub(crate) fn new(jobs: Jobs) -> Self {
        Self { jobs }
    }

    /// Opens the queues of this database as they are, without a service and without bringing the schema up to date.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Migration`] if the schema is not there or older than this program: start the service first.
    /// [`ErrorKind::Unavailable`] if the server can't be reached.
    pub async fn open(pool: DbPool) -> Result<Self> {
        let adapter = PostgresAdapter::open(pool).await?;
        let config = crate::JobsConfig::default();
        Ok(Self::new(Jobs::new(std::sync::Arc::new(adapter), &config)))
    }

    fn adapter(&self, operation: &'static str) -> Result<&dyn AdminAdapter> {
        let adapter = &self.jobs.inner.adapter;
        adapter.admin().ok_or_else(|| {
            let reason = "this adapter can't be administered";
            Error::new(ErrorKind::Unsupported, operation, adapter.name(), reason)
        })
    }

    /// Every queue that has unfinished or dead jobs, limits or a schedule, by name, with what is in it.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn queues(&self) -> Result<Vec<QueueRecord>> {
        let mut queues = self.adapter("list")?.queues().await?;
        queues.retain(|queue| self.jobs.sees(&queue.queue));
        Ok(queues)
    }

    /// The jobs that fit, newest first.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn list(&self, filter: JobFilter) -> Result<JobPage> {
        let wanted = match filter.limit {
            0 => PAGE,
            limit => limit.min(LONGEST_PAGE),
        };
        let mut filter = filter;
        if let Some(own) = self.jobs.own_queue() {
            if filter.queue.as_deref().is_some_and(|queue| queue != own) {
                return Ok(JobPage {
                    jobs: Vec::new(),
                    next: None,
                });
            }
            filter.queue = Some(own.to_owned());
        }
        // One more, to know whether there is another page.
        filter.limit = wanted + 1;
        let mut jobs = self.adapter("list")?.list(&filter).await?;
        let more = jobs.len() > wanted;
        jobs.truncate(wanted);
        let next = jobs.last().filter(|_| more).map(|job| job.id);
        Ok(JobPage { jobs, next })
    }

    /// One job with its history; `None` if there is none (any more).
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn show(&self, id: JobId) -> Result<Option<JobDetail>> {
        let detail = self.adapter("show")?.show(id).await?;
        Ok(detail.filter(|detail| self.jobs.sees(&detail.record.queue)))
    }

    /// Makes a job run now, with all its attempts before it: one that is dead or cancelled comes back, one that waits
    /// for its time or its next attempt stops waiting. A job that comes back is not a member of its batch any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::State`] if it is ready, running or done, or if another unfinished job has
    /// its unique key.
    pub async fn retry(&self, id: JobId) -> Result<()> {
        let state = self.state("retry", id).await?;
        if self.adapter("retry")?.retry(id).await? {
            self.jobs.inner.wake.now();
            return Ok(());
        }
        let reason = match state {
            JobState::Dead | JobState::Cancelled => "another unfinished job has its unique key".to_owned(),
            state => format!("it is {}", state.as_str()),
        };
        Err(Error::new(ErrorKind::State, "retry", id, reason))
    }

    /// Cancels a job: at once if it waits. If it runs, its handler is told
    /// ([`JobContext::cancelled`](crate::JobContext::cancelled)) and has ten seconds to end before it is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::State`] if it is finished.
    pub async fn cancel(&self, id: JobId) -> Result<Cancellation> {
        let state = self.state("cancel", id).await?;
        match self.adapter("cancel")?.cancel(id).await? {
            Some(cancellation) => {
                self.jobs.inner.wake.look_at_leases();
                Ok(cancellation)
            }
            None => {
                let reason = format!(
                    "it is {}",
                    if state.is_final() {
                        state.as_str()
                    } else {
                        "finished"
                    }
                );
                Err(Error::new(ErrorKind::State, "cancel", id, reason))
            }
        }
    }

    /// Holds the jobs of a queue back, all over the fleet, until [`resume`](Self::resume). What runs goes on; jobs can
    /// be enqueued. The queue need not exist yet.
    ///
    /// # Errors
    ///
    /// If the store can't be reached; [`ErrorKind::NotFound`] for another queue than that of a scoped handle.
    pub async fn pause(&self, queue: &str) -> Result<()> {
        self.reach("pause", queue)?;
        self.adapter("pause")?.set_paused(queue, true).await
    }

    /// Lets the jobs of a queue run again.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, queue: &str) -> Result<()> {
        self.reach("resume", queue)?;
        self.adapter("resume")?.set_paused(queue, false).await?;
        self.jobs.inner.wake.now();
        Ok(())
    }

    /// Puts dead jobs back into the queue with all their attempts, in steps of 500; returns how many. Those whose
    /// unique key another unfinished job has stay dead.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the steps up to there have taken effect.
    pub async fn replay_dead(&self, filter: DeadFilter) -> Result<u64> {
        let Some(filter) = self.own(filter) else {
            return Ok(0);
        };
        let adapter = self.adapter("replay")?;
        let (mut replayed, mut after) = (0, None);
        loop {
            let step = adapter.replay_dead(&filter, after, STEP).await?;
            replayed += step.changed;
            if step.changed > 0 {
                self.jobs.inner.wake.now();
            }
            match step.more_after {
                Some(last) => after = Some(last),
                None => return Ok(replayed),
            }
        }
    }

    /// Forgets dead jobs, in steps of 500; returns how many.
    ///
    /// # Errors
    ///
    /// As [`replay_dead`](Self::replay_dead).
    pub async fn drop_dead(&self, filter: DeadFilter) -> Result<u64> {
        let Some(filter) = self.own(filter) else {
            return Ok(0);
        };
        let adapter = self.adapter("drop")?;
        let mut dropped = 0;
        loop {
            let step = adapter.drop_dead(&filter, STEP).await?;
            dropped += step.changed;
            if step.more_after.is_none() {
                return Ok(dropped);
            }
        }
    }

    /// The timetable, by queue and name.
    ///
    /// # Errors
    ///
    /// If the store can't be reached.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRecord>> {
        let mut schedules = self.adapter("list")?.schedules().await?;
        schedules.retain(|schedule| self.jobs.sees(&schedule.queue));
        Ok(schedules)
    }

    async fn state(&self, operation: &'static str, id: JobId) -> Result<JobState> {
        match self.jobs.get(id).await? {
            Some(record) => Ok(record.state),
            None => Err(Error::new(ErrorKind::NotFound, operation, id, "no such job")),
        }
    }

    fn reach(&self, operation: &'static str, queue: &str) -> Result<()> {
        if self.jobs.sees(queue) {
            return Ok(());
        }
        let reason = "this handle sees only its own queue";
        Err(Error::new(ErrorKind::NotFound, operation, queue, reason))
    }

    /// The part of the filter that this handle sees.
    fn own(&self, mut filter: DeadFilter) -> Option<DeadFilter> {
        if let Some(own) = self.jobs.own_queue() {
            if filter.queue.as_deref().is_some_and(|queue| queue != own) {
                return None;
            }
            filter.queue = Some(own.to_owned());
        }
        Some(filter)
    }
}

impl fmt::Debug for JobsAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobsAdmin").field(&self.jobs).finish()
    }
}
