//! What can go wrong, and what to do about it.

use std::{error::Error as StdError, fmt, time::Duration};

/// A boxed error of any kind, as streams and custom adapters produce them.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of a storage operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure; branch on this, not on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no object under this key.
    NotFound,
    /// The object exists and the write asked to create only.
    AlreadyExists,
    /// The key breaks a rule of [`Key`](crate::Key).
    InvalidKey,
    /// An option or a body breaks a limit or is contradictory.
    InvalidInput,
    /// The range starts at or after the end of the object.
    InvalidRange,
    /// The object is no longer the one the caller asked for (`if_match`).
    Changed,
    /// The back end refuses the caller (policy, permissions, a symbolic link in the way).
    Denied,
    /// The credentials are unknown, expired or could not be fetched.
    Credential,
    /// The back end computed another signature: a wrong secret, or a bug.
    Signature,
    /// The clocks of client and server are too far apart.
    ClockSkew,
    /// The configuration can't work (no such bucket, missing setting).
    Config,
    /// The bytes or their checksum are not what they should be.
    Integrity,
    /// Something that isn't an object is in the way (a directory where the file should be).
    Conflict,
    /// The disk or the quota is full.
    NoSpace,
    /// The file system is mounted read-only.
    ReadOnly,
    /// A deadline passed; the text names the phase.
    Timeout,
    /// The back end can't be reached, is overloaded, or broke the connection.
    Unavailable,
    /// This adapter can't do that.
    Unsupported,
    /// The caller's own stream or file failed, or the file changed, while it was being uploaded. Nothing was stored.
    Source,
    /// The multipart upload no longer exists on the server.
    UploadGone,
    /// An answer or an I/O error that fits no other kind.
    Unexpected,
}

impl ErrorKind {
    /// The name used in metrics and logs: lower case, words joined by `_`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::InvalidKey => "invalid_key",
            Self::InvalidInput => "invalid_input",
            Self::InvalidRange => "invalid_range",
            Self::Changed => "changed",
            Self::Denied => "denied",
            Self::Credential => "credential",
            Self::Signature => "signature",
            Self::ClockSkew => "clock_skew",
            Self::Config => "config",
            Self::Integrity => "integrity",
            Self::Conflict => "conflict",
            Self::NoSpace => "no_space",
            Self::ReadOnly => "read_only",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Source => "source",
            Self::UploadGone => "upload_gone",
            Self::Unexpected => "unexpected",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed storage operation: its kind, what was attempted, on what, and why.
///
/// `Display` is one line: `storage upload of "asl/a.pdf" failed: why; what to do next`. The causes are behind
/// [`source`](StdError::source). Neither ever contains a secret or a signed query.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    why: String,
    hint: Option<&'static str>,
    status: Option<u16>,
    code: Option<String>,
    request_id: Option<String>,
    ec: Option<String>,
    retryable: bool,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

impl Error {
    /// A new error. `subject` is the key, prefix, bucket or directory; it is shown in quotes.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let retryable = matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable);
        Self(Box::new(Inner {
            kind,
            operation,
            subject: subject.into(),
            why: why.into(),
            hint: None,
            status: None,
            code: None,
            request_id: None,
            ec: None,
            retryable,
            retry_after: None,
            source: None,
        }))
    }

    /// Adds what the reader should do next.
    #[must_use]
    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.0.hint = Some(hint);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether the same call may succeed if it is repeated.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// The server asked to wait this long before the next attempt.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// Adds what the server answered: status, its own code, and the id to quote in a support ticket.
    #[must_use]
    pub fn with_answer(mut self, status: u16, code: Option<String>, request_id: Option<String>) -> Self {
        self.0.status = Some(status);
        self.0.code = code;
        self.0.request_id = request_id;
        self
    }

    /// Adds the number under which OSS explains the refusal.
    pub(crate) fn with_ec(mut self, ec: Option<String>) -> Self {
        self.0.ec = ec;
        self
    }

    /// Adds a code that tells failures of the same kind apart.
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.0.code = Some(code.to_owned());
        self
    }

    /// The same error, told about another subject (a scoped key without its prefix, for example).
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = subject.into();
        self
    }

    /// The same failure for somebody else who waited for the same thing. The causes come along as text.
    pub(crate) fn repeated(&self) -> Self {
        let Inner {
            kind,
            operation,
            hint,
            status,
            retryable,
            retry_after,
            ..
        } = *self.0;
        Self(Box::new(Inner {
            kind,
            operation,
            subject: self.0.subject.clone(),
            why: self.0.why.clone(),
            hint,
            status,
            code: self.0.code.clone(),
            request_id: self.0.request_id.clone(),
            ec: self.0.ec.clone(),
            retryable,
            retry_after,
            source: self.0.source.as_ref().map(|source| source.to_string().into()),
        }))
    }

    /// Why it failed, without operation, subject and hint.
    pub fn why(&self) -> &str {
        &self.0.why
    }

    /// What the reader should do next.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        self.0.hint
    }

    /// What class of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, such as `upload`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key, prefix, bucket or directory the operation was about.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Whether the same call may succeed if it is repeated. A body that was a stream must be produced again.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long the server asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status of the server's answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The server's own error code (`NoSuchKey`), if it sent one.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// OSS's number of the exact cause (`0026-00000001`), to look up in its documentation. For people: numbers may change.
    pub fn ec(&self) -> Option<&str> {
        self.0.ec.as_deref()
    }

    /// The server's id of the failed request, for a support ticket.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            subject,
            why,
            hint,
            status,
            code,
            request_id,
            ec,
            ..
        } = &*self.0;
        write!(f, "storage {operation} of {subject:?} failed: {why}")?;
        if let Some(status) = status {
            write!(f, " (status {status}")?;
            if let Some(code) = code {
                write!(f, " {code}")?;
            }
            if let Some(ec) = ec {
                write!(f, ", EC {ec}")?;
            }
            if let Some(id) = request_id {
                write!(f, ", request id {id}")?;
            }
            f.write_str(")")?;
        }
        if let Some(hint) = hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retryable", &self.0.retryable)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
