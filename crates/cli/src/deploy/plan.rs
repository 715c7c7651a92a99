//! The plan of a deployment: a TOML file, and the service's settings that follow from it.

use std::collections::BTreeMap;

use serde::Deserialize;
use zhuji::cache::CacheConfig;
use zhuji::config::{Loader, Sources};
use zhuji::db::{DbConfig, PlannerInput, Verdict, plan};
use zhuji::jobs::JobsConfig;
use zhuji::storage::StorageConfig;
use zhuji::{AppEnv, DeploymentMode, HttpConfig, LlmConfig, ServiceConfig};

/// Stands for a secret while the settings are checked: something that every secret may look like.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://service@database/service"),
    ("DATABASE_POOLED_URL", "postgres://service@database:6432/service"),
    ("DATABASE_REPLICA_URL", "postgres://service@replica/service"),
    ("REDIS_URL", "redis://cache:6379"),
];

/// What SAE puts into the environment of an application with a role.
const OF_THE_ROLE: &[(&str, &str)] = &[
    ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/service"),
    ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/sae"),
    ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/var/run/secrets/token"),
];

/// What the plan decides itself.
const OURS: &[&str] = &[
    "APP_ENV",
    "DEPLOYMENT_MODE",
    "DB_MAX_INSTANCES",
    "DB_MAX_CONNECTIONS",
];

/// What a secret may be called; the secret itself has other characters.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) application: Application,
    database: Database,
    /// Plain variables.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Variables whose values are kept in a SAE Secret: `secret id/key`.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) millicores: u32,
    pub(super) megabytes: u32,
    pub(super) min_instances: u32,
    pub(super) max_instances: u32,
    /// The RAM role that the service acts as, instead of keys.
    pub(super) oidc_role: String,
    /// `lite`, `std` or `pro`.
    pub(super) edition: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    max_connections: u32,
}

/// What the service will do with the plan.
pub(super) struct Settings {
    pub(super) service: ServiceConfig,
    pub(super) http: HttpConfig,
    /// Every plain variable, in the order in which it is rendered.
    pub(super) plain: Vec<(String, String)>,
    /// Every secret variable, with the id and the key that hold it.
    pub(super) secret: Vec<(String, String, String)>,
}

impl Plan {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let plan: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let application = &plan.application;
        if application.min_instances == 0 || application.min_instances > application.max_instances {
            return Err("min_instances has to be 1 or more and at most max_instances".to_owned());
        }
        if let Some(ours) = OURS.iter().find(|name| plan.settings.contains_key(**name)) {
            return Err(format!(
                "{ours} follows from the plan and is no setting of its own"
            ));
        }
        Ok(plan)
    }

    /// The settings as the service will read them; what it would refuse is refused here.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let application = &self.application;
        let mut plain = vec![
            ("APP_ENV".to_owned(), "production".to_owned()),
            ("DEPLOYMENT_MODE".to_owned(), "cloud".to_owned()),
            (
                "DB_MAX_CONNECTIONS".to_owned(),
                self.database.max_connections.to_string(),
            ),
            (
                "DB_MAX_INSTANCES".to_owned(),
                application.max_instances.to_string(),
            ),
        ];
        plain.extend(self.settings.clone());
        let secret = self.secrets()?;
        let stand_ins = secret.iter().map(|(name, ..)| {
            let known = PLACEHOLDERS.iter().find(|(known, _)| known == name);
            let value = known.map_or("a secret that is not here", |(_, value)| value);
            (name.clone(), value.to_owned())
        });
        let of_the_role = OF_THE_ROLE
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        // What is set plainly wins.
        let pairs: BTreeMap<String, String> = of_the_role
            .chain(stand_ins)
            .chain(plain.iter().cloned())
            .collect();
        let defaults = DeploymentMode::Cloud.defaults(AppEnv::Production);
        let mut loader = Loader::new(
            Sources::from_pairs(pairs).with_defaults(
                defaults
                    .into_iter()
                    .map(|(name, value)| (name, value, "DEPLOYMENT_MODE=cloud")),
            ),
        );
        let (service, http) = (loader.load::<ServiceConfig>(), loader.load::<HttpConfig>());
        let (storage, db) = (loader.load::<StorageConfig>(), loader.load::<DbConfig>());
        loader.load::<CacheConfig>();
        loader.load::<JobsConfig>();
        loader.load::<LlmConfig>();
        let report = loader.report();
        let (Some(service), Some(http), Some(storage), Some(db)) = (service, http, storage, db) else {
            return Err(format!("the service would not start\n{report}"));
        };
        if !report.is_ok() {
            return Err(format!("the service would not start\n{report}"));
        }
        let open: Vec<&str> = loader
            .schema()
            .fields()
            .filter(|field| field.secret && self.settings.contains_key(field.spec.name))
            .map(|field| field.spec.name)
            .collect();
        if !open.is_empty() {
            return Err(format!(
                "{} belongs under [secrets]: every reader of the application sees settings",
                open.join(", ")
            ));
        }
        if storage.kind == "local" {
            return Err(
                "STORAGE_TYPE=local loses its files with the instance: leave it out, cloud mode takes OSS"
                    .to_owned(),
            );
        }
        self.connections(&db)?;
        Ok(Settings {
            service,
            http,
            plain,
            secret,
        })
    }

    fn secrets(&self) -> Result<Vec<(String, String, String)>, String> {
        self.secrets
            .iter()
            .map(|(name, place)| match place.split_once('/') {
                Some((id, key)) if is_name(id) && is_name(key) => {
                    Ok((name.clone(), id.to_owned(), key.to_owned()))
                }
                _ => Err(format!(
                    "{name}: expected `secret id/key`, where the value is kept"
                )),
            })
            .collect()
    }

    /// Whether the largest fleet, twice during a release, fits into the database.
    fn connections(&self, db: &DbConfig) -> Result<(), String> {
        let mut input = PlannerInput::new(self.database.max_connections);
        input.instances = self.application.max_instances;
        input.surge = db.surge_instances.unwrap_or(input.instances);
        input.other = db.other_connections;
        let planned = plan(&input);
        match planned.verdict {
            Verdict::Ok | Verdict::Tight => Ok(()),
            verdict => Err(format!(
                "{} instances do not fit into {} connections ({verdict}): see zhuji plan --max-connections {} --instances {}",
                input.instances, input.max_connections, input.max_connections, input.instances
            )),
        }
    }
}
