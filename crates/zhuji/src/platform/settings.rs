//! All settings of a composition, read in one pass so that every problem is in one report.

use zhuji_cache::CacheConfig;
use zhuji_config::{ConfigValue, Loader, Problem, Report, Schema, Sources};
use zhuji_db_pool::DbConfig;
use zhuji_jobs::JobsConfig;
use zhuji_logging::LogConfig;
use zhuji_metrics::MetricsConfig;
use zhuji_storage::StorageConfig;

use super::defaults::defaults;
use super::{Configured, Platform, refusals};
use crate::error::{Error, ErrorKind};
use crate::module::{Manifest, Need};
use crate::otel::OtelConfig;
use crate::settings::{AppEnv, DeploymentMode, HttpConfig, LlmConfig, SelectionConfig, ServiceConfig};

/// Everything that was configured, and the chosen modules.
pub(crate) struct Settings {
    pub(crate) service: ServiceConfig,
    pub(crate) http: HttpConfig,
    pub(crate) llm: LlmConfig,
    pub(crate) log: LogConfig,
    pub(crate) metrics: MetricsConfig,
    pub(crate) otel: OtelConfig,
    pub(crate) storage: StorageConfig,
    pub(crate) db: DbConfig,
    pub(crate) cache: CacheConfig,
    pub(crate) jobs: JobsConfig,
    pub(crate) modules: Vec<Box<dyn Configured>>,
}

impl Settings {
    /// Whether a chosen module, or the job queue it uses, stands on the database.
    pub(crate) fn needs_database(&self) -> bool {
        let needs = |need| {
            self.modules
                .iter()
                .any(|module| module.manifest().needs_any(need))
        };
        needs(Need::Database) || (needs(Need::Jobs) && self.jobs.kind == "postgres")
    }

    /// Whether a chosen module asks for it.
    pub(crate) fn needs(&self, need: Need) -> bool {
        self.modules
            .iter()
            .any(|module| module.manifest().needs_any(need))
    }

    /// The storage's settings, with the address that is really listened on where none was given.
    pub(crate) fn storage_with_url(&self, port: u16) -> StorageConfig {
        let mut storage = self.storage.clone();
        if storage.base_url.is_none() {
            storage.base_url = format!("http://localhost:{port}").parse().ok();
        }
        storage
    }
}

/// Reads all settings of the platform and of the chosen modules.
///
/// # Errors
/// One error with every problem in it.
pub(crate) fn collect(platform: &Platform, set: &[(String, String)]) -> Result<Settings, Error> {
    let mut loader = loader(platform, set);
    let settings = read(platform, &mut loader);
    let report = loader.report();
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    match settings {
        Some(settings) if report.is_ok() => Ok(settings),
        _ => Err(refused(report)),
    }
}

/// The names of the modules that `MODULES` chooses, however complete the other settings are.
pub(crate) fn chosen_modules(platform: &Platform, set: &[(String, String)]) -> Vec<&'static str> {
    let chosen = loader(platform, set)
        .load::<SelectionConfig>()
        .map(|selection| selection.modules);
    let chosen = chosen.unwrap_or_default();
    platform
        .manifests()
        .map(|manifest| manifest.name)
        .filter(|name| is_chosen(&chosen, name))
        .collect()
}

/// The sources of this process, with the defaults of its mode.
pub(crate) fn loader(platform: &Platform, set: &[(String, String)]) -> Loader {
    loader_of(platform, Sources::discover(set.iter().cloned()))
}

/// The same for any sources.
pub(super) fn loader_of(platform: &Platform, sources: Sources) -> Loader {
    // A value that does not parse is reported when its section is read; here it changes no default.
    let env = sources
        .lookup("APP_ENV", &["NODE_ENV"])
        .and_then(|text| AppEnv::parse(&text).ok());
    let mode = sources
        .lookup("DEPLOYMENT_MODE", &[])
        .and_then(|text| DeploymentMode::parse(&text).ok());
    let defaults = defaults(
        env.unwrap_or(AppEnv::Development),
        mode.unwrap_or(DeploymentMode::Standalone),
    );
    let name = ("DB_APPLICATION_NAME", platform.name, "the service's name");
    Loader::new(
        sources.with_defaults(
            defaults
                .into_iter()
                .map(|d| (d.name, d.value, d.why))
                .chain([name]),
        ),
    )
}

/// Reads every section; what is wrong stays with the loader. `None` if a section could not be read at all.
pub(crate) fn read(platform: &Platform, loader: &mut Loader) -> Option<Settings> {
    // Every section is read, and everything is checked, before the first `?`: one report, not the first problem of many.
    let selection = loader.load::<SelectionConfig>();
    let service = loader.load::<ServiceConfig>();
    let http = loader.load::<HttpConfig>();
    let log = loader.load::<LogConfig>();
    let metrics = loader.load::<MetricsConfig>();
    let otel = loader.load::<OtelConfig>();
    let storage = loader.load::<StorageConfig>();
    let db = loader.load::<DbConfig>();
    let cache = loader.load::<CacheConfig>();
    let jobs = loader.load::<JobsConfig>();
    let llm = loader.load::<LlmConfig>();
    let factories = &platform.factories;
    let kinds = [
        storage
            .as_ref()
            .map(|storage| factories.storage.check_kind(storage)),
        cache.as_ref().map(|cache| factories.cache.check_kind(cache)),
        jobs.as_ref().map(|jobs| factories.jobs.check_kind(jobs)),
    ];
    for problem in kinds.into_iter().flatten().filter_map(Result::err) {
        loader.problem(*problem);
    }
    let chosen = selection.map(|selection| selection.modules).unwrap_or_default();
    let modules = choose(platform, &chosen, loader);
    let users = jobs
        .as_ref()
        .map_or(Vec::new(), |jobs| database_users(platform, &chosen, jobs));
    if let (Some(db), false) = (&db, users.is_empty()) {
        let because = format!("module {} needs a database", users.join(", "));
        loader.require("DATABASE_URL", db.url.is_some(), because);
    }
    if let (Some(service), Some(storage), Some(jobs), Some(db)) = (&service, &storage, &jobs, &db) {
        let settings = refusals::Examined {
            service,
            storage,
            jobs,
            db: Some(db).filter(|_| !users.is_empty()),
            instances: db.max_instances,
            cache: cache.as_ref().filter(|_| uses(platform, &chosen, Need::Cache)),
            llm: llm.as_ref(),
        };
        refusals::check(&settings, loader);
    }
    Some(Settings {
        service: service?,
        http: http?,
        llm: llm?,
        log: log?,
        metrics: metrics?,
        otel: otel?,
        storage: storage?,
        db: db?,
        cache: cache?,
        jobs: jobs?,
        modules: modules?,
    })
}

/// The schema of everything that this service can be told.
pub(crate) fn schema(platform: &Platform) -> Schema {
    let mut loader = Loader::new(Sources::empty());
    // Read from nothing: what is missing is no problem here, only the description counts.
    read(platform, &mut loader);
    loader.schema().clone()
}

fn choose(platform: &Platform, chosen: &[String], loader: &mut Loader) -> Option<Vec<Box<dyn Configured>>> {
    let names: Vec<&'static str> = platform.manifests().map(|manifest| manifest.name).collect();
    for unknown in chosen.iter().filter(|name| !names.contains(&name.as_str())) {
        let hint = match names
            .iter()
            .find(|name| name.starts_with(unknown.as_str()) || unknown.starts_with(**name))
        {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("This service has: {}", names.join(", ")),
        };
        loader
            .problem(Problem::invalid("MODULES", format!("there is no module `{unknown}`")).with_hint(hint));
    }
    let mut modules = Vec::new();
    let mut complete = true;
    for module in &platform.modules {
        if is_chosen(chosen, module.manifest().name) {
            match module.configure(loader) {
                Some(module) => modules.push(module),
                None => complete = false,
            }
        } else {
            // Its variables are known all the same: switching a module off must not make its settings unknown.
            module.describe(loader);
        }
    }
    complete.then_some(modules)
}

/// The chosen modules that stand on the database, themselves or by the job queue.
fn database_users(platform: &Platform, chosen: &[String], jobs: &JobsConfig) -> Vec<&'static str> {
    platform
        .manifests()
        .filter(|manifest| is_chosen(chosen, manifest.name))
        .filter(|manifest| uses_database(manifest, jobs))
        .map(|manifest| manifest.name)
        .collect()
}

fn uses(platform: &Platform, chosen: &[String], need: Need) -> bool {
    let mut manifests = platform.manifests();
    manifests.any(|manifest| is_chosen(chosen, manifest.name) && manifest.needs_any(need))
}

fn uses_database(manifest: &Manifest, jobs: &JobsConfig) -> bool {
    manifest.needs_any(Need::Database) || (manifest.needs_any(Need::Jobs) && jobs.kind == "postgres")
}

fn is_chosen(chosen: &[String], name: &str) -> bool {
    chosen.is_empty() || chosen.iter().any(|chosen| chosen == name)
}

fn refused(report: Report) -> Error {
    Error::new(ErrorKind::Config, "the settings are not complete").because(report.to_string())
}
