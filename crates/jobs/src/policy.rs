use std::time::Duration;

use crate::limit::Limit;

/// How often, how patiently and how long one kind of job is tried.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// Attempts in all, the first included; after the last the job is dead. Default: 8.
    pub max_attempts: u32,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// How long one attempt may take; then its handler is dropped and the attempt has failed. Default: 10 minutes.
    pub timeout: Duration,
    /// What all workers together keep to for this kind. Default: no limit.
    pub limit: Limit,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            backoff: Backoff::default(),
            timeout: Duration::from_secs(600),
            limit: Limit::none(),
        }
    }
}

impl Policy {
    /// Attempts in all, at least 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// The pauses between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What all workers of the fleet keep to together for jobs of this kind in one queue. A long backlog of a limited
    /// kind slows the claims of its queue down: give such a kind a queue of its own.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }
}

/// Pauses that double from `base` up to `max`, each drawn evenly between zero and that (full jitter), so that jobs
/// which failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The longest pause after the first attempt. Default: 2 s.
    pub base: Duration,
    /// The longest pause at all. Default: 10 minutes.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            max: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// The longest pause after attempt number `attempt` (from 1).
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// A pause to take after attempt number `attempt`.
    pub fn pause(&self, attempt: u32) -> Duration {
        self.ceiling(attempt).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_spread() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        };
        let ceilings: Vec<u64> = [1, 2, 3, 6, 7, 1000, u32::MAX]
            .map(|n| backoff.ceiling(n).as_secs())
            .into();
        assert_eq!(ceilings, [1, 2, 4, 32, 60, 60, 60]);
        let pauses: Vec<_> = (0..1000).map(|_| backoff.pause(3).as_secs_f64()).collect();
        assert!(pauses.iter().all(|s| (0.0..=4.0).contains(s)));
        assert!(pauses.iter().any(|s| *s < 0.4) && pauses.iter().any(|s| *s > 3.6));
    }
}
