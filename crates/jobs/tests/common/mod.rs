#![allow(dead_code)]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::{
    Backoff, Job, JobId, JobRecord, JobState, Jobs, JobsAdapter, JobsConfig, MemoryAdapter, Policy,
    PostgresAdapter,
};
use zhuji_testkit::{TestDatabase, TestPostgres};

/// How long a test waits for something before it says that it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A queue with nothing in it, and what keeps it alive.
pub(crate) struct Bench {
    pub(crate) jobs: Jobs,
    pub(crate) adapter: Arc<dyn JobsAdapter>,
    pub(crate) pool: Option<DbPool>,
    pub(crate) url: String,
    _database: Option<(TestPostgres, TestDatabase)>,
}

pub(crate) fn config() -> JobsConfig {
    JobsConfig {
        concurrency: std::num::NonZeroUsize::new(64),
        poll_interval: Duration::from_millis(100),
        lease: Duration::from_secs(10),
        ..JobsConfig::default()
    }
}

pub(crate) async fn bench(kind: &str) -> Bench {
    bench_with(kind, config()).await
}

pub(crate) async fn bench_with(kind: &str, config: JobsConfig) -> Bench {
    if kind == "memory" {
        let adapter: Arc<dyn JobsAdapter> = Arc::new(MemoryAdapter::new());
        let jobs = Jobs::new(adapter.clone(), &config);
        return Bench {
            jobs,
            adapter,
            pool: None,
            url: String::new(),
            _database: None,
        };
    }
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    let url = database.url().to_string();
    let pool = pool(&url).await;
    let adapter: Arc<dyn JobsAdapter> =
        Arc::new(PostgresAdapter::connect(pool.clone()).await.expect("migrated"));
    let jobs = Jobs::new(adapter.clone(), &config);
    Bench {
        jobs,
        adapter,
        pool: Some(pool),
        url,
        _database: Some((postgres, database)),
    }
}

pub(crate) async fn pool(url: &str) -> DbPool {
    let config = DbConfig {
        pool_size: Some(8),
        acquire_timeout: Duration::from_secs(10),
        ..DbConfig::new(url)
    };
    DbPool::connect(&config).await.expect("the server is up")
}

/// Until `condition` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn state(jobs: &Jobs, id: JobId, state: JobState) -> JobRecord {
    eventually(&format!("{id} to be {state:?}"), || async {
        jobs.get(id)
            .await
            .expect("the store answers")
            .filter(|job| job.state == state)
    })
    .await
}

/// What handlers leave behind for the test to look at.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Seen<T> {
    pub(crate) fn add(&self, value: T) -> usize {
        let mut seen = self.0.lock().unwrap();
        seen.push(value);
        seen.len()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A job that is tried again almost at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl Job for Note {
    const KIND: &'static str = "note";
    fn policy() -> Policy {
        Policy::default().max_attempts(3).backoff(quick())
    }
}

pub(crate) fn note(text: impl Into<String>) -> Note {
    Note { text: text.into() }
}

/// A job that may take 100 ms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hasty;

impl Job for Hasty {
    const KIND: &'static str = "hasty";
    fn policy() -> Policy {
        Policy::default()
            .max_attempts(2)
            .backoff(quick())
            .timeout(Duration::from_millis(100))
    }
}

pub(crate) fn quick() -> Backoff {
    Backoff {
        base: Duration::from_millis(10),
        max: Duration::from_millis(20),
    }
}
