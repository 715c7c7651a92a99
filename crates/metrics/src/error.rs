/// What went wrong, as a value to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This process already has a recorder.
    AlreadyInstalled,
    /// The recorder could not be built.
    Build,
}

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed on {subject}: {why}")]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: &'static str,
    why: &'static str,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: &'static str,
        why: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            operation,
            subject,
            why,
            source: Some(Box::new(source)),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change. Never, for this crate.
    pub fn is_retryable(&self) -> bool {
        false
    }
}
