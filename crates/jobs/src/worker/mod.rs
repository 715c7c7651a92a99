//! A worker: claims jobs of one queue, runs their handlers, keeps their leases, reports how they ended.
//!
//! Tasks of a worker: the claim loop ([`claim`]), one per running job ([`run`]), one that reports ends in batches
//! ([`finish`]), one that renews leases ([`lease`]) and one that notes progress. [`upkeep`] runs once per process.

mod claim;
mod finish;
mod handle;
mod lease;
mod progress;
mod run;
mod timetable;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::handle::{StopReport, WorkerHandle};
pub(crate) use self::timetable::Timetable;
pub(crate) use self::upkeep::Upkeep;

use crate::adapter::{Fence, JobsAdapter, WorkerId};
use crate::context::Notes;
use crate::job_set::JobSet;
use crate::jobs::Jobs;
use crate::limit::Limit;
use crate::meters::KindMeters;

/// How a worker works.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WorkerSettings {
    /// Jobs this worker runs at once, at most. `None`: as many as the process may run (`JOBS_CONCURRENCY`), which all
    /// workers of the process share in any case.
    pub concurrency: Option<NonZeroUsize>,
    /// What all workers of this queue keep to together, wherever they run. `None`: what they keep to already.
    pub limit: Option<Limit>,
}

impl WorkerSettings {
    /// At most this many jobs at once; 0 means 1.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = Some(NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN));
        self
    }

    /// From the start of this worker on, all workers of its queue together keep to this.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A worker that is ready to start: see [`Jobs::worker`].
#[derive(Debug)]
#[must_use = "a worker does nothing until it is started"]
pub struct Worker {
    jobs: Jobs,
    set: JobSet,
    settings: WorkerSettings,
}

impl Worker {
    pub(crate) fn new(jobs: Jobs, set: JobSet, settings: WorkerSettings) -> Self {
        Self { jobs, set, settings }
    }

    /// Starts claiming and running jobs in the background. Must be called on a tokio runtime.
    pub fn start(self) -> WorkerHandle {
        let (reports, inbox) = mpsc::channel(finish::INBOX);
        let kinds = self.set.kinds();
        let meters = kinds
            .map(|kind| (kind, KindMeters::new(self.jobs.queue(), kind)))
            .collect();
        let shared = Arc::new(Shared {
            meters,
            queue: self.jobs.queue().to_owned(),
            concurrency: self.settings.concurrency,
            own_permits: self
                .settings
                .concurrency
                .map(|jobs| Arc::new(Semaphore::new(jobs.get()))),
            limit: self.settings.limit,
            jobs: self.jobs,
            set: self.set,
            id: WorkerId::generate(),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            force: CancellationToken::new(),
            kill: CancellationToken::new(),
            strays: AtomicBool::new(false),
            limited: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
            handed_back: AtomicUsize::new(0),
            news: Arc::default(),
            reports,
        });
        tracing::debug!(worker = %shared.id, module = shared.queue, kinds = ?shared.set, "worker started");
        let upkeep = Upkeep::share(&shared.jobs);
        let claim = tokio::spawn(claim::run(shared.clone()));
        let finish = tokio::spawn(finish::run(shared.adapter().clone(), inbox));
        let lease = tokio::spawn(lease::run(shared.clone()));
        let progress = tokio::spawn(progress::run(shared.clone()));
        WorkerHandle::new(
            shared,
            claim,
            [finish, lease, progress].map(|task| task.abort_handle()),
            upkeep,
        )
    }
}

/// What the tasks of one worker share.
struct Shared {
    jobs: Jobs,
    queue: String,
    set: JobSet,
    meters: BTreeMap<&'static str, KindMeters>,
    limit: Option<Limit>,
    id: WorkerId,
    /// Limits this worker alone; the process's permits limit all together.
    own_permits: Option<Arc<Semaphore>>,
    concurrency: Option<NonZeroUsize>,
    /// What is running here, for the leases. By claim and not by job: this worker may have claimed a job again before
    /// its task of the earlier claim has come to its end.
    running: Mutex<HashMap<Fence, Running>>,
    /// One task per running job.
    tasks: TaskTracker,
    /// No more claims; handlers are told.
    stopping: CancellationToken,
    /// The grace period is over: handlers are dropped and their jobs handed back.
    force: CancellationToken,
    /// The handle is gone: everything is dropped, nothing reported.
    kill: CancellationToken,
    /// A claim went wrong after it may have taken effect: the store may hold claims that nobody here knows.
    strays: AtomicBool,
    /// There may be jobs that limits held back: the end of another is worth a look.
    limited: AtomicBool,
    /// Counted since the stop began.
    finished: AtomicUsize,
    handed_back: AtomicUsize,
    reports: mpsc::Sender<finish::Parcel>,
    /// Handlers have said how far they are.
    news: Arc<Notify>,
}

#[derive(Clone)]
struct Running {
    /// Told to the handler.
    cancelled: CancellationToken,
    /// The job belongs to someone else now: the handler is dropped.
    lost: CancellationToken,
    notes: Arc<Notes>,
}

impl Shared {
    fn adapter(&self) -> &Arc<dyn JobsAdapter> {
        &self.jobs.inner.adapter
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Fence, Running>> {
        // No step under the lock can panic half-way, so a poisoned lock is as good as a whole one.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fences(&self) -> Vec<Fence> {
        self.running().keys().copied().collect()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("queue", &self.queue)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
