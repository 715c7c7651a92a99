use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};
use crate::policy::Policy;

/// A piece of background work: plain data that says what is to be done.
///
/// The data is stored as JSON, up to 1 MiB; put large things into storage and their key into the job. A job may run
/// more than once (a worker can die after the work and before the tick), so its handler must bear that: see
/// [`JobContext::complete_in`](crate::JobContext::complete_in).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    note = "derive `Serialize` and `Deserialize` for it, then `impl Job for {Self} {{ const KIND: &'static str = \"…\"; }}`"
)]
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name under which the job is stored. It must stay the same as long as such jobs are in the queue, and be
    /// unique within the queue: `extract_pdf`.
    const KIND: &'static str;

    /// How often and how patiently it is tried. The number of attempts is stored with the job when it is enqueued;
    /// the pauses and the timeout are those of the program that runs it.
    fn policy() -> Policy {
        Policy::default()
    }
}

/// The name of one job, unique for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id. Ids made later sort later, so that the store's index grows at its end.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as a UUID.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| Error::new(ErrorKind::InvalidInput, "parse", "a job id", "it is not a UUID"))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When and how a job is enqueued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnqueueOptions {
    /// Run it this long after it is enqueued, on the store's clock.
    pub delay: Option<Duration>,
    /// Run it at this moment or later, on the store's clock; `delay` is added if both are set.
    pub run_at: Option<Timestamp>,
    /// Higher runs first. Default: 0.
    pub priority: i16,
    /// At most one unfinished job of this queue, kind and key: enqueuing another returns the id of the one that is
    /// waiting or running and changes nothing about it. Up to 512 bytes.
    pub unique_key: Option<String>,
    /// The W3C `traceparent` of what caused the job; it is handed to the handler and its trace id is put on the job's
    /// log lines.
    pub traceparent: Option<String>,
    /// The id of the request that caused the job, for its log lines.
    pub request_id: Option<String>,
    /// The job's own id, for a caller that writes it elsewhere before it enqueues; a new one by default. With a
    /// `unique_key` the answer may be another job's.
    pub id: Option<JobId>,
}

impl EnqueueOptions {
    /// Run after `delay`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Enqueue under this id.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// Run at `run_at` or later.
    pub fn run_at(mut self, run_at: Timestamp) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// Higher runs first.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// At most one unfinished job with this key.
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// The trace that caused it.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The request that caused it.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }
}
