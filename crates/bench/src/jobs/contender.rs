//! What is asked of every queue of jobs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Jobs of a batch.
pub(super) const BATCH: usize = 1000;
/// The longest a peer may take for one measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The job that does nothing, the same for everyone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) number: u64,
    pub(super) key: String,
}

impl Payload {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number: number as u64,
            key: "asl/pdfs/2024/lead-and-iron.pdf".to_owned(),
        }
    }

    pub(super) fn batch() -> Vec<Self> {
        (0..BATCH).map(Self::new).collect()
    }
}

/// How a peer is set up. How soon a job starts is asked only of the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    /// As it comes, with what its documentation shows for many jobs.
    Default,
    /// With everything it has for speed.
    Fastest,
}

/// A queue of jobs with a database of its own.
#[async_trait(?Send)]
pub(super) trait Contender {
    /// With its version.
    fn name(&self) -> String;

    /// Forgets every job.
    async fn clear(&self) -> anyhow::Result<()>;

    /// In batches of [`BATCH`], one after the other.
    async fn enqueue(&self, batches: usize) -> anyhow::Result<()>;

    /// Looks at the tables as autovacuum would have by now.
    async fn settle(&self) -> anyhow::Result<()>;

    /// Starts to work and stops when so many jobs are done and stored as done; how long that took from the start.
    async fn work(&self, jobs: usize) -> anyhow::Result<Duration>;

    /// For so long, now and then a job into the empty queue of a worker that waits: from the call that enqueues it,
    /// by another client, to its handler. Empty when this is not asked of this contender.
    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>>;
}

/// What the handlers of one contender tell.
pub(super) struct Tally {
    ran: AtomicUsize,
    awaited: AtomicBool,
    started: Mutex<Option<Instant>>,
    bell: Notify,
}

impl Tally {
    pub(super) const fn new() -> Self {
        Self {
            ran: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            started: Mutex::new(None),
            bell: Notify::const_new(),
        }
    }

    /// A handler runs.
    pub(super) fn handled(&self) {
        if self.awaited.load(Ordering::Acquire) && self.awaited.swap(false, Ordering::AcqRel) {
            *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.bell.notify_one();
        }
        self.ran.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn forget(&self) {
        self.ran.store(0, Ordering::Relaxed);
    }

    /// Waits until so many handlers ran and the store has nothing left, and says when that was.
    pub(super) async fn drained(
        &self,
        jobs: usize,
        left: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ran = self.ran.load(Ordering::Relaxed);
            if ran >= jobs && !left().await? {
                return Ok(Instant::now());
            }
            ensure!(
                Instant::now() < deadline,
                "{ran} of {jobs} jobs ran within {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// One sample after the other.
    pub(super) async fn starts(
        &self,
        duration: Duration,
        enqueue: impl AsyncFn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Duration>> {
        let end = Instant::now() + duration;
        let mut starts = Vec::new();
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(20..60))).await;
            self.awaited.store(true, Ordering::Release);
            let begin = Instant::now();
            enqueue().await?;
            tokio::time::timeout(PATIENCE, self.bell.notified())
                .await
                .context("a job was never started")?;
            let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).take();
            starts.push(started.context("told before it began")? - begin);
        }
        Ok(starts)
    }
}
