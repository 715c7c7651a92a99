use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use zhuji_config::Problem;
use zhuji_db_pool::DbPool;

use crate::adapter::JobsAdapter;
use crate::config::JobsConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::Jobs;
use crate::memory::MemoryAdapter;
use crate::postgres::PostgresAdapter;

type Built = Pin<Box<dyn Future<Output = Result<Arc<dyn JobsAdapter>>> + Send>>;
type Constructor = Box<dyn Fn(JobsConfig, Option<DbPool>) -> Built + Send + Sync>;

const BUILT_IN: [&str; 2] = ["postgres", "memory"];

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

    /// The names that `JOBS_TYPE` can take: the built-in ones, then the registered ones in order.
    pub fn names(&self) -> Vec<&str> {
        let registered = self.registered.keys().map(String::as_str);
        let new = registered.filter(|name| !BUILT_IN.contains(name));
        BUILT_IN.into_iter().chain(new).collect()
    }

    /// Whether this factory knows the adapter that the settings name; without building anything, for a report of all
    /// problems at once.
    ///
    /// # Errors
    ///
    /// The problem to report, with the name that was probably meant.
    pub fn check_kind(&self, config: &JobsConfig) -> Result<(), Box<Problem>> {
        let (kind, names) = (config.kind.as_str(), self.names());
        if names.contains(&kind) {
            return Ok(());
        }
        Err(Box::new(Problem::unknown_choice("JOBS_TYPE", kind, &names)))
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
                let reason = format!("no adapter of that name; there are: {}", self.names().join(", "));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_adapter_is_told_from_a_registered_one_without_building_it() {
        let factory = JobsFactory::new().register("etcd", |_, _| async {
            let adapter: Arc<dyn JobsAdapter> = Arc::new(MemoryAdapter::new());
            Ok(adapter)
        });
        assert_eq!(factory.names(), ["postgres", "memory", "etcd"]);
        let check = |kind: &str| {
            let config = JobsConfig {
                kind: kind.to_owned(),
                ..JobsConfig::default()
            };
            factory.check_kind(&config).map_err(|problem| problem.to_string())
        };
        for known in ["postgres", "memory", "etcd"] {
            check(known).expect(known);
        }
        let told = check("postgers").expect_err("mistyped");
        assert!(
            told.contains("JOBS_TYPE")
                && told.contains("`etcd`")
                && told.contains("Did you mean `postgres`?"),
            "{told}"
        );
        assert!(
            !check("quantum-drive")
                .expect_err("nothing like it")
                .contains("Did you mean")
        );
        factory
            .check_kind(&JobsConfig::default())
            .expect("the default is known");
    }
}
