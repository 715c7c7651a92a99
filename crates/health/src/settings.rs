use std::time::Duration;

/// How often, how long, and how patiently the engine looks. The defaults suit a probe every few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Time from the end of one run of a check to the start of the next. Up to a tenth is added at random, so
    /// that the checks of many instances drift apart. Default 5 s.
    pub interval: Duration,
    /// How long one run may take before it is dropped and counts as a failure of kind `timeout`. Default 800 ms,
    /// under the one second that platforms commonly give a probe.
    pub timeout: Duration,
    /// Failures in a row after which a check that was up is down. Default 2: one lost packet is no outage.
    /// The very first result counts at once, because there is nothing yet to protect.
    pub failures_to_down: u32,
    /// Successes in a row after which a check that was down is up again. Default 1.
    pub successes_to_up: u32,
    /// Pause before looking again while a failure is not yet confirmed, if shorter than `interval`. Default 1 s.
    pub confirm_after: Duration,
    /// A result older than this many intervals no longer counts: the check is down, kind `stale`. Default 3.
    pub stale_intervals: u32,
    /// Beat of the event-loop heartbeat. Default 500 ms.
    pub heartbeat: Duration,
    /// Without a beat for this long the process is wedged and no longer live. Default 10 s.
    pub wedged_after: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(800),
            failures_to_down: 2,
            successes_to_up: 1,
            confirm_after: Duration::from_secs(1),
            stale_intervals: 3,
            heartbeat: Duration::from_millis(500),
            wedged_after: Duration::from_secs(10),
        }
    }
}

impl HealthSettings {
    pub(crate) fn stale_after(&self) -> Duration {
        self.interval.saturating_mul(self.stale_intervals.max(1))
    }
}
