use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::phase::Phase;

/// The service as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every check is up.
    Ok,
    /// Something is wrong that does not stop the service: 200, so that nobody takes it out of rotation.
    Degraded,
    /// A critical check is down or has not reported yet.
    Error,
}

impl Status {
    /// `ok`, `degraded` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Error => "error",
        }
    }
}

/// The `database` field of the public answer, driven by the check called `database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// It answers, perhaps slowly.
    Connected,
    /// It does not answer, or has not been asked yet.
    Disconnected,
    /// This composition has no database.
    Disabled,
}

impl DatabaseState {
    /// `connected`, `disconnected` or `disabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Disabled => "disabled",
        }
    }
}

/// One check's standing, after hysteresis and staleness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStatus {
    /// No result yet. Counts as failed.
    Pending,
    /// It works.
    Up,
    /// It works, with a reservation.
    Degraded,
    /// It does not work, or its last result is too old to count.
    Down,
}

impl CheckStatus {
    /// `pending`, `up`, `degraded` or `down`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }

    /// For a gauge: 1 up, 0.5 degraded, 0 down or pending.
    pub fn as_gauge(self) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Degraded => 0.5,
            Self::Pending | Self::Down => 0.0,
        }
    }

    fn works(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// One check as of the moment of the snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckState {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the service is in error when it is down.
    pub critical: bool,
    /// Where it stands.
    pub status: CheckStatus,
    /// Why it is not up: a short kind that is safe to show.
    pub error_kind: Option<Arc<str>>,
    /// How long the last run took.
    pub latency: Option<Duration>,
    /// When the last run ended.
    pub checked_at: Option<Timestamp>,
    /// Time since then.
    pub age: Option<Duration>,
    /// Failures in a row, also those not yet believed.
    pub consecutive_failures: u32,
}

/// Everything known, copied out of memory in one go. Taking one asks nobody anything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The service as a whole.
    pub status: Status,
    /// The database in particular.
    pub database: DatabaseState,
    /// Every check, in the order of registration.
    pub checks: Vec<CheckState>,
    /// Where the process stands in its life.
    pub phase: Phase,
    /// The version given to the builder.
    pub version: Arc<str>,
    /// Time since the monitor started.
    pub uptime: Duration,
    /// How late the event loop's heartbeat is.
    pub event_loop_lag: Duration,
}

pub(crate) const DATABASE: &str = "database";

pub(crate) fn overall(checks: &[CheckState]) -> (Status, DatabaseState) {
    let mut status = Status::Ok;
    let mut database = DatabaseState::Disabled;
    for check in checks {
        if check.critical && !check.status.works() {
            status = Status::Error;
        } else if check.status != CheckStatus::Up && status == Status::Ok {
            status = Status::Degraded;
        }
        if &*check.name == DATABASE {
            let works = check.status.works();
            database = if works {
                DatabaseState::Connected
            } else {
                DatabaseState::Disconnected
            };
        }
    }
    (status, database)
}

impl Snapshot {
    /// 200 for `ok` and `degraded`, 503 for `error`.
    pub fn status_code(&self) -> u16 {
        if self.status == Status::Error { 503 } else { 200 }
    }

    /// The public answer, byte for byte: no spaces, this key order, milliseconds and `Z` always.
    ///
    /// ```json
    /// {"status":"ok","database":"connected","timestamp":"2025-11-16T10:30:00.000Z"}
    /// ```
    pub fn to_public_json(&self, now: Timestamp) -> String {
        format!(
            r#"{{"status":"{}","database":"{}","timestamp":"{now:.3}"}}"#,
            self.status.as_str(),
            self.database.as_str(),
        )
    }

    /// The answer for operators: the public one first, then version, uptime and every check.
    pub fn to_detailed_json(&self, now: Timestamp) -> String {
        // Neither a map key that is not text nor a failing `Serialize` occurs below, so this cannot fail.
        serde_json::to_string(&Detailed { snapshot: self, now }).unwrap_or_else(|_| self.to_public_json(now))
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&CheckState> {
        self.checks.iter().find(|check| &*check.name == name)
    }
}

struct Detailed<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
}

impl Serialize for Detailed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let snapshot = self.snapshot;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", snapshot.status.as_str())?;
        map.serialize_entry("database", snapshot.database.as_str())?;
        map.serialize_entry("timestamp", &format_args!("{:.3}", self.now))?;
        map.serialize_entry("version", &*snapshot.version)?;
        map.serialize_entry("uptime_ms", &millis(snapshot.uptime))?;
        map.serialize_entry("phase", snapshot.phase.as_str())?;
        map.serialize_entry("event_loop_lag_ms", &millis(snapshot.event_loop_lag))?;
        map.serialize_entry("checks", &Checks(&snapshot.checks))?;
        map.end()
    }
}

struct Checks<'a>(&'a [CheckState]);

impl Serialize for Checks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|check| (&*check.name, One(check))))
    }
}

struct One<'a>(&'a CheckState);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let check = self.0;
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("status", check.status.as_str())?;
        map.serialize_entry("critical", &check.critical)?;
        map.serialize_entry("latency_ms", &check.latency.map(millis))?;
        map.serialize_entry("checked_at", &check.checked_at.map(|at| format!("{at:.3}")))?;
        map.serialize_entry("age_ms", &check.age.map(millis))?;
        map.serialize_entry("error_kind", &check.error_kind.as_deref())?;
        map.end()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
