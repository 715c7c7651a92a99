use std::borrow::Cow;
use std::fmt;

/// What the crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cache operation failed, in classes a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store did not answer within the operation's timeout.
    Timeout,
    /// The store can't be reached, is loading, or refuses writes; or the breaker is open because of that.
    Unavailable,
    /// The store refused the credentials or the command.
    Denied,
    /// The store is out of memory and evicts nothing.
    Full,
    /// The key, the time to live or the value can't be used with this call.
    InvalidInput,
    /// The value can't be turned into bytes.
    Encode,
    /// The settings can't work.
    Config,
    /// Someone else holds the lock, and went on holding it for as long as this call would wait.
    Locked,
    /// Anything else the store answered.
    Other,
}

impl ErrorKind {
    /// The name used in metrics and health output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::InvalidInput => "invalid_input",
            Self::Encode => "encode",
            Self::Config => "config",
            Self::Locked => "locked",
            Self::Other => "other",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Timeout | Self::Unavailable => {
                "try again shortly, or use get_or_load, which needs no cache"
            }
            Self::Denied => "check the user, password and permissions in REDIS_URL",
            Self::Full => "give the store more memory or an eviction policy such as allkeys-lru",
            Self::InvalidInput => "correct the call",
            Self::Encode => "give the type a serde representation that JSON can hold",
            Self::Config => "correct the setting and start again",
            Self::Locked => "try again later",
            Self::Other => "see the source of this error",
        }
    }
}

/// An error of the cache: what was attempted, on what, and why it failed.
///
/// `Display` is one line. The cause, where there is one, is the [`source`](std::error::Error::source). Keys appear
/// shortened and escaped; values and connection strings never do. Keys are names: hash a token before you make it a
/// part of a key.
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
        subject: impl AsRef<str>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        let subject = shorten(subject.as_ref());
        Self {
            kind,
            operation,
            subject,
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

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// What was attempted: `get`, `set`, `connect` …
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What it was attempted on: the key (shortened) or the server's address.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Locked
        )
    }

    /// Whether the store as a whole is out of reach; such errors count towards opening the breaker.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, ErrorKind::Timeout | ErrorKind::Unavailable)
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
            "cache {operation} failed on {subject}: {reason}; {}",
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

/// Keys may be long and may hold control characters; an error line may not.
fn shorten(subject: &str) -> String {
    const LIMIT: usize = 80;
    let mut chars = subject.chars();
    let mut short: String = chars.by_ref().take(LIMIT).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_short_line_with_the_next_step() {
        let key = format!("a\nb{}", "x".repeat(500));
        let error = Error::new(ErrorKind::Timeout, "get", &key, "no answer within 100ms");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        assert!(text.len() < 300, "{text}");
        assert!(text.starts_with("cache get failed on `a\\nb"), "{text}");
        assert!(
            text.contains("no answer within 100ms; try again shortly"),
            "{text}"
        );
    }
}
