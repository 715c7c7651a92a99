//! What is examined: the settings of a service, each section by itself, so that a bad one hides no other.

use zhuji_cache::CacheConfig;
use zhuji_config::{Config, Loader, Report};
use zhuji_db_pool::DbConfig;
use zhuji_jobs::JobsConfig;
use zhuji_storage::StorageConfig;

use super::Arguments;
use crate::module::{Manifest, Need};
use crate::platform::{Factories, Platform, chosen_modules, loader, read};
use crate::settings::{LlmConfig, ServiceConfig};

/// A section of the settings, as far as a check can use it.
pub(super) enum Part<T> {
    /// To be looked at.
    Here(T),
    /// Nothing asks for it.
    Unneeded,
    /// Its settings can't be used, which `config` tells.
    Unreadable,
}

impl<T> Part<T> {
    pub(super) fn here(&self) -> Option<&T> {
        match self {
            Self::Here(section) => Some(section),
            _ => None,
        }
    }
}

pub(super) struct Patient<'a> {
    pub(super) factories: &'a Factories,
    pub(super) report: Report,
    /// How many settings were chosen by somebody.
    pub(super) chosen: usize,
    pub(super) service: Option<ServiceConfig>,
    pub(super) db: Part<DbConfig>,
    pub(super) storage: Part<StorageConfig>,
    pub(super) cache: Part<CacheConfig>,
    pub(super) llm: Option<LlmConfig>,
    /// The schemas that the chosen modules keep their tables in.
    pub(super) schemas: Vec<&'static str>,
    /// Below which the service may write; a policy may allow nothing else.
    pub(super) prefix: String,
}

impl<'a> Patient<'a> {
    /// Of a platform without modules, everything that is set is examined; otherwise what the chosen modules ask for.
    pub(super) fn read(platform: &'a Platform, arguments: &Arguments, set: &[(String, String)]) -> Self {
        let mut whole = loader(platform, set);
        // For the report of everything at once; the sections follow one by one.
        let _ = read(platform, &mut whole);
        let mut report = whole.report();
        let any_service = platform.modules.is_empty();
        if any_service {
            // A service's own file: its modules' variables are none of our business.
            report = report.without_strangers_of_files();
        }
        let chosen = whole
            .settings()
            .iter()
            .filter(|setting| whole.is_set(&setting.name))
            .count();

        let mut sections = Sections {
            loader: loader(platform, set),
            any_service,
        };
        let names = chosen_modules(platform, set);
        let manifests: Vec<Manifest> = platform
            .manifests()
            .filter(|manifest| names.contains(&manifest.name))
            .collect();
        let needs = |need| manifests.iter().any(|manifest| manifest.needs_any(need));
        let queue_on_database = sections
            .loader
            .load::<JobsConfig>()
            .is_none_or(|jobs| jobs.kind == "postgres");
        let database = needs(Need::Database) || (needs(Need::Jobs) && queue_on_database);
        let files = manifests
            .iter()
            .find(|manifest| manifest.needs_any(Need::Storage));
        let service: Option<ServiceConfig> = sections.loader.load();
        let mut storage: Part<StorageConfig> = sections.part(
            files.is_some(),
            &["STORAGE_TYPE", "STORAGE_LOCAL_DIR", "OSS_BUCKET"],
        );
        if let (Part::Here(storage), Some(service)) = (&mut storage, &service)
            && storage.base_url.is_none()
        {
            storage.base_url = format!("http://localhost:{}", service.port).parse().ok();
        }
        Self {
            factories: &platform.factories,
            report,
            chosen,
            service,
            db: sections.part(database, &["DATABASE_URL", "DATABASE_POOLED_URL"]),
            storage,
            cache: sections.part(needs(Need::Cache), &["CACHE_TYPE", "REDIS_URL"]),
            llm: sections.loader.load(),
            schemas: manifests
                .iter()
                .filter(|manifest| manifest.needs_any(Need::Database))
                .map(|manifest| manifest.schema)
                .collect(),
            prefix: arguments
                .module
                .clone()
                .or(files.map(|manifest| manifest.name.to_owned()))
                .unwrap_or_default(),
        }
    }

    pub(super) fn is_production(&self) -> bool {
        self.service.as_ref().is_some_and(ServiceConfig::is_production)
    }
}

/// Reads sections one after the other; what is wrong with them is in the report already.
struct Sections {
    loader: Loader,
    any_service: bool,
}

impl Sections {
    /// A section that the chosen modules ask for, or, where there are none, one whose `variables` are set.
    fn part<T: Config>(&mut self, asked: bool, variables: &[&str]) -> Part<T> {
        let section = self.loader.load();
        let wanted = match self.any_service {
            true => variables.iter().any(|name| self.loader.is_set(name)),
            false => asked,
        };
        match section {
            _ if !wanted => Part::Unneeded,
            Some(section) => Part::Here(section),
            None => Part::Unreadable,
        }
    }
}
