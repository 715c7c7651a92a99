//! graphile_worker with its local queue, without which it does not come near.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, Worker, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::task::JoinHandle;

use super::contender::{BATCH, Contender, Payload, Settings, Tally};
use super::{exists, postgres_pool};
use crate::versions;

const SCHEMA: &str = "graphile_worker";
const CONCURRENCY: usize = 8;
const LOCAL_QUEUE: usize = 500;
/// Completions are batched for so long, which is off by default.
const COMPLETE_WITHIN: Duration = Duration::from_millis(5);

static TALLY: Tally = Tally::new();

#[derive(Clone, Serialize, Deserialize)]
struct Noop {
    payload: Payload,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        TALLY.handled();
        Ok::<(), String>(())
    }
}

pub(super) struct Graphile {
    pool: PgPool,
    enqueuer: WorkerUtils,
    settings: Settings,
}

struct Running {
    worker: Arc<Worker>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) -> anyhow::Result<()> {
        self.worker.request_shutdown();
        self.task.await?
    }
}

impl Graphile {
    pub(super) async fn connect(url: &str, settings: Settings) -> anyhow::Result<Self> {
        let pool = postgres_pool(url).await?;
        let enqueuer = WorkerUtils::new(postgres_pool(url).await?, SCHEMA);
        let this = Self {
            pool,
            enqueuer,
            settings,
        };
        // Brings the schema up to date.
        this.worker().await?;
        Ok(this)
    }

    async fn worker(&self) -> anyhow::Result<Worker> {
        let options = match self.settings {
            Settings::Default => WorkerOptions::default(),
            Settings::Fastest => WorkerOptions::default().complete_job_batch_delay(COMPLETE_WITHIN),
        };
        let worker = options
            .pg_pool(self.pool.clone())
            .schema(SCHEMA)
            .concurrency(CONCURRENCY)
            .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE))
            .listen_os_shutdown_signals(false)
            .define_job::<Noop>()
            .init()
            .await?;
        Ok(worker)
    }

    async fn start(&self) -> anyhow::Result<Running> {
        let worker = Arc::new(self.worker().await?);
        let running = worker.clone();
        let task = tokio::spawn(async move { running.run().await.context("the worker failed") });
        Ok(Running { worker, task })
    }
}

#[async_trait(?Send)]
impl Contender for Graphile {
    fn name(&self) -> String {
        let version = versions::of("graphile_worker");
        match self.settings {
            Settings::Default => format!("graphile_worker {version}, local queue"),
            Settings::Fastest => format!("graphile_worker {version}, batched ends"),
        }
    }

    async fn clear(&self) -> anyhow::Result<()> {
        sqlx::query("TRUNCATE graphile_worker._private_jobs CASCADE")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        let spec = JobSpec::default();
        for _ in 0..batches {
            let jobs: Vec<_> = Payload::batch()
                .into_iter()
                .map(|payload| (Noop { payload }, &spec))
                .collect();
            self.enqueuer.add_jobs::<Noop>(&jobs).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("VACUUM (ANALYZE) graphile_worker._private_jobs")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn work(&self, jobs: usize) -> anyhow::Result<Duration> {
        TALLY.forget();
        let begin = Instant::now();
        let running = self.start().await?;
        // What is done is deleted.
        let left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)";
        let end = TALLY.drained(jobs, async || exists(&self.pool, left).await).await;
        running.stop().await?;
        Ok(end? - begin)
    }

    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        if self.settings == Settings::Default {
            return Ok(Vec::new());
        }
        let running = self.start().await?;
        tokio::time::sleep(super::WARM_UP).await;
        let enqueue = async || {
            let payload = Payload::new(BATCH);
            self.enqueuer
                .add_job(Noop { payload }, JobSpec::default())
                .await?;
            Ok(())
        };
        let starts = TALLY.starts(duration, enqueue).await;
        running.stop().await?;
        starts
    }
}
