//! The least that works: claim a hundred, do nothing, mark them as done. No lease that is renewed, no fence, no retry.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::{Manager, Pool};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use super::contender::{Contender, Payload};

const POOL: usize = 8;
const WORKERS: usize = 4;

const SCHEMA: &str = "
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'available',
    attempt integer NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    locked_until timestamptz,
    finished_at timestamptz
);
CREATE INDEX job_available ON job (run_at, id) WHERE state = 'available';";

const ENQUEUE: &str = "INSERT INTO job (kind, payload) SELECT 'noop', p::jsonb FROM unnest($1::text[]) AS p";

const CLAIM: &str = "
WITH next AS (
    SELECT id FROM job WHERE state = 'available' AND run_at <= now() ORDER BY run_at, id LIMIT 100
    FOR UPDATE SKIP LOCKED
)
UPDATE job SET state = 'running', attempt = attempt + 1, locked_until = now() + interval '30 seconds'
FROM next WHERE job.id = next.id
RETURNING job.id, job.payload::text";

const COMPLETE: &str = "UPDATE job SET state = 'completed', finished_at = now() WHERE id = ANY($1)";

pub(super) struct Prototype {
    pool: Pool,
}

impl Prototype {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let pool = Pool::builder(Manager::new(url.parse()?, NoTls))
            .max_size(POOL)
            .build()?;
        pool.get().await?.batch_execute(SCHEMA).await?;
        Ok(Self { pool })
    }
}

async fn worker(pool: Pool) -> anyhow::Result<()> {
    let client = pool.get().await?;
    let claim = client.prepare_cached(CLAIM).await?;
    let complete = client.prepare_cached(COMPLETE).await?;
    loop {
        let rows = client.query(&claim, &[]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut done: Vec<i64> = Vec::with_capacity(rows.len());
        for row in &rows {
            let _: Payload = serde_json::from_str(row.get(1))?;
            done.push(row.get(0));
        }
        client.execute(&complete, &[&done]).await?;
    }
}

#[async_trait(?Send)]
impl Contender for Prototype {
    fn name(&self) -> String {
        "bare SQL, claims of 100, 4 workers".to_owned()
    }

    async fn clear(&self) -> anyhow::Result<()> {
        self.pool.get().await?.batch_execute("TRUNCATE job").await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        let client = self.pool.get().await?;
        let enqueue = client.prepare_cached(ENQUEUE).await?;
        for _ in 0..batches {
            let payloads: Vec<String> = Payload::batch()
                .iter()
                .map(serde_json::to_string)
                .collect::<Result<_, _>>()?;
            client.execute(&enqueue, &[&payloads]).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> anyhow::Result<()> {
        self.pool
            .get()
            .await?
            .batch_execute("VACUUM (ANALYZE) job")
            .await?;
        Ok(())
    }

    async fn work(&self, _: usize) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(worker(self.pool.clone()));
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(begin.elapsed())
    }

    async fn starts(&self, _: Duration) -> anyhow::Result<Vec<Duration>> {
        Ok(Vec::new())
    }
}
