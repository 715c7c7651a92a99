use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use tokio_postgres::error::{DbError, ErrorPosition, SqlState};

/// A `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for code that decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Every connection was busy until the deadline.
    Saturated,
    /// A deadline passed; [`Error::phase`] says in which phase.
    Timeout,
    /// The server cannot be reached, is starting or is shutting down.
    Unreachable,
    /// The connection broke while a statement was running; whether it took effect is not known.
    Disconnected,
    /// TLS could not be agreed on: a wrong certificate, or the server has none.
    Tls,
    /// User, password, database name or permission to connect.
    Auth,
    /// The server has no connection left (SQLSTATE 53300).
    TooManyConnections,
    /// The server is a replica or was set to read only (SQLSTATE 25006).
    ReadOnly,
    /// A serialization failure (SQLSTATE 40001): run the transaction again.
    Serialization,
    /// A deadlock (SQLSTATE 40P01): run the transaction again.
    Deadlock,
    /// A lock was not available in time (SQLSTATE 55P03).
    LockNotAvailable,
    /// A unique constraint (SQLSTATE 23505).
    UniqueViolation,
    /// A foreign key (SQLSTATE 23503).
    ForeignKeyViolation,
    /// Another constraint (SQLSTATE class 23).
    ConstraintViolation,
    /// `query_one` found no row, or several.
    RowCount,
    /// A value could not be turned into or out of PostgreSQL's format, or the number of parameters is wrong.
    Conversion,
    /// The server refused the statement for another reason; see [`Error::sql_state`].
    Query,
    /// The pool was drained.
    Closed,
    /// The settings cannot be used.
    Config,
    /// A migration cannot be applied.
    Migration,
    /// Not possible on a pooled connection string.
    Unsupported,
}

/// The phase in which a deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a connection that others hold.
    Waiting,
    /// Opening a connection.
    Dialling,
    /// Testing a connection that sat idle.
    Recycling,
    /// Waiting for the server's answer.
    Reading,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Dialling => "dialling",
            Self::Recycling => "recycling",
            Self::Reading => "reading",
        })
    }
}

/// An error of the pool: what was attempted, on which database, why it failed and what to do.
///
/// Neither `Display` nor `Debug`, nor those of the causes, contain a connection string, a password or the values of
/// rows. The server's own detail, which quotes values, is reached through [`Error::db_error`] alone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    phase: Option<Phase>,
    operation: &'static str,
    subject: String,
    reason: String,
    source: Option<Cause>,
}

#[derive(Clone)]
enum Cause {
    Driver(Arc<tokio_postgres::Error>, ServerError),
    Other(Arc<dyn StdError + Send + Sync>),
    /// What kept the caller from its connection.
    Earlier(Error),
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            phase: None,
            operation,
            subject: subject.into(),
            reason: reason.into(),
            source: None,
        }))
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    pub(crate) fn at(self, phase: Phase) -> Self {
        self.change(|inner| inner.phase = Some(phase))
    }

    pub(crate) fn because(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.source = Some(Cause::Other(Arc::new(source))))
    }

    pub(crate) fn after(self, earlier: Option<Error>) -> Self {
        match earlier {
            Some(earlier) => self.change(|inner| inner.source = Some(Cause::Earlier(earlier))),
            None => self,
        }
    }

    /// As [`after`](Self::after), where the reason says it already.
    pub(crate) fn after_quietly(self, earlier: Error) -> Self {
        self.change(|inner| inner.source = earlier.0.source.clone())
    }

    /// The same, where it cannot be told whether it took effect.
    pub(crate) fn unknown_outcome(self) -> Self {
        self.change(|inner| inner.kind = ErrorKind::Disconnected)
    }

    pub(crate) fn doing(self, operation: &'static str) -> Self {
        self.change(|inner| inner.operation = operation)
    }

    /// From the driver, while running a statement.
    pub(crate) fn statement(
        operation: &'static str,
        subject: impl Into<String>,
        error: tokio_postgres::Error,
    ) -> Self {
        Self::driver(operation, subject, error, ErrorKind::Disconnected)
    }

    /// From the driver, while opening a connection.
    pub(crate) fn dial(subject: impl Into<String>, error: tokio_postgres::Error) -> Self {
        let text = error.to_string();
        let kind = if text.starts_with("error performing TLS") {
            ErrorKind::Tls
        } else if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
            ErrorKind::Auth
        } else {
            ErrorKind::Unreachable
        };
        Self::driver("connect", subject, error, kind)
    }

    fn driver(
        operation: &'static str,
        subject: impl Into<String>,
        error: tokio_postgres::Error,
        broken: ErrorKind,
    ) -> Self {
        let view = ServerError::of(&error);
        let kind = match error.code() {
            Some(code) => kind_of(code),
            None => {
                let text = error.to_string();
                if text.starts_with("query returned an unexpected number") {
                    ErrorKind::RowCount
                } else if [
                    "error serializing",
                    "error deserializing",
                    "invalid column",
                    "expected ",
                ]
                .iter()
                .any(|start| text.starts_with(start))
                {
                    ErrorKind::Conversion
                } else {
                    broken
                }
            }
        };
        let reason = view.to_string();
        let error = Self::new(kind, operation, subject, reason)
            .change(|inner| inner.source = Some(Cause::Driver(Arc::new(error), view)));
        if kind == ErrorKind::Timeout {
            error.at(Phase::Reading)
        } else {
            error
        }
    }

    pub(crate) fn config(variable: &str, reason: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Config,
            "read the settings",
            variable,
            reason.to_string(),
        )
    }

    pub(crate) fn timeout(
        operation: &'static str,
        subject: impl Into<String>,
        phase: Phase,
        reason: impl Into<String>,
    ) -> Self {
        let kind = if phase == Phase::Waiting {
            ErrorKind::Saturated
        } else {
            ErrorKind::Timeout
        };
        Self::new(kind, operation, subject, reason).at(phase)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// In which phase a deadline passed; `None` when none did.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// What was attempted.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// On what it was attempted.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The code of the server's answer, if it gave one. For an error that names an earlier cause, the cause's code.
    pub fn sql_state(&self) -> Option<&SqlState> {
        match &self.0.source {
            Some(Cause::Driver(error, _)) => error.code(),
            Some(Cause::Earlier(earlier)) => earlier.sql_state(),
            _ => None,
        }
    }

    /// The server's answer in full. Its detail and hint may quote the values of rows: mind where it is shown.
    pub fn db_error(&self) -> Option<&DbError> {
        match &self.0.source {
            Some(Cause::Driver(error, _)) => error.as_db_error(),
            Some(Cause::Earlier(earlier)) => earlier.db_error(),
            _ => None,
        }
    }

    /// The constraint that a statement violated.
    pub fn constraint(&self) -> Option<&str> {
        self.db_error().and_then(DbError::constraint)
    }

    /// Whether nothing took effect and the same may go well in a moment: run the whole transaction again.
    ///
    /// True of what others got in the way of (serialization failure, deadlock, lock not available) as well as of a
    /// database out of reach. An HTTP handler that does not run it again itself lets its client do so: 503 with
    /// `retry-after`, as for [`is_unavailable`](Self::is_unavailable), and never 500.
    ///
    /// `false` for [`ErrorKind::Disconnected`]: there the commit may have happened.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Saturated
            | ErrorKind::Unreachable
            | ErrorKind::TooManyConnections
            | ErrorKind::Serialization
            | ErrorKind::Deadlock
            | ErrorKind::LockNotAvailable => true,
            ErrorKind::Timeout => self.0.phase != Some(Phase::Reading),
            _ => false,
        }
    }

    /// Whether the database is of no use at present, through no fault of the request: answer 503 with `retry-after`.
    /// Not true of a conflict between transactions, which says nothing about the database; that
    /// [is retryable](Self::is_retryable).
    pub fn is_unavailable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Saturated
            | ErrorKind::Unreachable
            | ErrorKind::Disconnected
            | ErrorKind::Tls
            | ErrorKind::Auth
            | ErrorKind::TooManyConnections
            | ErrorKind::ReadOnly
            | ErrorKind::Closed => true,
            // With a code, the server is well and ended a slow statement; without, it did not answer at all.
            ErrorKind::Timeout => self.sql_state().is_none(),
            _ => false,
        }
    }

    /// Whether the connection this came from is of no further use.
    pub(crate) fn spoils_connection(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Disconnected | ErrorKind::Unreachable | ErrorKind::ReadOnly
        )
    }

    /// Byte offset of the error in the statement's text, where the server gave one.
    pub(crate) fn offset(&self, sql: &str) -> Option<usize> {
        match self.db_error()?.position()? {
            ErrorPosition::Original(position) => {
                let characters = usize::try_from(*position).ok()?.checked_sub(1)?;
                sql.char_indices().nth(characters).map(|(offset, _)| offset)
            }
            ErrorPosition::Internal { .. } => None,
        }
    }

    /// Why it failed, without operation, subject and advice.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

fn kind_of(code: &SqlState) -> ErrorKind {
    match code.code() {
        "40001" => ErrorKind::Serialization,
        "40P01" => ErrorKind::Deadlock,
        "23505" => ErrorKind::UniqueViolation,
        "23503" => ErrorKind::ForeignKeyViolation,
        "25006" => ErrorKind::ReadOnly,
        "53300" => ErrorKind::TooManyConnections,
        "55P03" => ErrorKind::LockNotAvailable,
        "57014" => ErrorKind::Timeout,
        "57P01" | "57P02" | "57P03" => ErrorKind::Unreachable,
        "25P03" | "57P05" => ErrorKind::Disconnected,
        // The statement and its parameters do not fit together; the connection is well.
        "08P01" => ErrorKind::Query,
        "3D000" => ErrorKind::Auth,
        other => match &other[..2] {
            "08" => ErrorKind::Disconnected,
            "28" => ErrorKind::Auth,
            "23" => ErrorKind::ConstraintViolation,
            _ => ErrorKind::Query,
        },
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "{} on {}: ", inner.operation, inner.subject)?;
        if let (ErrorKind::Saturated | ErrorKind::Timeout, Some(phase)) = (inner.kind, inner.phase) {
            write!(f, "timed out while {phase}: ")?;
        }
        f.write_str(&inner.reason)?;
        if let Some(Cause::Earlier(earlier)) = &inner.source {
            write!(f, " (last cause: {})", earlier.0.reason)?;
        }
        if let Some(advice) = advice(inner.kind) {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

fn advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Saturated => {
            "hold connections for less time, or raise DB_POOL_SIZE within the server's budget"
        }
        ErrorKind::Tls => "check sslmode and sslrootcert in DATABASE_URL",
        ErrorKind::Auth => "check user, password and database name in DATABASE_URL",
        ErrorKind::TooManyConnections => "lower DB_MAX_INSTANCES or DB_POOL_SIZE, or use DATABASE_POOLED_URL",
        ErrorKind::Unreachable => "check that PostgreSQL runs there; the pool tries again by itself",
        ErrorKind::ReadOnly => {
            "the server is a replica; with target_session_attrs=read-write in DATABASE_URL \
                                the pool looks for the primary"
        }
        _ => return None,
    })
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &inner.kind);
        if let Some(phase) = inner.phase {
            debug.field("phase", &phase);
        }
        if let Some(code) = self.sql_state() {
            debug.field("sql_state", &code.code());
        }
        debug
            .field("operation", &inner.operation)
            .field("subject", &inner.subject)
            .field("reason", &inner.reason);
        if let Some(source) = self.source() {
            debug.field("source", &source.to_string());
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.source.as_ref()? {
            Cause::Driver(_, view) => Some(view),
            Cause::Other(error) => Some(&**error),
            Cause::Earlier(error) => Some(error),
        }
    }
}

/// What the driver or the server said, without what quotes values.
#[derive(Clone, Debug)]
struct ServerError {
    text: String,
}

impl ServerError {
    fn of(error: &tokio_postgres::Error) -> Self {
        let text = match error.as_db_error() {
            Some(server) => {
                // Class 22 quotes the value that has the wrong format.
                let code = server.code().code();
                let message = server.message();
                let message = match code.starts_with("22") {
                    true => message.split(": \"").next().unwrap_or(message),
                    false => message,
                };
                let mut text = format!("{message} (SQLSTATE {code})");
                if let Some(constraint) = server.constraint() {
                    text.push_str(&format!(", constraint {constraint}"));
                }
                text
            }
            None => {
                let mut text = error.to_string();
                let mut source = StdError::source(error);
                while let Some(cause) = source {
                    text.push_str(&format!(": {cause}"));
                    source = cause.source();
                }
                text
            }
        };
        // One line, whatever the server wrote.
        Self {
            text: text.replace(['\n', '\r'], " "),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_got_in_the_way_of_is_tried_again_and_an_unknown_outcome_is_not() {
        for code in [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ] {
            let error = Error::new(kind_of(&code), "run a statement", "database", "because of others");
            assert!(error.is_retryable() && !error.is_unavailable(), "{error:?}");
        }
        let lost = Error::new(ErrorKind::Disconnected, "commit", "database", "connection closed");
        let late = Error::timeout("commit", "database", Phase::Reading, "no answer");
        for error in [lost, late] {
            assert!(!error.is_retryable() && error.is_unavailable(), "{error:?}");
        }
    }
}
