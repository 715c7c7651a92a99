use std::time::{Duration, Instant};

/// An epoch that changes as time goes by: for stores that do not tell when a generation was replaced.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    period_ms: u64,
}

impl Clock {
    pub(crate) fn new(period: Duration) -> Self {
        let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            started: Instant::now(),
            period_ms,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX) / self.period_ms
    }
}
