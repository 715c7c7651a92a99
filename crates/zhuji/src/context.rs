//! What a module is given.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use zhuji_cache::Cache;
use zhuji_db_pool::DbPool;
use zhuji_jobs::Jobs;
use zhuji_storage::Storage;

use crate::isolated::Isolated;
use crate::module::{Manifest, Need};
use crate::settings::LlmConfig;

/// Everything a module may touch, already scoped to it: the database has its schema on the search path, storage keys
/// are under `<name>/`, cache entries and jobs carry the name. A module can't see past its own context.
///
/// Cheap to clone. A resource that the [`Manifest`] does not ask for is not there: its method panics and says so, which
/// a module meets the first time it is started.
pub struct Context<C> {
    shared: Arc<Shared<C>>,
}

pub(crate) struct Shared<C> {
    pub(crate) manifest: Manifest,
    pub(crate) config: C,
    pub(crate) resources: Resources,
}

/// The handles, scoped to one module.
#[derive(Clone)]
pub(crate) struct Resources {
    pub(crate) db: Option<DbPool>,
    pub(crate) storage: Option<Storage>,
    pub(crate) cache: Option<Cache>,
    pub(crate) jobs: Option<Jobs>,
    pub(crate) isolated: Isolated,
    pub(crate) llm: LlmConfig,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl<C> Clone for Context<C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for Context<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("module", &self.shared.manifest.name)
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl<C> Context<C> {
    pub(crate) fn new(manifest: Manifest, config: C, resources: Resources) -> Self {
        Self {
            shared: Arc::new(Shared {
                manifest,
                config,
                resources,
            }),
        }
    }

    /// The module's name.
    pub fn name(&self) -> &'static str {
        self.shared.manifest.name
    }

    /// The module's settings.
    pub fn config(&self) -> &C {
        &self.shared.config
    }

    /// The database, in the module's own schema.
    ///
    /// # Panics
    /// If the manifest does not ask for [`Need::Database`].
    pub fn db(&self) -> &DbPool {
        self.asked_for(Need::Database, self.shared.resources.db.as_ref())
    }

    /// Files, under the module's own prefix.
    ///
    /// # Panics
    /// If the manifest does not ask for [`Need::Storage`].
    pub fn storage(&self) -> &Storage {
        self.asked_for(Need::Storage, self.shared.resources.storage.as_ref())
    }

    /// The cache, in the module's own namespace.
    ///
    /// # Panics
    /// If the manifest does not ask for [`Need::Cache`].
    pub fn cache(&self) -> &Cache {
        self.asked_for(Need::Cache, self.shared.resources.cache.as_ref())
    }

    /// Background work, in the module's own queue.
    ///
    /// # Panics
    /// If the manifest does not ask for [`Need::Jobs`].
    pub fn jobs(&self) -> &Jobs {
        self.asked_for(Need::Jobs, self.shared.resources.jobs.as_ref())
    }

    /// Runs the module's isolated tasks in child processes.
    pub fn isolated(&self) -> &Isolated {
        &self.shared.resources.isolated
    }

    /// The language model's address and key.
    pub fn llm(&self) -> &LlmConfig {
        &self.shared.resources.llm
    }

    /// Cancelled when the modules are asked to stop: after requests and jobs, before the pools close.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shared.resources.shutdown
    }

    /// Runs a background task of the module. It is cancelled when the module stops, so write it to be dropped at any
    /// `await`; its log lines carry the module's name.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shared.resources.shutdown.clone();
        let span = tracing::info_span!("background", module = self.name());
        let work = async move {
            tokio::select! {
                () = work => {}
                () = shutdown.cancelled() => {}
            }
        };
        self.shared.resources.tasks.spawn(work.instrument(span));
    }

    fn asked_for<'a, T>(&self, need: Need, resource: Option<&'a T>) -> &'a T {
        match resource {
            Some(resource) => resource,
            None => panic!(
                "module `{}` uses Need::{need:?} without asking for it: add it to the manifest's needs",
                self.name()
            ),
        }
    }
}
