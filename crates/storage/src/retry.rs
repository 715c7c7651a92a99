//! When to try again, and how long to wait.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, Result};

/// Exponential backoff with full jitter, within a number of attempts and a budget of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all. Default: 4.
    pub attempts: u32,
    /// Upper bound of the first wait; it doubles with each attempt. Default: 100 ms.
    pub base: Duration,
    /// Upper bound of every wait. Default: 5 s.
    pub cap: Duration,
    /// No attempt starts after this much time since the first. Default: 60 s, so that a connection that stays silent for
    /// 30 s leaves time for another.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(5),
            budget: Duration::from_secs(60),
        }
    }
}

/// What has been tried so far. Whoever makes progress starts with a new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    failed: u32,
    since: Instant,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            failed: 0,
            since: Instant::now(),
        }
    }
}

impl RetryPolicy {
    /// Never tries again.
    pub const fn none() -> Self {
        Self {
            attempts: 1,
            base: Duration::ZERO,
            cap: Duration::ZERO,
            budget: Duration::ZERO,
        }
    }

    /// Runs `attempt` until it succeeds, fails with an error that a repetition can't mend, or the policy is used up; then the
    /// last error is returned.
    pub(crate) async fn run<T, F>(&self, adapter: &'static str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempts = Attempts::default();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => self.wait_after(adapter, &mut attempts, error).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives the error back if there is none.
    pub(crate) async fn wait_after(
        &self,
        adapter: &'static str,
        attempts: &mut Attempts,
        error: Error,
    ) -> Result<()> {
        attempts.failed += 1;
        // What the server asks for is a floor, not a suggestion.
        let wait = self
            .wait(attempts.failed)
            .max(error.retry_after().unwrap_or_default());
        let late = attempts.since.elapsed() + wait > self.budget;
        if !error.is_retryable() || attempts.failed >= self.attempts || late {
            return Err(error);
        }
        let operation = error.operation();
        metrics::counter!("zhuji_storage_retries_total", "adapter" => adapter, "operation" => operation)
            .increment(1);
        tracing::debug!(adapter, operation, kind = %error.kind(), attempt = attempts.failed, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Anything between nothing and the doubling bound: many clients that failed together don't come back together.
    fn wait(&self, made: u32) -> Duration {
        let bound = self
            .base
            .saturating_mul(1 << made.saturating_sub(1).min(16))
            .min(self.cap);
        bound.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ErrorKind;

    async fn attempts_for(kind: ErrorKind) -> u32 {
        let policy = RetryPolicy {
            base: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let made = Cell::new(0);
        let result: Result<()> = policy
            .run("test", || {
                made.set(made.get() + 1);
                async move { Err(Error::new(kind, "upload", "k", "no")) }
            })
            .await;
        assert_eq!(result.unwrap_err().kind(), kind);
        made.get()
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        assert_eq!(attempts_for(ErrorKind::Unavailable).await, 4);
        assert_eq!(attempts_for(ErrorKind::Timeout).await, 4);
        assert_eq!(attempts_for(ErrorKind::Denied).await, 1);
        assert_eq!(attempts_for(ErrorKind::NotFound).await, 1);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let policy = RetryPolicy::default();
        for made in 1..40 {
            assert!(policy.wait(made) <= policy.cap);
        }
        assert!(policy.wait(1) <= policy.base);
    }
}
