use std::collections::{HashMap, HashSet};
use std::pin::pin;

use jiff::Timestamp;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use uuid::Uuid;
use zhuji_db_pool::{Row, ToSql, Transaction};

use super::rows::column;
use super::sql;
use crate::adapter::NewJob;
use crate::batch::BatchId;
use crate::error::Result;
use crate::job::JobId;

/// From this many on, COPY is worth its round trips.
pub(super) const MANY: usize = 50;

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
    batches: Vec<Option<Uuid>>,
}

type Unique = (String, String, String);

/// What to insert, and which id each of the given jobs will turn out to have.
pub(super) struct Insert {
    columns: Columns,
    /// Whether any of them can be run at once.
    pub(super) ready: bool,
    asked: Vec<(JobId, Option<Unique>)>,
}

impl Insert {
    pub(super) fn new(jobs: Vec<NewJob>) -> Self {
        let ready = jobs.iter().any(is_ready);
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
            columns.batches.push(job.batch.map(BatchId::as_uuid));
        }
        Self {
            columns,
            ready,
            asked,
        }
    }

    pub(super) fn subject(&self) -> String {
        self.columns.kinds.first().cloned().unwrap_or_default()
    }

    /// The statement, and its parameters: values for one job, arrays for many.
    pub(super) fn statement(&self) -> (&'static str, [&(dyn ToSql + Sync); 12]) {
        let c = &self.columns;
        if c.ids.len() == 1 {
            let one: [&(dyn ToSql + Sync); 12] = [
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
                &c.batches[0],
            ];
            return (sql::ENQUEUE_ONE, one);
        }
        let many: [&(dyn ToSql + Sync); 12] = [
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
            &c.batches,
        ];
        (sql::ENQUEUE, many)
    }

    pub(super) fn ids(self, rows: &[Row]) -> Result<Vec<JobId>> {
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

/// Whether it can be run at once.
pub(super) fn is_ready(job: &NewJob) -> bool {
    job.delay.is_zero() && job.run_at.is_none()
}

/// Whether the columns of [`sql::COPY`] say everything about this job.
pub(super) fn is_plain(job: &NewJob) -> bool {
    is_ready(job) && job.unique_key.is_none() && job.batch.is_none()
}

/// Brings plain jobs in by COPY.
pub(super) async fn copy(tx: &Transaction<'_>, jobs: &[NewJob]) -> Result<(), tokio_postgres::Error> {
    let types = [
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::JSON,
        Type::INT2,
        Type::INT4,
        Type::TEXT,
        Type::TEXT,
    ];
    let sink = tx.as_raw().copy_in(sql::COPY).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for job in jobs {
        let id = job.id.as_uuid();
        let payload = JsonText(&job.payload);
        let attempts = i32::try_from(job.max_attempts).unwrap_or(i32::MAX);
        let row: [&(dyn ToSql + Sync); 8] = [
            &id,
            &job.queue,
            &job.kind,
            &payload,
            &job.priority,
            &attempts,
            &job.traceparent,
            &job.request_id,
        ];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await.map(|_| ())
}

/// Text that is JSON already.
#[derive(Debug)]
struct JsonText<'a>(&'a str);

impl ToSql for JsonText<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }

    tokio_postgres::types::to_sql_checked!();
}
