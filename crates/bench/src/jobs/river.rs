//! River's Rust client.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use riverqueue::migrate::PostgresMigrator;
use riverqueue::{BoxError, Client, InsertOpts, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::contender::{BATCH, Contender, Payload, Settings, Tally};
use super::{exists, postgres_pool};
use crate::versions;

const MAX_WORKERS: usize = 1000;
const DEFAULT_COOLDOWN: Duration = riverqueue::FETCH_COOLDOWN_DEFAULT;
/// The least there is; the default allows ten fetches a second.
const LEAST_COOLDOWN: Duration = riverqueue::FETCH_COOLDOWN_MIN;

static TALLY: Tally = Tally::new();

#[derive(Clone, Debug, JobArgs, Serialize, Deserialize)]
#[river(kind = "noop")]
struct Noop {
    payload: Payload,
}

async fn noop(_: WorkContext, _: riverqueue::Job<Noop>) -> Result<WorkOutcome, BoxError> {
    TALLY.handled();
    Ok(WorkOutcome::Complete)
}

pub(super) struct River {
    pool: PgPool,
    inserter: Client,
    cooldown: Duration,
}

impl River {
    pub(super) async fn connect(url: &str, settings: Settings) -> anyhow::Result<Self> {
        let cooldown = match settings {
            Settings::Default => DEFAULT_COOLDOWN,
            Settings::Fastest => LEAST_COOLDOWN,
        };
        let pool = postgres_pool(url).await?;
        PostgresMigrator::new(pool.clone()).migrate_up().await?;
        let inserter = Client::builder(postgres_pool(url).await?)
            .fetch_cooldown(cooldown)
            .build()?;
        Ok(Self {
            pool,
            inserter,
            cooldown,
        })
    }

    fn worker(&self) -> anyhow::Result<Client> {
        let mut workers = Workers::new();
        workers.add_fn(noop)?;
        let client = Client::builder(self.pool.clone())
            .workers(workers)
            .fetch_cooldown(self.cooldown)
            .queue("default", QueueConfig::new(MAX_WORKERS))
            .build()?;
        Ok(client)
    }
}

#[async_trait(?Send)]
impl Contender for River {
    fn name(&self) -> String {
        format!(
            "riverqueue {}, cooldown {:?}",
            versions::of("riverqueue"),
            self.cooldown
        )
    }

    async fn clear(&self) -> anyhow::Result<()> {
        sqlx::query("TRUNCATE river_job").execute(&self.pool).await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        for _ in 0..batches {
            let jobs = Payload::batch()
                .into_iter()
                .map(|payload| (Noop { payload }, InsertOpts::default()));
            self.inserter.insert_many(jobs).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("VACUUM (ANALYZE) river_job")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn work(&self, jobs: usize) -> anyhow::Result<Duration> {
        TALLY.forget();
        let client = self.worker()?;
        let begin = Instant::now();
        let mut run = client.start()?;
        let left =
            "SELECT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running', 'retryable'))";
        let end = TALLY.drained(jobs, async || exists(&self.pool, left).await).await;
        run.stop().await?;
        Ok(end? - begin)
    }

    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        if self.cooldown == DEFAULT_COOLDOWN {
            return Ok(Vec::new());
        }
        let mut run = self.worker()?.start()?;
        run.wait_ready().await?;
        tokio::time::sleep(super::WARM_UP).await;
        let enqueue = async || {
            let payload = Payload::new(BATCH);
            self.inserter.insert(Noop { payload }).await?;
            Ok(())
        };
        let starts = TALLY.starts(duration, enqueue).await;
        run.stop().await?;
        starts
    }
}
