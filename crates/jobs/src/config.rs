use std::num::NonZeroUsize;
use std::time::Duration;

use zhuji_config::{Config, Problem, Reader};

use crate::error::{Error, ErrorKind, Result};

const DAY: Duration = Duration::from_secs(86_400);

/// Where jobs are kept and how they are run.
#[derive(Config, Clone, Debug, PartialEq)]
#[config(title = "Jobs", prefixes("JOBS_"), check = JobsConfig::check, impl_default)]
pub struct JobsConfig {
    /// Which adapter keeps the jobs: `postgres`, `memory`, or a registered name.
    ///
    /// Env: `JOBS_TYPE`. Default: `postgres`.
    #[config(env = "JOBS_TYPE", default = "postgres")]
    pub kind: String,
    /// Jobs running at once in this process, over all queues.
    ///
    /// Env: `JOBS_CONCURRENCY`. Default: cores × 2.
    #[config(env = "JOBS_CONCURRENCY", default_note = "cores × 2")]
    pub concurrency: Option<NonZeroUsize>,
    /// How often an idle worker looks for jobs that other processes enqueued, at the longest. It looks more often
    /// just after it had something to do, and at once when this process enqueues.
    ///
    /// Env: `JOBS_POLL_INTERVAL`. Default: `2s`.
    #[config(env = "JOBS_POLL_INTERVAL", default = "2s")]
    pub poll_interval: Duration,
    /// Whether a process with workers keeps one connection outside the pool, on which it hears at once that others
    /// enqueued something. Without it, and while that connection can't be had, it only looks now and then.
    ///
    /// Env: `JOBS_LISTEN`. Default: `true`.
    #[config(env = "JOBS_LISTEN", default = true)]
    pub listen: bool,
    /// How long a worker owns a job without a sign of life; a killed worker's jobs run again after this. Signs of life
    /// are given three times as often.
    ///
    /// Env: `JOBS_LEASE`. Default: `30s`.
    #[config(env = "JOBS_LEASE", default = "30s")]
    pub lease: Duration,
    /// How long jobs are kept after they are done.
    ///
    /// Env: `JOBS_KEEP_DONE`. Default: `1d`.
    #[config(env = "JOBS_KEEP_DONE", default = "1d")]
    pub keep_done: Duration,
    /// How long jobs are kept after they are dead.
    ///
    /// Env: `JOBS_KEEP_DEAD`. Default: `14d`.
    #[config(env = "JOBS_KEEP_DEAD", default = "14d")]
    pub keep_dead: Duration,
}

impl JobsConfig {
    /// Jobs running at once in this process.
    pub fn effective_concurrency(&self) -> usize {
        match self.concurrency {
            Some(concurrency) => concurrency.get(),
            None => 2 * std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// Refuses what can't work. The factory calls it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the variable.
    pub fn validate(&self) -> Result<()> {
        match self.mistakes().into_iter().next() {
            Some((variable, reason)) => Err(Error::new(ErrorKind::Config, "configure", variable, reason)),
            None => Ok(()),
        }
    }

    fn check(&self, reader: &mut Reader<'_>) {
        for (variable, reason) in self.mistakes() {
            reader.problem(Problem::invalid(variable, reason));
        }
    }

    fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        if self.poll_interval < Duration::from_millis(10) || self.poll_interval > DAY {
            mistakes.push(("JOBS_POLL_INTERVAL", "must be between 10ms and 24h"));
        }
        if self.lease < Duration::from_millis(300) || self.lease > DAY {
            mistakes.push(("JOBS_LEASE", "must be between 300ms and 24h"));
        }
        for (variable, keep) in [
            ("JOBS_KEEP_DONE", self.keep_done),
            ("JOBS_KEEP_DEAD", self.keep_dead),
        ] {
            if keep > 3660 * DAY {
                mistakes.push((variable, "must be at most 3660d"));
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_can_not_work_are_reported_together() {
        let report = zhuji_config::load_from_pairs::<JobsConfig>([
            ("JOBS_POLL_INTERVAL", "0s"),
            ("JOBS_LEASE", "25h"),
            ("JOBS_KEEP_DONE", "100000000d"),
            ("JOBS_KEEP_DEAD", "4000d"),
        ])
        .expect_err("all four are bad");
        assert_eq!(report.problems.len(), 4, "{report}");
        zhuji_config::load_from_pairs::<JobsConfig>([("JOBS_KEEP_DONE", "0s")]).expect("nothing is kept");
    }
}
