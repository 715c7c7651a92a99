//! From settings to running modules, and back down again.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zhuji_cache::{Cache, CacheFactory};
use zhuji_db_pool::{DbPool, MonitorGuard};
use zhuji_health::{Check, HealthMonitor, Observation};
use zhuji_jobs::{JobSet, Jobs, JobsFactory, WorkerHandle, WorkerSettings};
use zhuji_logging::{LogHandle, ServiceInfo};
use zhuji_metrics::MetricsExporter;
use zhuji_storage::{Storage, StorageFactory};

use super::refusals::too_many_pools;
use super::{Configured, Running, Settings};
use crate::BoxError;
use crate::context::Resources;
use crate::error::{Error, ErrorKind};
use crate::isolated::Isolated;
use crate::module::{Manifest, Need};
use crate::server::{AdminToken, Administered, admin, job_origin, tag_module, uploads};
use crate::settings::Role;

/// How long the start waits for the first health results before it calls itself ready all the same.
const FIRST_ROUND: Duration = Duration::from_secs(2);
/// Pause between two tries to reach a dependency during the start.
const START_RETRY: Duration = Duration::from_millis(500);

/// The handles that all modules share, not yet scoped to one.
struct Shared {
    db: Option<DbPool>,
    storage: Option<Storage>,
    cache: Option<Cache>,
    jobs: Option<Jobs>,
}

/// A composed service: its handles and its modules.
pub(crate) struct Composition {
    shared: Shared,
    modules: Vec<Box<dyn Running>>,
    workers: Vec<WorkerHandle>,
    monitor: Option<MonitorGuard>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// What an operator looks at and steers, besides the resources.
pub(crate) struct Operated {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Without it there is nothing to look at.
    pub(crate) token: Option<Arc<AdminToken>>,
    pub(crate) log: LogHandle,
    pub(crate) health: HealthMonitor,
    pub(crate) metrics: MetricsExporter,
}

/// The factories of a service, with the adapters that it registered besides the built-in ones.
#[derive(Default)]
pub(crate) struct Factories {
    pub(crate) storage: StorageFactory,
    pub(crate) cache: CacheFactory,
    pub(crate) jobs: JobsFactory,
}

impl Factories {
    pub(crate) async fn database(&self, settings: &Settings) -> Result<Option<DbPool>, Error> {
        if !settings.needs_database() {
            return Ok(None);
        }
        connect_database(settings).await.map(Some)
    }

    pub(crate) async fn storage(&self, settings: &Settings, port: u16) -> Result<Option<Storage>, Error> {
        if !settings.needs(Need::Storage) {
            return Ok(None);
        }
        let built = self.storage.build(&settings.storage_with_url(port)).await;
        built.map(Some).map_err(|error| unusable("storage", error))
    }

    pub(crate) async fn cache(&self, settings: &Settings) -> Result<Option<Cache>, Error> {
        if !settings.needs(Need::Cache) {
            return Ok(None);
        }
        self.cache
            .build(&settings.cache)
            .await
            .map(Some)
            .map_err(|error| unusable("cache", error))
    }

    /// On PostgreSQL this brings the queue's own schema up to date.
    pub(crate) async fn jobs(&self, settings: &Settings, db: Option<&DbPool>) -> Result<Option<Jobs>, Error> {
        if !settings.needs(Need::Jobs) {
            return Ok(None);
        }
        let built = self.jobs.build(&settings.jobs, db.cloned()).await;
        built
            .map(|jobs| Some(jobs.with_origin(job_origin)))
            .map_err(|error| unusable("job queue", error))
    }
}

fn unusable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Dependency, format!("the {what} can't be used")).because(error)
}

impl Shared {
    /// Connects what the chosen modules need, waiting for a database that is still starting.
    async fn connect(factories: &Factories, settings: &Settings, port: u16) -> Result<Self, Error> {
        let db = factories.database(settings).await?;
        let storage = factories.storage(settings, port).await?;
        let cache = factories.cache(settings).await?;
        let jobs = factories.jobs(settings, db.as_ref()).await?;
        Ok(Self {
            db,
            storage,
            cache,
            jobs,
        })
    }

    /// The checks of all resources.
    fn health_checks(&self) -> Vec<Arc<dyn Check>> {
        let db = self.db.as_ref().map(DbPool::health_check);
        let storage = self.storage.as_ref().map(Storage::health_check);
        let cache = self.cache.as_ref().map(Cache::health_check);
        let jobs = self.jobs.as_ref().map(Jobs::health_check);
        [db, storage, cache, jobs].into_iter().flatten().collect()
    }

    /// What one module gets of it.
    fn scoped(&self, manifest: &Manifest, settings: &Settings, common: &Common) -> Resources {
        let wants = |need| manifest.needs_any(need);
        Resources {
            db: self
                .db
                .as_ref()
                .filter(|_| wants(Need::Database))
                .map(|db| db.scoped(manifest.schema)),
            storage: self
                .storage
                .as_ref()
                .filter(|_| wants(Need::Storage))
                .map(|storage| storage.scoped(manifest.name)),
            cache: self
                .cache
                .as_ref()
                .filter(|_| wants(Need::Cache))
                .map(|cache| cache.scoped(manifest.name)),
            jobs: self
                .jobs
                .as_ref()
                .filter(|_| wants(Need::Jobs))
                .map(|jobs| jobs.scoped(manifest.name)),
            isolated: Isolated::new(manifest.name, common.children.clone()),
            llm: settings.llm.clone(),
            shutdown: common.shutdown.clone(),
            tasks: common.tasks.clone(),
        }
    }
}

struct Common {
    children: Arc<Semaphore>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

async fn connect_database(settings: &Settings) -> Result<DbPool, Error> {
    let deadline = Instant::now() + settings.service.startup_timeout;
    loop {
        let error = match DbPool::connect(&settings.db).await {
            Ok(pool) => return fits(pool, settings),
            Err(error) => error,
        };
        if !error.is_unavailable() || Instant::now() + START_RETRY > deadline {
            return Err(Error::new(ErrorKind::Dependency, "the database can't be used")
                .because(error)
                .try_this("check DATABASE_URL, the server's allow-list and that it is running"));
        }
        tracing::warn!(%error, "the database is not there yet; trying again");
        tokio::time::sleep(START_RETRY).await;
    }
}

/// Refuses a server that has too few connections for all instances: some of them would have none, and none would know why.
fn fits(pool: DbPool, settings: &Settings) -> Result<DbPool, Error> {
    let refused = pool
        .plan()
        .filter(|_| settings.service.is_production())
        .and_then(|plan| too_many_pools(&settings.db, &plan));
    match refused {
        None => Ok(pool),
        Some((reason, ways_out)) => Err(Error::new(ErrorKind::Config, reason).try_this(ways_out)),
    }
}

/// Applies the migrations of all chosen modules, in manifest order.
pub(crate) async fn migrate(
    db: Option<&DbPool>,
    modules: &[Box<dyn Configured>],
) -> Result<Vec<(String, usize)>, Error> {
    let mut applied = Vec::new();
    let Some(db) = db else { return Ok(applied) };
    for manifest in modules.iter().map(|module| module.manifest()) {
        if !manifest.needs_any(Need::Database) {
            continue;
        }
        let done = db
            .migrate(manifest.schema, manifest.migrations)
            .await
            .map_err(|error| {
                Error::new(
                    ErrorKind::Module,
                    format!("the migrations of module {} failed", manifest.name),
                )
                .because(error)
            })?;
        applied.push((manifest.name.to_owned(), done.applied.len()));
    }
    Ok(applied)
}

impl Composition {
    /// Connects, migrates and starts every chosen module.
    pub(crate) async fn new(
        factories: &Factories,
        settings: &mut Settings,
        port: u16,
    ) -> Result<Self, Error> {
        let shared = Shared::connect(factories, settings, port).await?;
        migrate(shared.db.as_ref(), &settings.modules).await?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let common = Common {
            children: Arc::new(Semaphore::new(cores * 2)),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let mut modules = Vec::new();
        for module in std::mem::take(&mut settings.modules) {
            let manifest = module.manifest();
            let resources = shared.scoped(&manifest, settings, &common);
            let running = module.start(resources).await.map_err(|error| {
                Error::new(
                    ErrorKind::Module,
                    format!("module {} could not be started", manifest.name),
                )
                .because(error)
            })?;
            tracing::debug!(module = manifest.name, "module started");
            modules.push(running);
        }
        let monitor = shared.db.as_ref().map(DbPool::spawn_monitor);
        Ok(Self {
            shared,
            modules,
            workers: Vec::new(),
            monitor,
            shutdown: common.shutdown,
            tasks: common.tasks,
        })
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.modules.iter().map(|module| module.name()).collect()
    }

    /// Starts the background checks of all resources and modules.
    pub(crate) async fn start_health(&self, version: &'static str) -> HealthMonitor {
        let mut health = HealthMonitor::builder().version(version).observe(observe);
        for check in self.shared.health_checks() {
            health = health.check(check);
        }
        for module in &self.modules {
            for check in module.checks() {
                // Never critical: one module must not take the others out of rotation.
                health = health.check_as(format!("{}.{}", module.name(), check.name()), false, check);
            }
        }
        let health = health.start();
        health.wait_first_round(FIRST_ROUND).await;
        health
    }

    /// All routes of the service.
    pub(crate) fn router(&self, pages: Router, settings: &Settings, operated: Operated) -> Router {
        let mut router = Router::new();
        if settings.service.role != Role::Worker {
            router = router.merge(tag_module(pages, "pages"));
            for module in &self.modules {
                let routes = tag_module(module.routes(), module.name());
                router = router.nest(&format!("/api/v1/{}", module.name()), routes);
            }
            if let Some(storage) = &self.shared.storage {
                router = router.merge(tag_module(uploads(storage), "storage"));
            }
        }
        let service = &settings.service;
        let Operated {
            name,
            version,
            token,
            log,
            health,
            metrics,
        } = operated;
        let administered = || Administered {
            name,
            facts: vec![
                ("version", version.to_owned()),
                ("mode", service.mode().as_str().to_owned()),
                ("environment", service.env.as_str().to_owned()),
                ("role", service.role.as_str().to_owned()),
                ("modules", self.names().join(", ")),
                ("instance", ServiceInfo::new(name, version).instance),
            ],
            base_url: service.base_url.clone(),
            log,
            health,
            metrics,
            db: self.shared.db.clone(),
            cache: self.shared.cache.clone(),
            jobs: self.shared.jobs.as_ref().map(Jobs::admin),
        };
        let admin = admin(token, administered);
        router
            .merge(tag_module(admin, "admin"))
            .layer(DefaultBodyLimit::max(
                usize::try_from(settings.http.max_body.bytes()).unwrap_or(usize::MAX),
            ))
    }

    /// Starts the job workers, unless this process only answers requests.
    pub(crate) fn start_workers(&mut self, role: Role) {
        let Some(jobs) = self.shared.jobs.as_ref().filter(|_| role != Role::Web) else {
            return;
        };
        for module in &self.modules {
            let set = module.jobs(JobSet::new());
            if set.is_empty() {
                continue;
            }
            let worker = jobs.scoped(module.name()).worker(set, WorkerSettings::default());
            self.workers.push(worker.start());
        }
    }

    /// Lets running jobs finish until `deadline` and hands the others back; says whether none was cut off.
    pub(crate) async fn stop_workers(&mut self, deadline: Instant) -> bool {
        let stops = self.workers.drain(..).map(|worker| worker.stop(left(deadline)));
        let mut clean = true;
        for report in futures_util::future::join_all(stops).await {
            tracing::info!(
                finished = report.finished,
                handed_back = report.handed_back,
                "job worker stopped"
            );
            clean &= report.abandoned == 0;
        }
        clean
    }

    /// Stops the modules, the last started first.
    pub(crate) async fn stop_modules(&mut self, deadline: Instant) {
        self.shutdown.cancel();
        self.tasks.close();
        while let Some(module) = self.modules.pop() {
            let name = module.name();
            if tokio::time::timeout_at(deadline, module.stop(deadline.into_std()))
                .await
                .is_err()
            {
                tracing::warn!(module = name, "the module did not stop in time");
            }
        }
        if tokio::time::timeout_at(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = self.tasks.len(), "background tasks did not stop in time");
        }
    }

    /// Closes the pools; says whether nothing was left in use.
    pub(crate) async fn close(&mut self, deadline: Instant) -> bool {
        drop(self.monitor.take());
        let Some(db) = &self.shared.db else { return true };
        let report = db.drain(left(deadline)).await;
        if !report.leftovers.is_empty() {
            tracing::warn!(leftovers = ?report.leftovers, "database connections were still in use");
        }
        report.leftovers.is_empty()
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Health results as metrics.
fn observe(observation: &Observation<'_>) {
    let name = observation.name.to_owned();
    metrics::gauge!("zhuji_health_status", "check" => name.clone()).set(observation.status.as_gauge());
    metrics::histogram!("zhuji_health_check_seconds", "check" => name)
        .record(observation.latency.as_secs_f64());
}
