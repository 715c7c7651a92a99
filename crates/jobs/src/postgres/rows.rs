//! Rows into values.

use std::time::Duration;

use tokio_postgres::types::FromSql;
use uuid::Uuid;
use zhuji_db_pool::Row;

use crate::error::{Error, ErrorKind, Result};
use crate::record::{JobRecord, JobState, Progress, QueueCounts};

pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, operation: &'static str, name: &str) -> Result<T> {
    row.try_get(name).map_err(|source| {
        let reason = "the column is not of the expected type";
        Error::new(ErrorKind::Store, operation, name, reason).with_source(source)
    })
}

/// A number that the schema keeps from being negative.
pub(super) fn count(row: &Row, operation: &'static str, name: &str) -> Result<u64> {
    Ok(u64::try_from(column::<i64>(row, operation, name)?).unwrap_or_default())
}

pub(super) fn small(row: &Row, operation: &'static str, name: &str) -> Result<u32> {
    Ok(column::<i32>(row, operation, name)?.unsigned_abs())
}

pub(super) fn seconds(row: &Row, operation: &'static str, name: &str) -> Result<Option<Duration>> {
    let seconds: Option<f64> = column(row, operation, name)?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

pub(super) fn unknown(operation: &'static str, what: &str) -> Error {
    let reason = "the store has a word there that this program does not know: it is older than the schema";
    Error::new(ErrorKind::Store, operation, what, reason)
}

pub(super) fn record(row: &Row) -> Result<JobRecord> {
    let state: &str = column(row, "get", "state")?;
    let progress = (
        column::<Option<i64>>(row, "get", "progress_done")?,
        column::<Option<i64>>(row, "get", "progress_total")?,
    );
    Ok(JobRecord {
        id: column::<Uuid>(row, "get", "id")?.into(),
        queue: column(row, "get", "queue")?,
        kind: column(row, "get", "kind")?,
        payload: column(row, "get", "payload")?,
        state: JobState::parse(state).ok_or_else(|| unknown("get", state))?,
        priority: column(row, "get", "priority")?,
        attempt: small(row, "get", "attempt")?,
        max_attempts: small(row, "get", "max_attempts")?,
        run_at: column(row, "get", "run_at")?,
        created_at: column(row, "get", "created_at")?,
        started_at: column(row, "get", "started_at")?,
        finished_at: column(row, "get", "finished_at")?,
        error: column(row, "get", "error")?,
        unique_key: column(row, "get", "unique_key")?,
        traceparent: column(row, "get", "traceparent")?,
        request_id: column(row, "get", "request_id")?,
        batch: column::<Option<Uuid>>(row, "get", "batch")?.map(Into::into),
        progress: match progress {
            (Some(done), Some(total)) => Some(Progress {
                done: done.unsigned_abs(),
                total: total.unsigned_abs(),
            }),
            _ => None,
        },
    })
}

pub(super) fn counts(row: &Row) -> Result<QueueCounts> {
    Ok(QueueCounts {
        queue: column(row, "count", "queue")?,
        ready: count(row, "count", "ready")?,
        scheduled: count(row, "count", "scheduled")?,
        running: count(row, "count", "running")?,
        stuck: count(row, "count", "stuck")?,
        dead: count(row, "count", "dead")?,
        dead_lately: count(row, "count", "dead_lately")?,
        oldest_ready: seconds(row, "count", "oldest_ready")?.unwrap_or_default(),
    })
}
