//! What a command says when it cannot go on.

use std::fmt;

/// A message for the person at the keyboard, and the status to leave with.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// A program that was started here has failed: leave with its status.
    pub(crate) fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self {
            message: message.into(),
            code: code.max(1),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Says what was attempted, in front of what went wrong.
    pub(crate) fn while_doing(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            code: self.code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// `path: why`, for the many calls on files whose error names no path.
pub(crate) fn on_path(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::new(format!("{}: {error}", path.display()))
}
