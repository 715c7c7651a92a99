use async_trait::async_trait;

/// One thing that can be well or unwell: a database, a bucket, a search index.
///
/// The engine calls [`run`](Check::run) in the background, never from a probe, and never twice at once. `run` is
/// dropped when it takes longer than [`HealthSettings::timeout`](crate::HealthSettings::timeout), so it has to be
/// safe to cancel at any await point. A panic in it is caught and counts as a failure of kind `panic`.
///
/// A check of a shared pool should take what it needs without queueing: a pool whose connections are all busy is
/// [`Outcome::Degraded`], not [`Outcome::Down`].
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// The name in the report, in lower case: `database`, `storage`, `asl.index`. Read once, at the start.
    ///
    /// The check called `database` also drives the `database` field of the public answer.
    fn name(&self) -> &str;

    /// Whether the service as a whole is in error when this check is down. Read once, at the start.
    fn critical(&self) -> bool {
        true
    }

    /// Looks once and says what it saw.
    async fn run(&self) -> Outcome;
}

/// What one run of a [`Check`] saw.
///
/// The text is a *kind*: a short stable name such as `timeout` or `pool saturated` that may be shown to an
/// operator and used to group. It is not an error message. Anything longer than 64 characters, or with a character
/// other than ASCII letters, digits, space, `_`, `-` and `.`, is replaced by `unspecified`, so that a connection
/// string or a stranger's error text cannot reach a health page. Log the whole error in the check instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything works.
    Up,
    /// It works, with something an operator should look at.
    Degraded(String),
    /// It does not work.
    Down(String),
}

impl Outcome {
    /// [`Outcome::Degraded`] with this kind.
    pub fn degraded(kind: impl Into<String>) -> Self {
        Self::Degraded(kind.into())
    }

    /// [`Outcome::Down`] with this kind.
    pub fn down(kind: impl Into<String>) -> Self {
        Self::Down(kind.into())
    }

    /// Whether this run failed. A degraded dependency still answers, so it has not.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Down(_))
    }

    /// The kind, or `None` when everything works.
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Degraded(kind) | Self::Down(kind) => Some(kind),
        }
    }
}

const UNSPECIFIED: &str = "unspecified";
const KIND_MAX: usize = 64;

/// Lets a short plain name through and replaces everything else.
pub(crate) fn safe_kind(kind: &str) -> &str {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b' ' | b'_' | b'-' | b'.');
    if !kind.is_empty() && kind.len() <= KIND_MAX && kind.bytes().all(plain) {
        kind
    } else {
        UNSPECIFIED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_kinds_pass() {
        assert_eq!(safe_kind("pool saturated"), "pool saturated");
        assert_eq!(safe_kind("timeout"), "timeout");
        assert_eq!(safe_kind("postgres://u:p@h/db"), UNSPECIFIED);
        assert_eq!(safe_kind(""), UNSPECIFIED);
        assert_eq!(safe_kind("line\nbreak"), UNSPECIFIED);
        assert_eq!(safe_kind(&"x".repeat(65)), UNSPECIFIED);
    }
}
