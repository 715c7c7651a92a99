use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use zhuji_db_pool::DbPool;

use crate::adapter::JobsAdapter;
use crate::config::JobsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::Jobs;
use crate::memory::MemoryAdapter;
use crate::postgres::PostgresAdapter;

type Built = Pin<Box<dyn Future<Output = Result<Arc<dyn JobsAdapter>>> + Send>>;
type Constructor = Box<dyn Fn(JobsConfig, Option<DbPool>) -> Built + Send + Sync>;

/// Turns settings into [`Jobs`].
#[derive(Default)]
pub struct JobsFactory {
    registered: BTreeMap<String, Constructor>,
}

impl JobsFactory {
    /// A factory that knows `postgres` and `memory`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an adapter under a name of its own, to be chosen with `JOBS_TYPE`. Registering a name again replaces the
    /// former.
    pub fn register<F, Fut>(mut self, name: impl Into<String>, constructor: F) -> Self
    where
        F: Fn(JobsConfig, Option<DbPool>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<dyn JobsAdapter>>> + Send + 'static,
    {
        let constructor: Constructor = Box::new(move |config, pool| Box::pin(constructor(config, pool)));
        self.registered.insert(name.into(), constructor);
        self
    }

    /// Builds the queue. For `postgres` it also brings the schema `zhuji_jobs` up to date, which is safe when many
    /// instances start at once. Starts no worker. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the settings can't work, for example `postgres` without a pool;
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Migration`] if the schema can't be brought up to date.
    pub async fn build(&self, config: &JobsConfig, pool: Option<DbPool>) -> Result<Jobs> {
        config.validate()?;
        let adapter: Arc<dyn JobsAdapter> = match (self.registered.get(&config.kind), config.kind.as_str()) {
            (Some(constructor), _) => constructor(config.clone(), pool).await?,
            (None, "memory") => Arc::new(MemoryAdapter::new()),
            (None, "postgres") => {
                let reason = "needs a database: set DATABASE_URL, or JOBS_TYPE=memory to keep jobs in this process only";
                let pool = pool.ok_or_else(|| {
                    Error::new(ErrorKind::Config, "configure", "JOBS_TYPE=postgres", reason)
                })?;
                Arc::new(PostgresAdapter::connect(pool).await?)
            }
            (None, kind) => {
                let names: Vec<&str> = ["postgres", "memory"]
                    .into_iter()
                    .chain(self.registered.keys().map(String::as_str))
                    .collect();
                let reason = format!("no adapter of that name; there are: {}", names.join(", "));
                return Err(Error::new(
                    ErrorKind::Config,
                    "configure",
                    format!("JOBS_TYPE={kind}"),
                    reason,
                ));
            }
        };
        Ok(Jobs::new(adapter, config))
    }
}

impl fmt::Debug for JobsFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobsFactory")
            .field("registered", &self.registered.keys())
            .finish()
    }
}
