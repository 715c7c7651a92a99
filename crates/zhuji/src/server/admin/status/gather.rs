//! Everything that the page shows, found out in one go: memory only, but for the queues, which have a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use zhuji_health::CheckState;
use zhuji_jobs::QueueRecord;
use zhuji_logging::RecentError;

use super::exposition::Exposition;
use super::history::{Sample, Totals};
use crate::server::admin::{Admin, log_filter};

/// The page is most needed when the database is slow.
const QUEUES_TIME: Duration = Duration::from_secs(1);

#[derive(Serialize)]
pub(super) struct Status {
    pub(super) status: &'static str,
    pub(super) database: &'static str,
    pub(super) service: &'static str,
    #[serde(serialize_with = "as_map")]
    pub(super) facts: Vec<(&'static str, String)>,
    #[serde(rename = "uptime_seconds", serialize_with = "seconds")]
    pub(super) uptime: Duration,
    #[serde(rename = "event_loop_lag_seconds", serialize_with = "seconds")]
    pub(super) lag: Duration,
    #[serde(rename = "memory_bytes")]
    pub(super) memory: Option<u64>,
    pub(super) requests: Requests,
    #[serde(serialize_with = "as_checks")]
    pub(super) checks: Vec<CheckState>,
    pub(super) pool: Option<Pool>,
    pub(super) cache: Option<Cache>,
    pub(super) storage: Option<Storage>,
    /// The queues, or why they are not known now.
    pub(super) jobs: Option<Jobs>,
    pub(super) log: Value,
    #[serde(serialize_with = "as_errors")]
    pub(super) errors: Vec<RecentError>,
    #[serde(skip)]
    pub(super) samples: Vec<Sample>,
}

/// Since the start, but for the last three: of the last seconds.
#[derive(Serialize)]
pub(super) struct Requests {
    pub(super) total: u64,
    pub(super) errors: u64,
    pub(super) connections: u64,
    pub(super) per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) p99_seconds: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Pool {
    pub(super) max: usize,
    pub(super) size: usize,
    pub(super) in_use: usize,
    pub(super) idle: usize,
    pub(super) waiting: usize,
    /// `OK`, `TIGHT` or `IMPOSSIBLE`.
    pub(super) plan: Option<String>,
    pub(super) advice: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Cache {
    pub(super) adapter: &'static str,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) errors: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) breaker_open: bool,
}

#[derive(Serialize)]
pub(super) struct Storage {
    pub(super) in_flight: u64,
    pub(super) operations: Vec<Operation>,
    /// What waits for the other side, if this storage has such a place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) outbox: BTreeMap<String, f64>,
}

#[derive(Serialize)]
pub(super) struct Operation {
    pub(super) adapter: String,
    pub(super) operation: String,
    pub(super) count: u64,
    pub(super) errors: u64,
    pub(super) mean_seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Jobs {
    Queues(Vec<QueueRecord>),
    Unknown(String),
}

impl Status {
    pub(super) async fn of(admin: &Admin) -> Self {
        let of = &admin.of;
        // Before the metrics are read: this brings some of them up to date.
        let cache = of.cache.as_ref().map(cache);
        let text = of.metrics.render();
        let metrics = Exposition::read(&text);
        let health = of.health.snapshot();
        let samples = admin.history.samples();
        let last = samples.last().copied().unwrap_or_default();
        let totals = Totals::of(&metrics);
        let whole = |name: &str| metrics.sum(name).map(|value| value as u64);
        Self {
            status: health.status.as_str(),
            database: health.database.as_str(),
            service: of.name,
            facts: of.facts.clone(),
            uptime: health.uptime,
            lag: health.event_loop_lag,
            memory: whole("process_resident_memory_bytes"),
            requests: Requests {
                total: totals.requests as u64,
                errors: totals.errors as u64,
                connections: whole("zhuji_http_connections").unwrap_or_default(),
                per_second: last.requests_per_second,
                errors_per_second: last.errors_per_second,
                p99_seconds: last.p99_seconds,
            },
            checks: health.checks,
            pool: of.db.as_ref().map(pool),
            cache,
            storage: storage(&metrics),
            jobs: match &of.jobs {
                Some(jobs) => Some(match tokio::time::timeout(QUEUES_TIME, jobs.queues()).await {
                    Ok(Ok(queues)) => Jobs::Queues(queues),
                    Ok(Err(error)) => Jobs::Unknown(error.to_string()),
                    Err(_) => Jobs::Unknown("the store did not answer in time".to_owned()),
                }),
                None => None,
            },
            log: log_filter::current(&of.log),
            errors: of.log.recent_errors(),
            samples,
        }
    }
}

fn pool(db: &zhuji_db_pool::DbPool) -> Pool {
    let (status, plan) = (db.status(), db.plan());
    Pool {
        max: status.max,
        size: status.size,
        in_use: status.in_use,
        idle: status.idle,
        waiting: status.waiting,
        plan: plan.as_ref().map(|plan| plan.verdict.to_string()),
        advice: plan.map(|plan| plan.advice).unwrap_or_default(),
    }
}

fn cache(cache: &zhuji_cache::Cache) -> Cache {
    let stats = cache.stats();
    Cache {
        adapter: cache.adapter_name(),
        hits: stats.hits,
        misses: stats.misses,
        errors: stats.errors,
        entries: stats.adapter.entries,
        bytes: stats.adapter.bytes,
        breaker_open: stats.adapter.breaker_open,
    }
}

fn storage(metrics: &Exposition<'_>) -> Option<Storage> {
    let mut operations: BTreeMap<(&str, &str), Operation> = BTreeMap::new();
    for series in metrics.all("zhuji_storage_operations_total") {
        let (adapter, operation) = (series.label("adapter")?, series.label("operation")?);
        let same = |name: &str| {
            let series = metrics.all(name).filter(|other| {
                other.label("adapter") == Some(adapter) && other.label("operation") == Some(operation)
            });
            series.map(|series| series.value).sum::<f64>()
        };
        // A histogram's own series: the names are not metrics of ours.
        let seconds = |part| same(&format!("zhuji_storage_operation_seconds{part}"));
        let (sum, count) = (seconds("_sum"), seconds("_count"));
        let entry = Operation {
            adapter: adapter.to_owned(),
            operation: operation.to_owned(),
            count: series.value as u64,
            errors: same("zhuji_storage_errors_total") as u64,
            mean_seconds: (count > 0.0).then(|| sum / count),
        };
        operations.insert((adapter, operation), entry);
    }
    let mut outbox = BTreeMap::new();
    for (rest, series) in metrics.beginning("zhuji_storage_outbox_") {
        if !rest.contains("_bucket") {
            *outbox.entry(rest.replace('_', " ")).or_default() += series.value;
        }
    }
    (!operations.is_empty()).then(|| Storage {
        in_flight: metrics.sum("zhuji_storage_in_flight").unwrap_or_default() as u64,
        operations: operations.into_values().collect(),
        outbox,
    })
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

fn as_map<S: Serializer>(facts: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

fn as_checks<S: Serializer>(checks: &[CheckState], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(checks.iter().map(|check| {
        json!({
            "name": &*check.name,
            "status": check.status.as_str(),
            "critical": check.critical,
            "error": check.error_kind.as_deref(),
            "latency_seconds": check.latency.map(|latency| latency.as_secs_f64()),
            "age_seconds": check.age.map(|age| age.as_secs_f64()),
        })
    }))
}

fn as_errors<S: Serializer>(errors: &[RecentError], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(errors.iter().map(|error| {
        json!({
            "time": time(error.time),
            "kind": error.kind,
            "message": error.message,
            "module": error.module,
            "request_id": error.request_id,
        })
    }))
}

fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}
