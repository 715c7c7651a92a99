use std::{fmt, path::PathBuf};

use crate::redact;

/// Where a value came from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The default written in the section.
    Default,
    /// A default that stands for the whole program, with the reason: "DEPLOYMENT_MODE=cloud".
    ModeDefault(String),
    /// `zhuji.toml` or the file that `CONFIG_FILE` names.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The `.env` file of a development machine.
    Dotenv {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The file that `NAME_FILE` names.
    SecretFile {
        /// The variable that names the file, such as `DATABASE_URL_FILE`.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// The environment of the process.
    Environment,
    /// The command line.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |path: &PathBuf| redact::display(&path.display().to_string(), 120);
        match self {
            Self::Default => f.write_str("default"),
            Self::ModeDefault(why) => write!(f, "default, {why}"),
            Self::File { path, line } | Self::Dotenv { path, line } => write!(f, "{}:{line}", show(path)),
            Self::SecretFile { variable, path } => write!(f, "{variable}={}", show(path)),
            Self::Environment => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
