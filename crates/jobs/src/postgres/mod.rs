//! Jobs in the schema `zhuji_jobs` of the service's own database.

mod bell;
mod schema;
mod sql;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use uuid::Uuid;
use zhuji_db_pool::{DbPool, Row, ToSql, Transaction};

use self::bell::Bell;
use crate::adapter::{
    ClaimRequest, Claimed, Fence, Finish, JobsAdapter, NewJob, Report, Rescued, SweepRequest, WorkerId,
};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::record::{JobRecord, JobState, QueueCounts};

const CHANNEL: &str = "zhuji_jobs";

/// Jobs in PostgreSQL, in the schema `zhuji_jobs` (which its migrations make and keep up to date).
///
/// Claims use `FOR UPDATE SKIP LOCKED`, so workers never wait for one another. All times are the server's. Every
/// statement stands alone and keeps no session state, so a transaction-mode pooler may be in between.
#[derive(Debug)]
pub struct PostgresAdapter {
    bell: Bell,
    pool: DbPool,
}

impl PostgresAdapter {
    /// Brings the schema up to date.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the server can't be reached, [`ErrorKind::Migration`] if it refused.
    pub async fn connect(pool: DbPool) -> Result<Self> {
        let migrated = pool.migrate(schema::NAME, schema::MIGRATIONS).await;
        migrated.map_err(|source| {
            let kind = if source.is_unavailable() {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Migration
            };
            let reason = "the tables could not be brought up to date";
            Error::new(kind, "migrate", format!("schema {}", schema::NAME), reason).with_source(source)
        })?;
        Ok(Self {
            bell: Bell::new(pool.clone()),
            pool,
        })
    }

    async fn query(
        &self,
        operation: &'static str,
        subject: &str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.pool
            .query(sql, params)
            .await
            .map_err(|source| explain(operation, subject, source))
    }
}

fn explain(operation: &'static str, subject: &str, source: zhuji_db_pool::Error) -> Error {
    let (kind, reason) = if source.is_unavailable() {
        (ErrorKind::Unavailable, "the database is out of reach")
    } else if source.is_retryable() {
        (
            ErrorKind::Conflict,
            "the database undid the statement because of others",
        )
    } else {
        (ErrorKind::Store, "the database refused the statement")
    };
    Error::new(kind, operation, subject, reason).with_source(source)
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    operation: &'static str,
    name: &str,
) -> Result<T> {
    row.try_get(name).map_err(|source| {
        Error::new(
            ErrorKind::Store,
            operation,
            name,
            "the column is not of the expected type",
        )
        .with_source(source)
    })
}

fn count(row: &Row, operation: &'static str, name: &str) -> Result<u64> {
    Ok(u64::try_from(column::<i64>(row, operation, name)?).unwrap_or_default())
}

/// The new jobs as one array per column, which is how one statement takes many of them.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    queues: Vec<String>,
    kinds: Vec<String>,
    payloads: Vec<String>,
    priorities: Vec<i16>,
    max_attempts: Vec<i32>,
    run_ats: Vec<Option<Timestamp>>,
    delays: Vec<f64>,
    unique_keys: Vec<Option<String>>,
    traceparents: Vec<Option<String>>,
    request_ids: Vec<Option<String>>,
}

type Unique = (String, String, String);

/// What to insert, and which id each of the given jobs will turn out to have.
struct Insert {
    columns: Columns,
    /// Whether any of them can be run at once.
    ready: bool,
    asked: Vec<(JobId, Option<Unique>)>,
}

impl Insert {
    fn new(jobs: Vec<NewJob>) -> Self {
        let ready = jobs.iter().any(|job| job.delay.is_zero() && job.run_at.is_none());
        let mut columns = Columns::default();
        let mut asked = Vec::with_capacity(jobs.len());
        let mut seen = HashSet::new();
        for job in jobs {
            let unique = job
                .unique_key
                .clone()
                .map(|key| (job.queue.clone(), job.kind.clone(), key));
            asked.push((job.id, unique.clone()));
            // One statement can't meet the same unique key twice.
            if let Some(unique) = unique
                && !seen.insert(unique)
            {
                continue;
            }
            columns.ids.push(job.id.as_uuid());
            columns.queues.push(job.queue);
            columns.kinds.push(job.kind);
            columns.payloads.push(job.payload);
            columns.priorities.push(job.priority);
            columns
                .max_attempts
                .push(i32::try_from(job.max_attempts).unwrap_or(i32::MAX));
            columns.run_ats.push(job.run_at);
            columns.delays.push(job.delay.as_secs_f64());
            columns.unique_keys.push(job.unique_key);
            columns.traceparents.push(job.traceparent);
            columns.request_ids.push(job.request_id);
        }
        Self {
            columns,
            ready,
            asked,
        }
    }

    fn subject(&self) -> String {
        self.columns.kinds.first().cloned().unwrap_or_default()
    }

    /// The statement, and its parameters: values for one job, arrays for many.
    fn statement(&self) -> (&'static str, [&(dyn ToSql + Sync); 11]) {
        let c = &self.columns;
        if c.ids.len() == 1 {
            let one: [&(dyn ToSql + Sync); 11] = [
                &c.ids[0],
                &c.queues[0],
                &c.kinds[0],
                &c.payloads[0],
                &c.priorities[0],
                &c.max_attempts[0],
                &c.run_ats[0],
                &c.delays[0],
                &c.unique_keys[0],
                &c.traceparents[0],
                &c.request_ids[0],
            ];
            return (sql::ENQUEUE_ONE, one);
        }
        let many: [&(dyn ToSql + Sync); 11] = [
            &c.ids,
            &c.queues,
            &c.kinds,
            &c.payloads,
            &c.priorities,
            &c.max_attempts,
            &c.run_ats,
            &c.delays,
            &c.unique_keys,
            &c.traceparents,
            &c.request_ids,
        ];
        (sql::ENQUEUE, many)
    }

    fn ids(self, rows: &[Row]) -> Result<Vec<JobId>> {
        let mut by_key: HashMap<Unique, JobId> = HashMap::new();
        for row in rows {
            if let Some(key) = column::<Option<String>>(row, "enqueue", "unique_key")? {
                let unique = (
                    column(row, "enqueue", "queue")?,
                    column(row, "enqueue", "kind")?,
                    key,
                );
                by_key.insert(unique, column::<Uuid>(row, "enqueue", "id")?.into());
            }
        }
        let id = |(own, unique): (JobId, Option<Unique>)| match unique {
            Some(unique) => by_key.get(&unique).copied().unwrap_or(own),
            None => own,
        };
        Ok(self.asked.into_iter().map(id).collect())
    }
}

/// Fences as one array per column.
fn fences(fences: impl Iterator<Item = Fence>) -> (Vec<Uuid>, Vec<i64>, Vec<Uuid>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for fence in fences {
        columns.0.push(fence.id.as_uuid());
        columns.1.push(bigint(fence.claim));
        columns.2.push(fence.worker.0);
    }
    columns
}

fn fence(row: &Row, operation: &'static str) -> Result<Fence> {
    Ok(Fence {
        id: column::<Uuid>(row, operation, "id")?.into(),
        claim: column::<i64>(row, operation, "claims")?.unsigned_abs(),
        worker: WorkerId(column(row, operation, "worker")?),
    })
}

fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl JobsAdapter for PostgresAdapter {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        let insert = Insert::new(jobs);
        let (sql, params) = insert.statement();
        let rows = self.query("enqueue", &insert.subject(), sql, &params).await?;
        if insert.ready {
            self.bell.ring();
        }
        insert.ids(&rows)
    }

    async fn enqueue_in(&self, tx: &Transaction<'_>, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        let insert = Insert::new(jobs);
        let (sql, params) = insert.statement();
        let rows = tx.query(sql, &params).await;
        let rows = rows.map_err(|source| explain("enqueue", &insert.subject(), source))?;
        if insert.ready {
            self.bell.ring();
        }
        insert.ids(&rows)
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>> {
        let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
        let lease = request.lease.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 5] =
            [&request.queue, &request.kinds, &limit, &request.worker.0, &lease];
        let rows = self.query("claim", &request.queue, sql::CLAIM, &params).await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            let waited: f64 = column(row, "claim", "waited")?;
            claimed.push(Claimed {
                id: column::<Uuid>(row, "claim", "id")?.into(),
                queue: request.queue.clone(),
                kind: column(row, "claim", "kind")?,
                payload: column(row, "claim", "payload")?,
                claim: column::<i64>(row, "claim", "claims")?.unsigned_abs(),
                attempt: column::<i32>(row, "claim", "attempt")?.unsigned_abs(),
                max_attempts: column::<i32>(row, "claim", "max_attempts")?.unsigned_abs(),
                traceparent: column(row, "claim", "traceparent")?,
                request_id: column(row, "claim", "request_id")?,
                waited: Duration::try_from_secs_f64(waited).unwrap_or_default(),
            });
        }
        Ok(claimed)
    }

    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Fence>> {
        let (ids, claims, workers) = fences(running.iter().copied());
        let lease = lease.as_secs_f64();
        let rows = self
            .query("renew", "leases", sql::RENEW, &[&ids, &claims, &workers, &lease])
            .await?;
        rows.iter().map(|row| fence(row, "renew")).collect()
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let (ids, claims, workers) = fences(reports.iter().map(|report| report.fence));
        let mut finishes = Vec::with_capacity(reports.len());
        let mut delays = Vec::with_capacity(reports.len());
        let mut errors = Vec::with_capacity(reports.len());
        for report in reports {
            let (finish, delay, error) = match &report.finish {
                Finish::Done => ("done", 0.0, None),
                Finish::Retry { delay, error } => ("retry", delay.as_secs_f64(), Some(error.as_str())),
                Finish::Dead { error } => ("dead", 0.0, Some(error.as_str())),
                Finish::HandBack => ("hand_back", 0.0, None),
            };
            finishes.push(finish);
            delays.push(delay);
            errors.push(error);
        }
        let params: [&(dyn ToSql + Sync); 6] = [&ids, &claims, &workers, &finishes, &delays, &errors];
        let rows = self.query("finish", "attempts", sql::FINISH, &params).await?;
        let mut changed = HashSet::with_capacity(rows.len());
        for row in &rows {
            changed.insert(fence(row, "finish")?);
        }
        Ok(reports
            .iter()
            .map(|report| changed.contains(&report.fence))
            .collect())
    }

    async fn finish_in(&self, tx: &Transaction<'_>, fence: Fence) -> Result<bool> {
        let params: [&(dyn ToSql + Sync); 3] = [&fence.id.as_uuid(), &bigint(fence.claim), &fence.worker.0];
        let changed = tx.execute(sql::FINISH_IN, &params).await;
        Ok(changed.map_err(|source| explain("complete", &fence.id.to_string(), source))? == 1)
    }

    async fn rescue(&self, limit: usize) -> Result<Rescued> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query("rescue", "leases", sql::RESCUE, &[&limit]).await?;
        let mut rescued = Rescued::default();
        for row in &rows {
            match column::<&str>(row, "rescue", "state")? {
                "dead" => rescued.dead += 1,
                _ => rescued.ready += 1,
            }
        }
        Ok(rescued)
    }

    async fn release(&self, worker: WorkerId, keep: &[Fence]) -> Result<u64> {
        let (ids, claims, _) = fences(keep.iter().copied());
        let released = self.pool.execute(sql::RELEASE, &[&worker.0, &ids, &claims]).await;
        released.map_err(|source| explain("release", "claims", source))
    }

    async fn sweep(&self, request: SweepRequest) -> Result<u64> {
        let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
        let (done, dead) = (request.done.as_secs_f64(), request.dead.as_secs_f64());
        let swept = self.pool.execute(sql::SWEEP, &[&done, &dead, &limit]).await;
        swept.map_err(|source| explain("sweep", "finished jobs", source))
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        let rows = self
            .query("get", &id.to_string(), sql::GET, &[&id.as_uuid()])
            .await?;
        rows.first().map(record).transpose()
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let rows = self.query("count", "queues", sql::COUNTS, &[]).await?;
        let counts = |row: &Row| {
            let oldest: Option<f64> = column(row, "count", "oldest_ready")?;
            Ok(QueueCounts {
                queue: column(row, "count", "queue")?,
                ready: count(row, "count", "ready")?,
                scheduled: count(row, "count", "scheduled")?,
                running: count(row, "count", "running")?,
                stuck: count(row, "count", "stuck")?,
                dead: count(row, "count", "dead")?,
                dead_lately: count(row, "count", "dead_lately")?,
                oldest_ready: Duration::try_from_secs_f64(oldest.unwrap_or_default()).unwrap_or_default(),
            })
        };
        rows.iter().map(counts).collect()
    }

    async fn hints(&self) -> Result<Option<BoxStream<'static, Result<()>>>> {
        let listener = self.pool.listen(&[CHANNEL]).await;
        let listener = listener.map_err(|source| explain("listen", CHANNEL, source))?;
        let hints = stream::unfold(Some(listener), |listener| async {
            let mut listener = listener?;
            match listener.recv().await {
                Ok(_) => Some((Ok(()), Some(listener))),
                Err(source) => Some((Err(explain("listen", CHANNEL, source)), None)),
            }
        });
        Ok(Some(hints.boxed()))
    }
}

fn record(row: &Row) -> Result<JobRecord> {
    let state: &str = column(row, "get", "state")?;
    let state = JobState::parse(state).ok_or_else(|| {
        Error::new(
            ErrorKind::Store,
            "get",
            state,
            "the job is in a state this program does not know",
        )
    })?;
    Ok(JobRecord {
        id: column::<Uuid>(row, "get", "id")?.into(),
        queue: column(row, "get", "queue")?,
        kind: column(row, "get", "kind")?,
        payload: column(row, "get", "payload")?,
        state,
        priority: column(row, "get", "priority")?,
        attempt: column::<i32>(row, "get", "attempt")?.unsigned_abs(),
        max_attempts: column::<i32>(row, "get", "max_attempts")?.unsigned_abs(),
        run_at: column(row, "get", "run_at")?,
        created_at: column(row, "get", "created_at")?,
        started_at: column(row, "get", "started_at")?,
        finished_at: column(row, "get", "finished_at")?,
        error: column(row, "get", "error")?,
        unique_key: column(row, "get", "unique_key")?,
        traceparent: column(row, "get", "traceparent")?,
        request_id: column(row, "get", "request_id")?,
    })
}
