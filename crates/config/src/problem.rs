use std::fmt;

use crate::{origin::Source, redact};

/// How many characters of a bad value a message shows.
pub(crate) const SHOWN: usize = 60;

/// What is wrong with a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Required, and not set.
    Missing,
    /// Set to something its type can't read, or that a check refused.
    Invalid,
    /// Set, under a known prefix or in our file, and not a variable of this program.
    Unknown,
    /// Set twice in ways that contradict: `X` and `X_FILE`, or a name and its alias.
    Conflict,
    /// A file that was asked for can't be read.
    Unreadable,
    /// A file that can be read but not understood.
    Malformed,
    /// The section's own default does not parse: a mistake in the program, not in the environment.
    BadDefault,
}

/// One thing to mend, with everything needed to mend it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The variable, or the file for [`Malformed`](ProblemKind::Malformed).
    pub variable: String,
    /// What is wrong.
    pub kind: ProblemKind,
    /// What a good value looks like.
    pub expected: Option<String>,
    /// What was found, redacted, escaped and cut.
    pub found: Option<String>,
    /// Where the value came from.
    pub source: Option<Source>,
    /// What is wrong in detail, or why it matters.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a variable. Control characters in the name are escaped.
    pub fn new(variable: impl AsRef<str>, kind: ProblemKind) -> Self {
        Self {
            variable: redact::name(variable.as_ref()),
            kind,
            expected: None,
            found: None,
            source: None,
            detail: None,
            hint: None,
        }
    }

    /// A variable that another setting makes necessary: `Problem::required("OSS_BUCKET", "STORAGE_TYPE=oss")` prints
    /// "OSS_BUCKET is required because STORAGE_TYPE=oss". The reason is printed: keep secrets out of it.
    pub fn required(variable: impl AsRef<str>, because: impl fmt::Display) -> Self {
        Self::new(variable, ProblemKind::Missing).with_detail(format!("required because {because}"))
    }

    /// A value that parses and still can't be used. The reason is printed: keep secrets out of it.
    pub fn invalid(variable: impl AsRef<str>, reason: impl Into<String>) -> Self {
        Self::new(variable, ProblemKind::Invalid).with_detail(reason)
    }

    /// A name that is none of `names`, with the one that was probably meant: an adapter that nobody registered.
    pub fn unknown_choice(variable: impl AsRef<str>, found: &str, names: &[&str]) -> Self {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let problem = Self::invalid(variable, "there is no such adapter")
            .with_expected(format!("one of {}", quoted.join(", ")))
            .with_found(found);
        match crate::nearest(found, names.iter().copied()) {
            Some(name) => problem.with_hint(format!("Did you mean `{name}`?")),
            None => problem,
        }
    }

    /// Says what a good value looks like.
    #[must_use]
    pub fn with_expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what was found. Pass only values that are not secret; URLs in it lose password and query.
    #[must_use]
    pub fn with_found(mut self, value: &str) -> Self {
        self.found = Some(redact::display(value, SHOWN));
        self
    }

    /// Says where the value came from.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Says what is wrong in detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        match (self.kind, &self.detail) {
            (ProblemKind::Missing, Some(detail)) => write!(f, " is {detail}")?,
            (ProblemKind::Missing, None) => f.write_str(" is required and not set")?,
            (ProblemKind::Unknown, _) => f.write_str(" is not a variable of this program")?,
            (ProblemKind::Unreadable, Some(detail)) => write!(f, " can't be read: {detail}")?,
            (ProblemKind::BadDefault, _) => f.write_str(" has a built-in default that does not parse")?,
            (_, Some(detail)) => write!(f, ": {detail}")?,
            (_, None) => f.write_str(" is not valid")?,
        }
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, "; found `{found}`")?;
        }
        match &self.hint {
            Some(hint) if hint.ends_with(['.', '?', '!']) => write!(f, ". {hint}"),
            Some(hint) => write!(f, ". {hint}."),
            None => f.write_str("."),
        }
    }
}

/// Every problem of a configuration at once. Never empty when it is returned as an error.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What must be mended, in the order in which it was found.
    pub problems: Vec<Problem>,
    /// What should be looked at: unknown variables under `CONFIG_UNKNOWN=warn`.
    pub warnings: Vec<Problem>,
}

impl Report {
    /// Whether nothing needs mending. Warnings do not count.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems of one variable.
    pub fn of<'a>(&'a self, variable: &'a str) -> impl Iterator<Item = &'a Problem> {
        self.problems
            .iter()
            .filter(move |problem| problem.variable == variable)
    }

    /// Leaves out unknown variables of files: for a program that reads a service's `zhuji.toml` beside it, whose other
    /// variables are none of its business. One that is set in the environment is still a mistake.
    pub fn without_strangers_of_files(mut self) -> Self {
        let stranger = |problem: &Problem| {
            problem.kind == ProblemKind::Unknown && matches!(problem.source, None | Some(Source::File { .. }))
        };
        self.problems.retain(|problem| !stranger(problem));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            0 => f.write_str("the configuration has no problems")?,
            1 => f.write_str("the configuration has 1 problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "\n  {}. {problem}", index + 1)?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

/// The same as `Display`: `fn main() -> Result<(), Report>` then prints something a person can read.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Report {}
