use std::time::Duration;

use async_trait::async_trait;
use zhuji_health::{Check, Outcome};

use crate::jobs::Jobs;

/// Every instance asks every few seconds; one of them counts.
const COUNTS_MAY_BE: Duration = Duration::from_secs(5);

pub(crate) struct JobsCheck {
    pub(crate) jobs: Jobs,
}

#[async_trait]
impl Check for JobsCheck {
    fn name(&self) -> &str {
        "jobs"
    }

    fn critical(&self) -> bool {
        false
    }

    async fn run(&self) -> Outcome {
        match self.jobs.recent_counts(COUNTS_MAY_BE).await {
            Ok(counts) => {
                let stuck: u64 = counts.iter().map(|queue| queue.stuck).sum();
                let dead: u64 = counts.iter().map(|queue| queue.dead_lately).sum();
                match (stuck, dead) {
                    (0, 0) => Outcome::Up,
                    (0, dead) => Outcome::degraded(format!("{dead} jobs died in the last hour")),
                    (stuck, 0) => Outcome::degraded(format!("{stuck} jobs stuck")),
                    (stuck, dead) => {
                        Outcome::degraded(format!("{stuck} jobs stuck and {dead} died in the last hour"))
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "jobs health check");
                Outcome::down(error.kind().as_str())
            }
        }
    }
}
