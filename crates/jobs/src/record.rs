use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::batch::BatchId;
use crate::job::JobId;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// Could run now: waiting for a worker.
    Ready,
    /// Waiting for its time, or for its next attempt.
    Scheduled,
    /// A worker has it.
    Running,
    /// Finished well.
    Done,
    /// Given up: a fatal error, or no attempts left.
    Dead,
    /// Ended by [`JobsAdmin::cancel`](crate::JobsAdmin::cancel).
    Cancelled,
}

impl JobState {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Scheduled,
        Self::Running,
        Self::Done,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The name in the store, in metrics and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen to it by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }
}

/// How far a running job is, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
}

/// One job as it is in the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The queue it is in.
    pub queue: String,
    /// [`Job::KIND`](crate::Job::KIND).
    pub kind: String,
    /// The job as JSON text.
    pub payload: String,
    /// Where it stands.
    pub state: JobState,
    /// Higher runs first.
    pub priority: i16,
    /// Attempts started so far.
    pub attempt: u32,
    /// Attempts it has in all.
    pub max_attempts: u32,
    /// When it may run next, or ran last.
    pub run_at: Timestamp,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it was done, dead or cancelled.
    pub finished_at: Option<Timestamp>,
    /// What the last failed attempt said.
    pub error: Option<String>,
    /// The key that keeps others like it out while it is unfinished.
    pub unique_key: Option<String>,
    /// The trace that caused it.
    pub traceparent: Option<String>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// The batch it is a member of.
    pub batch: Option<BatchId>,
    /// How far it said it was.
    pub progress: Option<Progress>,
}

/// How many jobs of one queue stand where.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueueCounts {
    /// The queue.
    pub queue: String,
    /// Could run now.
    pub ready: u64,
    /// Wait for their time or their next attempt.
    pub scheduled: u64,
    /// A worker has them.
    pub running: u64,
    /// Of the running: the lease has ended and no worker took them up yet.
    pub stuck: u64,
    /// Given up and still kept.
    pub dead: u64,
    /// Of the dead: given up in the last hour.
    pub dead_lately: u64,
    /// How long the longest-waiting ready job has been ready.
    #[serde(rename = "oldest_ready_seconds", serialize_with = "seconds")]
    pub oldest_ready: Duration,
}

/// A span of time as one number, for machines.
pub(crate) fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}
