use std::borrow::Cow;
use std::fmt;

/// What the crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a jobs operation failed, in classes a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store can't be reached or did not answer in time.
    Unavailable,
    /// This attempt no longer owns its job: the lease ended, and the job may be running elsewhere.
    Fenced,
    /// The store undid the caller's transaction because of others (serialization failure, deadlock).
    Conflict,
    /// The job can't be turned into JSON.
    Encode,
    /// The job, its options or a name can't be used.
    InvalidInput,
    /// There is no such job, queue or schedule.
    NotFound,
    /// The job is in a state in which this can't be done.
    State,
    /// The adapter can't do this.
    Unsupported,
    /// The settings can't work.
    Config,
    /// The store's tables could not be brought up to date.
    Migration,
    /// Anything else the store answered.
    Store,
}

impl ErrorKind {
    /// The name used in metrics and health output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Fenced => "fenced",
            Self::Conflict => "conflict",
            Self::Encode => "encode",
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::State => "state",
            Self::Unsupported => "unsupported",
            Self::Config => "config",
            Self::Migration => "migration",
            Self::Store => "store",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Unavailable => "try again shortly",
            Self::Fenced => "roll back: another attempt will do the work",
            Self::Conflict => "run the whole transaction again",
            Self::Encode => "give the job a serde representation that JSON can hold",
            Self::InvalidInput => "correct the call",
            Self::NotFound => "look at the list for what is there",
            Self::State => "look at the job again",
            Self::Unsupported => "use an adapter that can: postgres, memory",
            Self::Config => "correct the setting and start again",
            Self::Migration => "see the source of this error, then start again",
            Self::Store => "see the source of this error",
        }
    }
}

/// An error of the job queue: what was attempted, on what, and why it failed.
///
/// `Display` is one line; the cause is the [`source`](std::error::Error::source). Payloads never appear in it.
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    reason: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause; adapters written elsewhere use this too.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.to_string(),
            reason: reason.into(),
            source: None,
        }
    }

    /// Keeps the cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was attempted: `enqueue`, `claim` …
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was attempted on: a job id, a kind or a queue.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Conflict)
    }

    /// Whether the store is out of reach: an HTTP service answers 503.
    pub fn is_unavailable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            operation,
            subject,
            reason,
            ..
        } = self;
        write!(
            f,
            "jobs {operation} failed on {subject}: {reason}; {}",
            kind.advice()
        )
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind)
            .field("operation", &self.operation)
            .field("subject", &self.subject);
        out.field("reason", &self.reason);
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
