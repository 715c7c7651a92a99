//! Ours, with all its guarantees.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::{Job, JobSet, Jobs, JobsConfig, JobsFactory, WorkerHandle, WorkerSettings};

use super::contender::{BATCH, Contender, Payload, Tally};

const POOL: u32 = 8;
const CONCURRENCY: usize = 1000;
const GRACE: Duration = Duration::from_secs(10);

static TALLY: Tally = Tally::new();

#[derive(Clone, Serialize, Deserialize)]
struct Noop(Payload);

impl Job for Noop {
    const KIND: &'static str = "noop";
}

/// Who enqueues the job whose start is awaited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    SameProcess,
    /// Another queue on another pool, which knows of this process's workers as little as another process does.
    AnotherProcess,
}

pub(super) struct Ours {
    pool: DbPool,
    jobs: Jobs,
    other: Jobs,
    from: From,
}

impl Ours {
    pub(super) async fn connect(url: &str, from: From) -> anyhow::Result<Self> {
        let config = JobsConfig {
            concurrency: NonZeroUsize::new(CONCURRENCY),
            ..JobsConfig::default()
        };
        let connect = async || {
            let settings = DbConfig {
                pool_size: Some(POOL),
                ..DbConfig::new(url)
            };
            let pool = DbPool::connect(&settings).await?;
            let jobs = JobsFactory::new().build(&config, Some(pool.clone())).await?;
            anyhow::Ok((pool, jobs))
        };
        let (pool, jobs) = connect().await?;
        let (_, other) = connect().await?;
        Ok(Self {
            pool,
            jobs,
            other,
            from,
        })
    }

    fn worker(&self) -> WorkerHandle {
        let set = JobSet::new().on(async |_, _: Noop| {
            TALLY.handled();
            Ok(())
        });
        self.jobs.worker(set, WorkerSettings::default()).start()
    }

    async fn left(&self) -> anyhow::Result<bool> {
        let counts = self.jobs.counts().await?;
        Ok(counts
            .iter()
            .any(|queue| queue.ready + queue.running + queue.scheduled > 0))
    }

    /// Where the jobs are that are done.
    async fn past(&self) -> anyhow::Result<String> {
        let sql = "SELECT coalesce(to_regclass('zhuji_jobs.finished'), to_regclass('zhuji_jobs.job'))::text";
        Ok(self.pool.query_one(sql, &[]).await?.try_get(0)?)
    }

    /// Makes so many copies of each job that is done.
    pub(super) async fn multiply_done(&self, copies: usize) -> anyhow::Result<()> {
        // In steps, because a statement has a deadline.
        const STEP: usize = 50;
        let past = self.past().await?;
        let columns = "SELECT string_agg(quote_ident(attname), ', ') FROM pg_catalog.pg_attribute \
                       WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attname <> 'id'";
        let columns: String = self.pool.query_one(columns, &[&past]).await?.try_get(0)?;
        let pattern = format!("CREATE TABLE public.pattern AS SELECT * FROM {past} WHERE state = 'done'");
        self.pool.execute(&pattern, &[]).await?;
        let copy = format!(
            "INSERT INTO {past} (id, {columns}) \
             SELECT gen_random_uuid(), {columns} FROM public.pattern, generate_series(1, {STEP})"
        );
        for _ in 0..copies.div_ceil(STEP) {
            self.pool.execute(&copy, &[]).await?;
        }
        self.pool.execute("DROP TABLE public.pattern", &[]).await?;
        self.pool
            .execute(&format!("VACUUM (ANALYZE) {past}"), &[])
            .await?;
        Ok(())
    }
}

#[async_trait(?Send)]
impl Contender for Ours {
    fn name(&self) -> String {
        match self.from {
            From::SameProcess => "ours".to_owned(),
            From::AnotherProcess => "ours, from another process".to_owned(),
        }
    }

    async fn clear(&self) -> anyhow::Result<()> {
        let tables = format!("TRUNCATE zhuji_jobs.job, {} CASCADE", self.past().await?);
        self.pool.execute(&tables, &[]).await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        for _ in 0..batches {
            let batch: Vec<Noop> = Payload::batch().into_iter().map(Noop).collect();
            self.jobs.enqueue_many(&batch).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        self.pool.execute("VACUUM (ANALYZE) zhuji_jobs.job", &[]).await?;
        Ok(())
    }

    async fn work(&self, jobs: usize) -> anyhow::Result<Duration> {
        TALLY.forget();
        let begin = Instant::now();
        let worker = self.worker();
        let end = TALLY.drained(jobs, async || self.left().await).await;
        worker.stop(GRACE).await;
        Ok(end? - begin)
    }

    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        let worker = self.worker();
        let enqueue = async || {
            let jobs = match self.from {
                From::SameProcess => &self.jobs,
                From::AnotherProcess => &self.other,
            };
            jobs.enqueue(&Noop(Payload::new(BATCH))).await?;
            Ok(())
        };
        tokio::time::sleep(super::WARM_UP).await;
        let starts = TALLY.starts(duration, enqueue).await;
        worker.stop(GRACE).await;
        starts
    }
}
