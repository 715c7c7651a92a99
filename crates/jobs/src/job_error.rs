use std::fmt;

/// How an attempt failed.
///
/// Any error becomes one with `?` and means "try again". Say [`fatal`](Self::fatal) when trying again can't help: the
/// job is dead at once.
///
/// The text of the error and its causes is kept with the job (at most 2,000 characters; what
/// [`zhuji_logging::redact`] masks in log lines is masked here as well).
pub struct JobError {
    pub(crate) class: Class,
    source: Box<dyn std::error::Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Retry,
    Fatal,
    Interrupted,
}

impl JobError {
    /// Try again after a pause, as long as attempts are left.
    pub fn retry(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            class: Class::Retry,
            source: source.into(),
        }
    }

    /// Trying again can't help.
    pub fn fatal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            class: Class::Fatal,
            source: source.into(),
        }
    }

    /// The handler stopped because [`JobContext::cancelled`](crate::JobContext::cancelled) said so. While the worker
    /// is stopping, the job goes back to the queue and the attempt is not counted; otherwise this is a retry.
    pub fn interrupted() -> Self {
        Self {
            class: Class::Interrupted,
            source: "interrupted".into(),
        }
    }

    /// Whether it said that trying again can't help.
    pub fn is_fatal(&self) -> bool {
        self.class == Class::Fatal
    }

    /// The error and its causes in one line.
    pub(crate) fn text(&self) -> String {
        let mut text = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Many errors repeat their cause in their own text.
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

// Not an `Error` itself: then every error could not be turned into one by `?`.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobError")
            .field("class", &self.class)
            .field("source", &self.source)
            .finish()
    }
}
