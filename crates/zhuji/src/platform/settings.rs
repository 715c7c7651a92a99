//! All settings of a composition, read in one pass so that every problem is in one report.

use zhuji_cache::CacheConfig;
use zhuji_config::{ConfigValue, Loader, Problem, Report, Schema, Sources};
use zhuji_db_pool::DbConfig;
use zhuji_jobs::JobsConfig;
use zhuji_logging::LogConfig;
use zhuji_metrics::MetricsConfig;
use zhuji_storage::StorageConfig;

use super::defaults::defaults;
use super::{Configured, Platform};
use crate::error::{Error, ErrorKind};
use crate::module::Need;
use crate::settings::{AppEnv, DeploymentMode, HttpConfig, LlmConfig, ServiceConfig};

/// Everything that was configured, and the chosen modules.
pub(crate) struct Settings {
    pub(crate) service: ServiceConfig,
    pub(crate) http: HttpConfig,
    pub(crate) llm: LlmConfig,
    pub(crate) log: LogConfig,
    pub(crate) metrics: MetricsConfig,
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
    let mut loader = loader(set);
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

/// The sources of this process, with the defaults of its mode.
pub(crate) fn loader(set: &[(String, String)]) -> Loader {
    let sources = Sources::discover(set.iter().cloned());
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
    Loader::new(sources.with_defaults(defaults.into_iter().map(|d| (d.name, d.value, d.why))))
}

/// Reads every section; what is wrong stays with the loader. `None` if a section could not be read at all.
pub(crate) fn read(platform: &Platform, loader: &mut Loader) -> Option<Settings> {
    // Every section is read before the first `?`: one report, not the first problem of many.
    let service = loader.load::<ServiceConfig>();
    let http = loader.load::<HttpConfig>();
    let log = loader.load::<LogConfig>();
    let metrics = loader.load::<MetricsConfig>();
    let storage = loader.load::<StorageConfig>();
    let db = loader.load::<DbConfig>();
    let cache = loader.load::<CacheConfig>();
    let jobs = loader.load::<JobsConfig>();
    let llm = loader.load::<LlmConfig>();
    let chosen = service.as_ref().map_or(&[][..], |service| &service.modules);
    let modules = choose(platform, chosen, loader);
    let settings = Settings {
        service: service?,
        http: http?,
        llm: llm?,
        log: log?,
        metrics: metrics?,
        storage: storage?,
        db: db?,
        cache: cache?,
        jobs: jobs?,
        modules: modules?,
    };
    check(&settings, loader);
    Some(settings)
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
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("this service has: {}", names.join(", ")),
        };
        loader
            .problem(Problem::invalid("MODULES", format!("there is no module `{unknown}`")).with_hint(hint));
    }
    let mut modules = Vec::new();
    let mut complete = true;
    for module in &platform.modules {
        let name = module.manifest().name;
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
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

/// What no section can see alone.
fn check(settings: &Settings, loader: &mut Loader) {
    let service = &settings.service;
    if service.is_production() {
        loader.require("DEPLOYMENT_MODE", service.mode.is_some(), "APP_ENV=production");
    }
    if settings.needs_database() {
        let who = settings.modules.iter().map(|module| module.manifest());
        let who = who.filter(|manifest| manifest.needs_any(Need::Database) || manifest.needs_any(Need::Jobs));
        let who: Vec<_> = who.map(|manifest| manifest.name).collect();
        let because = format!("module {} needs a database", who.join(", "));
        loader.require("DATABASE_URL", settings.db.url.is_some(), because);
    }
    let local_storage = settings.storage.kind == "local";
    if service.is_production() && service.mode() == DeploymentMode::Private && local_storage {
        let because = "DEPLOYMENT_MODE=private in production signs its own URLs";
        loader.require(
            "STORAGE_SIGNING_KEY",
            settings.storage.signing_key.is_some(),
            because,
        );
    }
}

fn refused(report: Report) -> Error {
    Error::new(ErrorKind::Config, "the settings are not complete").because(report.to_string())
}
