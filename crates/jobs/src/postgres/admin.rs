use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zhuji_db_pool::{Row, ToSql};

use super::PostgresAdapter;
use super::rows::{column, count, record, small, unknown};
use super::sql::{self, columns};
use crate::adapter::JobsAdapter;
use crate::admin::{
    AdminAdapter, AttemptOutcome, AttemptRecord, Cancellation, DeadFilter, DeadStep, JobDetail, JobFilter,
    QueueRecord, ScheduleRecord,
};
use crate::error::Result;
use crate::job::JobId;
use crate::limit::{Limit, Rate};
use crate::record::{JobRecord, JobState};

/// A list of one state reads one table by an index that is made for it; one of all states merges both.
fn list_sql(state: Option<JobState>) -> String {
    const JOB: &str = concat!(
        "SELECT ",
        columns!("", "left(payload::text, 1000)"),
        " FROM zhuji_jobs.job"
    );
    const FINISHED: &str = concat!(
        "SELECT ",
        columns!("", "left(payload::text, 1000)"),
        " FROM zhuji_jobs.finished"
    );
    const FITS: &str = "($1::text IS NULL OR queue = $1) AND ($2::text IS NULL OR kind = $2)
        AND id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')";
    const PAGE: &str = "ORDER BY id DESC LIMIT $4";
    let one = |table: &str, state: &str| format!("({table} WHERE {FITS}{state} {PAGE})");
    match state {
        Some(JobState::Ready) => one(JOB, " AND state IN ('ready', 'scheduled') AND run_at <= now()"),
        Some(JobState::Scheduled) => one(JOB, " AND state IN ('ready', 'scheduled') AND run_at > now()"),
        Some(JobState::Running) => one(JOB, " AND state = 'running'"),
        Some(JobState::Done) => one(FINISHED, " AND state = 'done'"),
        Some(JobState::Dead) => one(FINISHED, " AND state = 'dead'"),
        Some(JobState::Cancelled) => one(FINISHED, " AND state = 'cancelled'"),
        None => format!("{} UNION ALL {} {PAGE}", one(JOB, ""), one(FINISHED, "")),
    }
}

fn limit(row: &Row) -> Result<Limit> {
    let running: Option<i32> = column(row, "list", "max_running")?;
    let rate: Option<i32> = column(row, "list", "rate")?;
    let per: Option<f64> = column(row, "list", "rate_per")?;
    Ok(Limit {
        running: running.map(i32::unsigned_abs),
        rate: rate.zip(per).map(|(count, per)| Rate {
            count: count.unsigned_abs(),
            per: Duration::try_from_secs_f64(per).unwrap_or_default(),
        }),
    })
}

#[async_trait]
impl AdminAdapter for PostgresAdapter {
    async fn queues(&self) -> Result<Vec<QueueRecord>> {
        let mut queues: BTreeMap<String, QueueRecord> = BTreeMap::new();
        for counts in self.counts().await? {
            let queue = queues.entry(counts.queue.clone()).or_default();
            queue.counts = counts;
        }
        for row in &self.query("list", "queues", sql::RULES, &[]).await? {
            let queue = queues.entry(column(row, "list", "queue")?).or_default();
            let kind: String = column(row, "list", "kind")?;
            let limit = limit(row)?;
            if kind.is_empty() {
                queue.paused = column(row, "list", "paused")?;
                queue.limit = limit;
            } else if !limit.is_none() {
                queue.kinds.insert(kind, limit);
            }
        }
        for schedule in self.schedules().await? {
            queues.entry(schedule.queue).or_default();
        }
        let named = queues.into_iter().map(|(name, mut queue)| {
            queue.counts.queue.clone_from(&name);
            queue.queue = name;
            queue
        });
        Ok(named.collect())
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        let after = filter.after.map(JobId::as_uuid);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 4] = [&filter.queue, &filter.kind, &after, &limit];
        let rows = self
            .query("list", "jobs", &list_sql(filter.state), &params)
            .await?;
        rows.iter().map(record).collect()
    }

    async fn show(&self, id: JobId) -> Result<Option<JobDetail>> {
        let params: [&(dyn ToSql + Sync); 1] = [&id.as_uuid()];
        let rows = self.query("show", &id.to_string(), sql::GET, &params).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let record = record(row)?;
        let mut history = Vec::new();
        for row in &self.query("show", &id.to_string(), sql::HISTORY, &params).await? {
            let outcome: &str = column(row, "show", "outcome")?;
            history.push(AttemptRecord {
                attempt: small(row, "show", "attempt")?,
                worker: column(row, "show", "worker")?,
                started: column(row, "show", "started_at")?,
                ended: column(row, "show", "ended_at")?,
                outcome: AttemptOutcome::parse(outcome).ok_or_else(|| unknown("show", outcome))?,
                error: column(row, "show", "error")?,
            });
        }
        history.extend(AttemptRecord::present(&record, column(row, "show", "worker")?));
        Ok(Some(JobDetail {
            progress: record.progress,
            record,
            history,
            result: column(row, "show", "result")?,
            cancel_requested: column(row, "show", "cancel")?,
        }))
    }

    async fn retry(&self, id: JobId) -> Result<bool> {
        let params: [&(dyn ToSql + Sync); 1] = [&id.as_uuid()];
        let scheduled = self.pool.execute(sql::RETRY_SCHEDULED, &params).await;
        let scheduled = scheduled.map_err(|source| super::explain("retry", &id.to_string(), source))?;
        let found = scheduled > 0
            || !self
                .query("retry", &id.to_string(), sql::RETRY_FINISHED, &params)
                .await?
                .is_empty();
        if found {
            self.bell.call_for_jobs().await;
        }
        Ok(found)
    }

    async fn cancel(&self, id: JobId) -> Result<Option<Cancellation>> {
        let params: [&(dyn ToSql + Sync); 1] = [&id.as_uuid()];
        let rows = self
            .query("cancel", &id.to_string(), sql::CANCEL, &params)
            .await?;
        let answer: Option<&str> = rows
            .first()
            .map_or(Ok(None), |row| column(row, "cancel", "cancel"))?;
        Ok(match answer {
            Some("cancelled") => Some(Cancellation::Cancelled),
            Some(_) => {
                self.bell.call_for_leases().await;
                Some(Cancellation::Requested)
            }
            None => None,
        })
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        self.query("pause", queue, sql::SET_PAUSED, &[&queue, &paused])
            .await?;
        if !paused {
            self.bell.call_for_jobs().await;
        }
        Ok(())
    }

    async fn replay_dead(&self, filter: &DeadFilter, after: Option<JobId>, limit: usize) -> Result<DeadStep> {
        let after = after.map(JobId::as_uuid);
        let step = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 4] = [&filter.queue, &filter.kind, &after, &step];
        let rows = self
            .query("replay", "dead jobs", sql::REPLAY_DEAD, &params)
            .await?;
        let Some(row) = rows.first() else {
            return Ok(DeadStep::default());
        };
        let looked_at = usize::try_from(small(row, "replay", "looked_at")?).unwrap_or(usize::MAX);
        let last: Uuid = column(row, "replay", "last")?;
        let changed = count(row, "replay", "changed")?;
        if changed > 0 {
            self.bell.call_for_jobs().await;
        }
        Ok(DeadStep {
            changed,
            more_after: (looked_at >= limit).then(|| last.into()),
        })
    }

    async fn drop_dead(&self, filter: &DeadFilter, limit: usize) -> Result<DeadStep> {
        let step = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 3] = [&filter.queue, &filter.kind, &step];
        let rows = self.query("drop", "dead jobs", sql::DROP_DEAD, &params).await?;
        let last = rows
            .last()
            .map(|row| column::<Uuid>(row, "drop", "id"))
            .transpose()?;
        Ok(DeadStep {
            changed: rows.len() as u64,
            more_after: last.filter(|_| rows.len() >= limit).map(Into::into),
        })
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>> {
        let all: Option<Vec<String>> = None;
        let rows = self.query("list", "schedules", sql::SCHEDULES, &[&all]).await?;
        let record = |row: &Row| {
            Ok(ScheduleRecord {
                queue: column(row, "list", "queue")?,
                name: column(row, "list", "name")?,
                cron: column(row, "list", "cron")?,
                zone: column(row, "list", "zone")?,
                kind: column(row, "list", "kind")?,
                next: column(row, "list", "next_at")?,
                last: column(row, "list", "last_at")?,
                last_job: column::<Option<Uuid>>(row, "list", "last_job")?.map(Into::into),
            })
        };
        rows.iter().map(record).collect()
    }
}
