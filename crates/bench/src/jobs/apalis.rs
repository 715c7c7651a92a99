//! apalis on PostgreSQL, told of new jobs by NOTIFY.

use std::time::{Duration, Instant};

use anyhow::Context;
use apalis::prelude::{BackendExt, BoxDynError, TaskSink, WorkerBuilder, WorkerContext};
use apalis_postgres::{Config, PostgresStorage};
use async_trait::async_trait;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use super::contender::{BATCH, Contender, Payload, Tally};
use super::{exists, postgres_pool};
use crate::versions;

const QUEUE: &str = "bench";
/// The default is 10.
const FETCHED_AT_ONCE: usize = 500;
const POLL: Duration = Duration::from_millis(100);

static TALLY: Tally = Tally::new();

async fn noop(_: Payload) -> Result<(), BoxDynError> {
    TALLY.handled();
    Ok(())
}

pub(super) struct Apalis {
    pool: PgPool,
    enqueuer: PgPool,
}

struct Running {
    context: WorkerContext,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) -> anyhow::Result<()> {
        self.context.stop()?;
        // Everything is done by now; it may take its time to notice.
        let abort = self.task.abort_handle();
        let ended = tokio::time::timeout(Duration::from_millis(500), self.task).await;
        abort.abort();
        ended.map_or(Ok(()), |ended| ended?)
    }
}

impl Apalis {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let pool = postgres_pool(url).await?;
        PostgresStorage::setup(&pool).await?;
        let enqueuer = postgres_pool(url).await?;
        Ok(Self { pool, enqueuer })
    }

    fn storage(pool: &PgPool) -> PostgresStorage<Payload> {
        let config = Config::default().queue(QUEUE).batch_size(FETCHED_AT_ONCE);
        PostgresStorage::new(pool).with_config(config)
    }

    fn start(&self) -> Running {
        let name = format!("worker-{:08x}", fastrand::u32(..));
        let context = WorkerContext::new(&name);
        let backend = Self::storage(&self.pool).with_pubsub().poll_with_interval(POLL);
        let worker = WorkerBuilder::new(&context).backend(backend).build(noop);
        let task = tokio::spawn(async move { worker.run().await.context("the worker failed") });
        Running { context, task }
    }
}

#[async_trait(?Send)]
impl Contender for Apalis {
    fn name(&self) -> String {
        format!("apalis-postgres {}", versions::of("apalis-postgres"))
    }

    async fn clear(&self) -> anyhow::Result<()> {
        sqlx::query("TRUNCATE apalis.jobs CASCADE")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        let mut storage = Self::storage(&self.enqueuer);
        for _ in 0..batches {
            storage.push_bulk(Payload::batch()).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("VACUUM (ANALYZE) apalis.jobs")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn work(&self, jobs: usize) -> anyhow::Result<Duration> {
        TALLY.forget();
        let begin = Instant::now();
        let running = self.start();
        let left = "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')";
        let end = TALLY.drained(jobs, async || exists(&self.pool, left).await).await;
        running.stop().await?;
        Ok(end? - begin)
    }

    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        let running = self.start();
        tokio::time::sleep(super::WARM_UP).await;
        let storage = Self::storage(&self.enqueuer);
        let enqueue = async || {
            storage.clone().push(Payload::new(BATCH)).await?;
            Ok(())
        };
        let starts = TALLY.starts(duration, enqueue).await;
        running.stop().await?;
        starts
    }
}
