//! Failures and their exit codes.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, in a sentence for the operator.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// The work could not be done: 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1,
        }
    }

    /// The command was called in a wrong way: 2, as for a wrong option.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 2,
        }
    }

    /// What the work stands on can't be reached: 69, as from a service that can't start for it.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 69,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<zhuji_storage::Error> for Failure {
    fn from(error: zhuji_storage::Error) -> Self {
        Self::failed(error.to_string())
    }
}
