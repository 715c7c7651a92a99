use std::fmt;

/// What went wrong, as a value to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A filter that cannot be read.
    Filter,
    /// This process already has a subscriber.
    AlreadyInstalled,
    /// The subscriber that the handle steers is gone.
    Gone,
}

/// Why logging could not be set up or changed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    why: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.into(),
            why: why.into(),
            source: None,
        }
    }

    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change. Never, for this crate.
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// The reason alone, without what was attempted on what.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on {}: {}", self.operation, self.subject, self.why)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
