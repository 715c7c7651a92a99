//! Why a service could not be started or run.

use std::fmt;

use crate::BoxError;

/// A start that failed: what, why, and what to do next.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    next: Option<String>,
    source: Option<BoxError>,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The settings are wrong.
    Config,
    /// A dependency could not be reached or used.
    Dependency,
    /// A module's migrations or `init` failed.
    Module,
    /// The listener could not be opened.
    Listen,
    /// The process could not be set up.
    Process,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, subject: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.into(),
            next: None,
            source: None,
        }
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn try_this(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The process's exit code, after `sysexits.h`: 78 for settings, 69 for a dependency, 70 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Config => 78,
            ErrorKind::Dependency => 69,
            _ => 70,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(source) = &self.source {
            write!(f, ": {}", crate::http::ErrorChain(&**source))?;
        }
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
