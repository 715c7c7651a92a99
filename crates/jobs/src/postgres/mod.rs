//! Jobs in the schema `zhuji_jobs` of the service's own database.

mod admin;
mod bell;
mod insert;
mod rows;
mod schedule;
mod schema;
mod sql;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use uuid::Uuid;
use zhuji_db_pool::{DbPool, Row, ToSql, Transaction};

use self::bell::Bell;
use self::insert::{Insert, MANY};
use self::rows::{column, count, counts, record, seconds, small};
use crate::adapter::{
    ClaimRequest, Claimed, Claims, Fence, Finish, Hint, JobsAdapter, NewJob, Renewed, Report, Rescued,
    SweepRequest, WorkerId,
};
use crate::admin::AdminAdapter;
use crate::batch::{BatchId, BatchRecord, NewBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::limit::Limit;
use crate::record::{JobRecord, Progress, QueueCounts};
use crate::schedule::ScheduleAdapter;

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
        Ok(Self::with(pool))
    }

    /// Takes the schema as it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the server can't be reached, [`ErrorKind::Migration`] if the schema is not there
    /// or older than this program.
    pub async fn open(pool: DbPool) -> Result<Self> {
        let adapter = Self::with(pool);
        let row = adapter.query("open", schema::NAME, sql::IS_PRESENT, &[]).await?;
        if row.first().is_some_and(|row| row.get(0)) {
            return Ok(adapter);
        }
        let reason = "this database has no job queue of this program's version";
        let subject = format!("schema {}", schema::NAME);
        Err(Error::new(ErrorKind::Migration, "open", subject, reason))
    }

    fn with(pool: DbPool) -> Self {
        Self {
            bell: Bell::new(pool.clone()),
            pool,
        }
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

    async fn insert(&self, insert: &Insert) -> Result<Vec<Row>> {
        let (sql, params) = insert.statement();
        self.query("enqueue", &insert.subject(), sql, &params).await
    }

    /// Many plain jobs, by COPY in a transaction.
    async fn copy(&self, jobs: &[NewJob]) -> Result<()> {
        let subject = jobs.first().map(|job| job.kind.clone()).unwrap_or_default();
        let work = async {
            let mut connection = self.pool.get().await?;
            let tx = connection.transaction().await?;
            match insert::copy(&tx, jobs).await {
                Ok(()) => tx.commit().await.map(Ok),
                Err(error) => Ok(Err(error)),
            }
        };
        let refused = |source: tokio_postgres::Error| {
            let (kind, reason) = match source.as_db_error() {
                Some(_) => (ErrorKind::Store, "the database refused the jobs"),
                None => (ErrorKind::Unavailable, "the database is out of reach"),
            };
            Error::new(kind, "enqueue", &subject, reason).with_source(source)
        };
        match tokio::time::timeout(COPY_TIMEOUT, work).await {
            Ok(Ok(copied)) => copied.map_err(refused),
            Ok(Err(source)) => Err(explain("enqueue", &subject, source)),
            Err(_) => {
                let reason = format!("no answer within {COPY_TIMEOUT:?}");
                Err(Error::new(ErrorKind::Unavailable, "enqueue", &subject, reason))
            }
        }
    }
}

/// COPY goes past the pool's own deadline.
const COPY_TIMEOUT: Duration = Duration::from_secs(30);

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

fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The place in the arrays that a function of the schema answers with.
fn place(row: &Row, operation: &'static str) -> Result<usize> {
    Ok(usize::try_from(column::<i32>(row, operation, "place")? - 1).unwrap_or(usize::MAX))
}

#[async_trait]
impl JobsAdapter for PostgresAdapter {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        // A pooler would mix up the statement that the driver prepares for COPY with those of others.
        if jobs.len() >= MANY && !self.pool.is_pooled() && jobs.iter().all(insert::is_plain) {
            self.copy(&jobs).await?;
            self.bell.ring();
            return Ok(jobs.into_iter().map(|job| job.id).collect());
        }
        let insert = Insert::new(jobs);
        let rows = self.insert(&insert).await?;
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
            self.bell.ring_soon();
        }
        insert.ids(&rows)
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claims> {
        let limit = i32::try_from(request.limit).unwrap_or(i32::MAX);
        let lease = request.lease.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 5] =
            [&request.queue, &request.kinds, &limit, &request.worker.0, &lease];
        let rows = self.query("claim", &request.queue, sql::CLAIM, &params).await?;
        let mut claims = Claims {
            jobs: Vec::with_capacity(rows.len()),
            again_in: None,
        };
        for row in &rows {
            let waited = seconds(row, "claim", "waited")?;
            let Some(id) = column::<Option<Uuid>>(row, "claim", "id")? else {
                claims.again_in = waited;
                continue;
            };
            claims.jobs.push(Claimed {
                id: id.into(),
                queue: request.queue.clone(),
                kind: column(row, "claim", "kind")?,
                payload: column(row, "claim", "payload")?,
                claim: count(row, "claim", "claims")?,
                attempt: small(row, "claim", "attempt")?,
                max_attempts: small(row, "claim", "max_attempts")?,
                traceparent: column(row, "claim", "traceparent")?,
                request_id: column(row, "claim", "request_id")?,
                waited: waited.unwrap_or_default(),
                batch: column::<Option<Uuid>>(row, "claim", "batch")?.map(Into::into),
            });
        }
        Ok(claims)
    }

    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Renewed>> {
        let (ids, claims, workers) = fences(running.iter().copied());
        let lease = lease.as_secs_f64();
        let rows = self
            .query("renew", "leases", sql::RENEW, &[&ids, &claims, &workers, &lease])
            .await?;
        let mut renewed = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(fence) = running.get(place(row, "renew")?) {
                let cancel = column(row, "renew", "cancel")?;
                renewed.push(Renewed {
                    fence: *fence,
                    cancel,
                });
            }
        }
        Ok(renewed)
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let mut answers = vec![false; reports.len()];
        let is_done = |at: &usize| matches!(reports[*at].finish, Finish::Done { .. });
        let (done, failed): (Vec<usize>, Vec<usize>) = (0..reports.len()).partition(is_done);
        if !done.is_empty() {
            let (ids, claims, workers) = fences(done.iter().map(|at| reports[*at].fence));
            let result = |at: &usize| match &reports[*at].finish {
                Finish::Done { result } => result.as_deref(),
                _ => None,
            };
            let results: Vec<Option<&str>> = done.iter().map(result).collect();
            let params: [&(dyn ToSql + Sync); 4] = [&ids, &claims, &workers, &results];
            for row in &self.query("finish", "attempts", sql::COMPLETE, &params).await? {
                if let Some(at) = done.get(place(row, "finish")?) {
                    answers[*at] = true;
                }
            }
        }
        if !failed.is_empty() {
            let (ids, claims, workers) = fences(failed.iter().map(|at| reports[*at].fence));
            let (mut verbs, mut delays, mut errors) = (Vec::new(), Vec::new(), Vec::new());
            for at in &failed {
                let (verb, delay, error) = match &reports[*at].finish {
                    Finish::Retry { delay, error } => ("retry", delay.as_secs_f64(), Some(error.as_str())),
                    Finish::Dead { error } => ("dead", 0.0, Some(error.as_str())),
                    Finish::Cancelled => ("cancelled", 0.0, None),
                    Finish::HandBack | Finish::Done { .. } => ("hand_back", 0.0, None),
                };
                verbs.push(verb);
                delays.push(delay);
                errors.push(error);
            }
            let params: [&(dyn ToSql + Sync); 6] = [&ids, &claims, &workers, &verbs, &delays, &errors];
            for row in &self.query("finish", "attempts", sql::FAIL, &params).await? {
                if let Some(at) = failed.get(place(row, "finish")?) {
                    answers[*at] = true;
                }
            }
        }
        Ok(answers)
    }

    async fn has_ended(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let (ids, claims, workers) = fences(reports.iter().map(|report| report.fence));
        let is_done = |report: &Report| matches!(report.finish, Finish::Done { .. });
        let done: Vec<bool> = reports.iter().map(is_done).collect();
        let params: [&(dyn ToSql + Sync); 4] = [&ids, &claims, &workers, &done];
        let mut ended = vec![false; reports.len()];
        for row in &self.query("finish", "attempts", sql::HAS_ENDED, &params).await? {
            if let Some(ended) = ended.get_mut(place(row, "finish")?) {
                *ended = true;
            }
        }
        Ok(ended)
    }

    async fn finish_in(&self, tx: &Transaction<'_>, fence: Fence, result: Option<&str>) -> Result<bool> {
        let (ids, claims, workers) = fences(std::iter::once(fence));
        let rows = tx
            .query(sql::COMPLETE, &[&ids, &claims, &workers, &vec![result]])
            .await;
        let rows = rows.map_err(|source| explain("complete", &fence.id.to_string(), source))?;
        Ok(!rows.is_empty())
    }

    async fn rescue(&self, limit: usize) -> Result<Rescued> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows = self.query("rescue", "leases", sql::RESCUE, &[&limit]).await?;
        let mut rescued = Rescued::default();
        for row in &rows {
            match column::<&str>(row, "rescue", "state")? {
                "ready" | "scheduled" => rescued.ready += 1,
                _ => rescued.dead += 1,
            }
        }
        Ok(rescued)
    }

    async fn release(&self, worker: WorkerId, keep: &[Fence]) -> Result<u64> {
        let (ids, claims, _) = fences(keep.iter().copied());
        let params: [&(dyn ToSql + Sync); 3] = [&worker.0, &ids, &claims];
        let rows = self.query("release", "claims", sql::RELEASE, &params).await?;
        rows.first().map_or(Ok(0), |row| count(row, "release", "release"))
    }

    async fn sweep(&self, request: SweepRequest) -> Result<u64> {
        let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
        let (done, dead) = (request.done.as_secs_f64(), request.dead.as_secs_f64());
        self.query("sweep", "finished jobs", sql::TIDY, &[&limit]).await?;
        let params: [&(dyn ToSql + Sync); 3] = [&done, &dead, &limit];
        let rows = self.query("sweep", "finished jobs", sql::SWEEP, &params).await?;
        rows.first().map_or(Ok(0), |row| count(row, "sweep", "count"))
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        let rows = self
            .query("get", &id.to_string(), sql::GET, &[&id.as_uuid()])
            .await?;
        rows.first().map(record).transpose()
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let rows = self.query("count", "queues", sql::COUNTS, &[]).await?;
        rows.iter().map(counts).collect()
    }

    async fn recent_counts(&self, max_age: Duration) -> Result<Vec<QueueCounts>> {
        let age = max_age.as_secs_f64();
        let rows = self.query("count", "queues", sql::RECENT_COUNTS, &[&age]).await?;
        rows.iter().map(counts).collect()
    }

    async fn progress(&self, progress: &[(Fence, Progress)]) -> Result<()> {
        let (ids, claims, workers) = fences(progress.iter().map(|(fence, _)| *fence));
        let dones: Vec<i64> = progress.iter().map(|(_, at)| bigint(at.done)).collect();
        let totals: Vec<i64> = progress.iter().map(|(_, at)| bigint(at.total)).collect();
        let params: [&(dyn ToSql + Sync); 5] = [&ids, &claims, &workers, &dones, &totals];
        self.query("progress", "jobs", sql::PROGRESS, &params)
            .await
            .map(|_| ())
    }

    async fn enqueue_batch(&self, batch: NewBatch) -> Result<()> {
        let subject = batch.id.to_string();
        let ready = batch.members.iter().any(insert::is_ready) || batch.members.is_empty();
        let stored = self
            .pool
            .transaction(async |tx| store_batch(tx, batch).await)
            .await;
        stored.map_err(|source: zhuji_db_pool::Error| explain("enqueue", &subject, source))?;
        if ready {
            self.bell.ring();
        }
        Ok(())
    }

    async fn enqueue_batch_in(&self, tx: &Transaction<'_>, batch: NewBatch) -> Result<()> {
        let subject = batch.id.to_string();
        let stored = store_batch(tx, batch).await;
        stored.map_err(|source| explain("enqueue", &subject, source))?;
        self.bell.ring_soon();
        Ok(())
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>> {
        let params: [&(dyn ToSql + Sync); 1] = [&id.as_uuid()];
        let rows = self
            .query("get", &id.to_string(), sql::GET_BATCH, &params)
            .await?;
        let record = |row: &Row| {
            Ok(BatchRecord {
                id,
                queue: column(row, "get", "queue")?,
                total: u64::from(small(row, "get", "total")?),
                pending: u64::from(small(row, "get", "pending")?),
                failed: u64::from(small(row, "get", "failed")?),
                created_at: column(row, "get", "created_at")?,
                ended_at: column(row, "get", "ended_at")?,
                next: column::<Option<Uuid>>(row, "get", "next_id")?.map(Into::into),
            })
        };
        rows.first().map(record).transpose()
    }

    async fn set_limits(&self, queue: &str, limit: Option<Limit>, kinds: &[(&str, Limit)]) -> Result<()> {
        let all = limit
            .into_iter()
            .map(|limit| ("", limit))
            .chain(kinds.iter().copied());
        let (mut names, mut running, mut rates, mut pers) = (vec![], vec![], vec![], vec![]);
        for (name, limit) in all {
            names.push(name);
            running.push(limit.running.map(integer));
            rates.push(limit.rate.map(|rate| integer(rate.count)));
            pers.push(limit.rate.map(|rate| rate.per.as_secs_f64()));
        }
        if names.is_empty() {
            return Ok(());
        }
        let params: [&(dyn ToSql + Sync); 5] = [&queue, &names, &running, &rates, &pers];
        self.query("limit", queue, sql::SET_LIMITS, &params)
            .await
            .map(|_| ())
    }

    async fn hints(&self) -> Result<Option<BoxStream<'static, Result<Hint>>>> {
        let listener = self.pool.listen(&[CHANNEL]).await;
        let listener = listener.map_err(|source| explain("listen", CHANNEL, source))?;
        let hints = stream::unfold(Some(listener), |listener| async {
            let mut listener = listener?;
            match listener.recv().await {
                Ok(notification) => Some((Ok(bell::hint(&notification.payload)), Some(listener))),
                Err(source) => Some((Err(explain("listen", CHANNEL, source)), None)),
            }
        });
        Ok(Some(hints.boxed()))
    }

    fn admin(&self) -> Option<&dyn AdminAdapter> {
        Some(self)
    }

    fn timetable(&self) -> Option<&dyn ScheduleAdapter> {
        Some(self)
    }
}

async fn store_batch(tx: &Transaction<'_>, batch: NewBatch) -> Result<(), zhuji_db_pool::Error> {
    let total = i32::try_from(batch.members.len()).unwrap_or(i32::MAX);
    let next = batch.next.as_ref();
    let params: [&(dyn ToSql + Sync); 10] = [
        &batch.id.as_uuid(),
        &batch.queue,
        &total,
        &next.map(|next| next.id.as_uuid()),
        &next.map(|next| next.kind.as_str()),
        &next.map(|next| next.payload.as_str()),
        &next.map(|next| next.priority),
        &next.map(|next| integer(next.max_attempts)),
        &next.and_then(|next| next.traceparent.as_deref()),
        &next.and_then(|next| next.request_id.as_deref()),
    ];
    tx.execute(sql::BATCH, &params).await?;
    let jobs = match (batch.members.is_empty(), batch.next) {
        (true, Some(next)) => vec![next],
        (true, None) => return Ok(()),
        (false, _) => batch.members,
    };
    let insert = Insert::new(jobs);
    let (sql, params) = insert.statement();
    tx.query(sql, &params).await.map(|_| ())
}
