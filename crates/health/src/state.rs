use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::check::{Outcome, safe_kind};
use crate::settings::HealthSettings;
use crate::snapshot::{CheckState, CheckStatus};

/// What the engine remembers of one check.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) critical: bool,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    status: CheckStatus,
    kind: Option<Arc<str>>,
    failures: u32,
    successes: u32,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// Ages are measured on the monotonic clock, so that a stepped wall clock makes nothing stale.
    instant: Instant,
    at: Timestamp,
    latency: Duration,
}

/// What changed with one result.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) before: CheckStatus,
    pub(crate) after: CheckStatus,
    pub(crate) kind: Option<Arc<str>>,
    /// A failure was seen that is not yet believed.
    pub(crate) unconfirmed: bool,
}

impl Slot {
    pub(crate) fn new(name: Arc<str>, critical: bool) -> Self {
        let memory = Memory {
            status: CheckStatus::Pending,
            kind: None,
            failures: 0,
            successes: 0,
            last: None,
        };
        Self {
            name,
            critical,
            memory: Mutex::new(memory),
        }
    }

    pub(crate) fn record(&self, outcome: &Outcome, latency: Duration, settings: &HealthSettings) -> Recorded {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let before = memory.status;
        let kind: Option<Arc<str>> = outcome.kind().map(|kind| safe_kind(kind).into());
        let mut unconfirmed = false;
        if outcome.is_failure() {
            memory.successes = 0;
            memory.failures = memory.failures.saturating_add(1);
            // A check that has never been up has nothing to protect: its first failure is the truth.
            let patient = matches!(before, CheckStatus::Up | CheckStatus::Degraded);
            if patient && memory.failures < settings.failures_to_down {
                unconfirmed = true;
            } else {
                memory.status = CheckStatus::Down;
                memory.kind = kind.clone();
            }
        } else {
            memory.failures = 0;
            memory.successes = memory.successes.saturating_add(1);
            if before != CheckStatus::Down || memory.successes >= settings.successes_to_up {
                memory.status = if *outcome == Outcome::Up {
                    CheckStatus::Up
                } else {
                    CheckStatus::Degraded
                };
                memory.kind = kind.clone();
            }
        }
        memory.last = Some(Last {
            instant: Instant::now(),
            at: Timestamp::now(),
            latency,
        });
        Recorded {
            before,
            after: memory.status,
            kind,
            unconfirmed,
        }
    }

    pub(crate) fn read(&self, now: Instant, stale_after: Duration) -> CheckState {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let age = memory
            .last
            .map(|last| now.saturating_duration_since(last.instant));
        let stale = age.is_some_and(|age| age > stale_after);
        CheckState {
            name: self.name.clone(),
            critical: self.critical,
            status: if stale { CheckStatus::Down } else { memory.status },
            error_kind: if stale {
                Some("stale".into())
            } else {
                memory.kind.clone()
            },
            latency: memory.last.map(|last| last.latency),
            checked_at: memory.last.map(|last| last.at),
            age,
            consecutive_failures: memory.failures,
        }
    }
}
