use std::fmt;
use std::time::Duration;

/// What went wrong with a language model's answer.
#[derive(Debug)]
pub(crate) struct LlmError {
    pub(crate) kind: LlmErrorKind,
    /// For the log: what the endpoint or the network said, without the API key.
    pub(crate) reason: String,
    /// When the endpoint wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
}

/// The kinds, which are also values of a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LlmErrorKind {
    /// No connection, or it broke before the answer began.
    Connect,
    /// 401, 402 or 403: the key, or the account behind it.
    Denied,
    /// Another 4xx: the model or the request.
    Refused,
    /// 429.
    RateLimited,
    /// 5xx.
    Server,
    /// Nothing of the answer came in time.
    FirstToken,
    /// The answer stopped coming.
    Idle,
    /// The answer took longer than any may.
    Total,
    /// The connection broke, or the stream ended, in the middle of the answer.
    Cut,
    /// What came is not the protocol.
    Protocol,
    /// The endpoint reported an error in place of the rest of the answer.
    Reported,
}

impl LlmErrorKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Server => "server",
            Self::FirstToken => "first_token_timeout",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
            Self::Cut => "cut",
            Self::Protocol => "protocol",
            Self::Reported => "reported",
        }
    }

    /// Whether the same question may be asked again, as long as nothing of its answer has come.
    pub(crate) fn is_retryable(self) -> bool {
        matches!(self, Self::Connect | Self::RateLimited | Self::Server)
    }

    /// Whether the endpoint had begun to work on the question, so that it will charge for it.
    pub(crate) fn was_begun(self) -> bool {
        matches!(
            self,
            Self::FirstToken | Self::Idle | Self::Total | Self::Cut | Self::Protocol | Self::Reported
        )
    }

    /// A sentence for the user.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Connect => "The language model can't be reached at the moment. Please try again shortly.",
            Self::Denied => {
                "The language model does not accept the service's key, or its account is exhausted. Please tell the \
                 operator."
            }
            Self::Refused => {
                "The language model refused the request. Please tell the operator; the log says what it answered."
            }
            Self::RateLimited => {
                "The language model is asked too often at the moment. Please try again shortly."
            }
            Self::Server => "The language model has a fault at the moment. Please try again shortly.",
            Self::FirstToken => {
                "The language model did not begin to answer in time. Please try again shortly."
            }
            Self::Idle => "The language model stopped in the middle of its answer. Please ask again.",
            Self::Total => "The answer took longer than it may. Ask for something shorter.",
            Self::Cut => "The answer broke off. Please ask again.",
            Self::Protocol => {
                "What the language model sent could not be understood. Please tell the operator if it happens again."
            }
            Self::Reported => {
                "The language model reported an error in the middle of its answer. Please ask again."
            }
        }
    }
}

impl LlmError {
    pub(crate) fn new(kind: LlmErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            retry_after: None,
        }
    }
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "asking the language model failed ({}): {}",
            self.kind.as_str(),
            self.reason
        )
    }
}

impl std::error::Error for LlmError {}
