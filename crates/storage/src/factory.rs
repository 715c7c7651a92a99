//! From settings to a handle.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use zhuji_config::Problem;

use crate::{
    Error, ErrorKind, LocalAdapter, MemoryAdapter, OssAdapter, Result, Storage, StorageAdapter,
    StorageConfig, UrlSigner, hybrid,
    layers::{self, Fault},
    memory::random_key,
    storage::Settings,
};

const BUILT_IN: [&str; 3] = ["local", "oss", "memory"];

type Build = dyn Fn(StorageConfig) -> BoxFuture<'static, Result<Arc<dyn StorageAdapter>>> + Send + Sync;

/// Turns a [`StorageConfig`] into a [`Storage`], with the standard layers around the adapter.
#[derive(Default)]
pub struct StorageFactory {
    registered: BTreeMap<String, Arc<Build>>,
    faults: Option<(u64, Vec<Fault>)>,
}

impl StorageFactory {
    /// A factory that knows `local`, `oss` and `memory`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Teaches the factory another adapter, chosen with `STORAGE_TYPE=name`. A built-in name is replaced.
    #[must_use]
    pub fn register<F, A>(
        mut self,
        name: impl Into<String>,
        build: impl Fn(StorageConfig) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<A>> + Send + 'static,
        A: StorageAdapter,
    {
        let build: Arc<Build> = Arc::new(move |config| {
            let adapter = build(config);
            Box::pin(async move { Ok(Arc::new(adapter.await?) as Arc<dyn StorageAdapter>) })
        });
        self.registered.insert(name.into(), build);
        self
    }

    /// Lets operations of the handles it builds go wrong, for tests and drills: below the retries, next to the adapter. What
    /// happens at random is the same for the same seed. Never turned on by a setting.
    #[must_use]
    pub fn with_faults(mut self, seed: u64, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = Some((seed, faults.into_iter().collect()));
        self
    }

    /// The names that `STORAGE_TYPE` can take: the built-in ones, then the registered ones in order.
    pub fn names(&self) -> Vec<&str> {
        let registered = self.registered.keys().map(String::as_str);
        let new = registered.filter(|name| !BUILT_IN.contains(name));
        BUILT_IN.into_iter().chain(new).collect()
    }

    /// Whether this factory knows the adapter that the settings name; without building anything, for a report of all
    /// problems at once.
    ///
    /// # Errors
    /// The problem to report, with the name that was probably meant.
    pub fn check_kind(&self, config: &StorageConfig) -> Result<(), Box<Problem>> {
        let (kind, names) = (config.kind.as_str(), self.names());
        if names.contains(&kind) {
            return Ok(());
        }
        Err(Box::new(Problem::unknown_choice("STORAGE_TYPE", kind, &names)))
    }

    /// Builds the handle. Local, and with resident prefixes or an outbox: creates and probes the directory. OSS: no request is
    /// sent; see [`Storage::check`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that can't work, naming the variable, and for an outbox that another process has;
    /// I/O errors of the directory.
    pub async fn build(&self, config: &StorageConfig) -> Result<Storage> {
        config.check_prefixes().map_err(|(_, error)| error)?;
        let adapter = layers::standard(self.adapter(config).await?, self.faults.clone());
        let adapter = hybrid::around(adapter, config).await?;
        let settings = Settings {
            concurrency: config.concurrency.max(1),
            public_prefixes: config.public_prefixes.clone(),
            max_upload: config.max_upload.bytes(),
        };
        Ok(Storage::with_settings(adapter, settings))
    }

    async fn adapter(&self, config: &StorageConfig) -> Result<Arc<dyn StorageAdapter>> {
        if let Some(build) = self.registered.get(&config.kind) {
            return build(config.clone()).await;
        }
        match config.kind.as_str() {
            "local" => Ok(Arc::new(LocalAdapter::from_config(config).await?)),
            #[cfg(feature = "oss-sdk")]
            "oss" if config.oss.client == crate::OssClientKind::Sdk => {
                Ok(Arc::new(crate::OssSdkAdapter::new(config)?))
            }
            "oss" => {
                // Reads the system's certificates.
                let config = config.clone();
                let built = tokio::task::spawn_blocking(move || OssAdapter::new(&config)).await;
                let adapter = built.map_err(|error| {
                    Error::new(
                        ErrorKind::Unexpected,
                        "configuration",
                        "oss",
                        "the start was interrupted",
                    )
                    .with_source(error)
                })??;
                Ok(Arc::new(adapter))
            }
            "memory" => {
                let key = match &config.signing_key {
                    Some(key) => key.expose().as_bytes().to_vec(),
                    None => random_key(),
                };
                Ok(Arc::new(MemoryAdapter::with_signer(UrlSigner::new(
                    key,
                    config.served_base(),
                )?)))
            }
            other => {
                let why = format!("there is no such adapter; known: {}", self.names().join(", "));
                Err(Error::new(
                    ErrorKind::Config,
                    "configuration",
                    format!("STORAGE_TYPE={other}"),
                    why,
                ))
            }
        }
    }
}

impl fmt::Debug for StorageFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageFactory")
            .field("registered", &self.registered.keys())
            .field("faults", &self.faults)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ordered_faults_stand_below_the_retries() {
        let config = StorageConfig {
            kind: "memory".to_owned(),
            ..StorageConfig::default()
        };
        let broken = |kind| [Fault::error(kind).nth(1).on("upload")];
        let factory = StorageFactory::new().with_faults(1, broken(ErrorKind::Unavailable));
        let storage = factory.build(&config).await.unwrap();
        storage.upload("a", "mended").await.unwrap();
        let factory = StorageFactory::new().with_faults(1, broken(ErrorKind::Denied));
        let storage = factory.build(&config).await.unwrap();
        assert_eq!(
            storage.upload("a", "x").await.unwrap_err().kind(),
            ErrorKind::Denied
        );
        storage.upload("a", "x").await.unwrap();
    }

    #[test]
    fn an_unknown_adapter_is_told_with_the_nearest_name() {
        let factory = StorageFactory::new().register("s3", |_| async { Ok(MemoryAdapter::new()) });
        assert_eq!(factory.names(), ["local", "oss", "memory", "s3"]);
        let check = |kind: &str| {
            let config = StorageConfig {
                kind: kind.to_owned(),
                ..StorageConfig::default()
            };
            factory.check_kind(&config).map_err(|problem| problem.to_string())
        };
        for known in ["local", "oss", "memory", "s3"] {
            check(known).unwrap();
        }
        let told = check("memroy").unwrap_err();
        assert!(
            told.contains("STORAGE_TYPE") && told.contains("`s3`") && told.contains("Did you mean `memory`?"),
            "{told}"
        );
        assert!(!check("quantum-drive").unwrap_err().contains("Did you mean"));
        let replaced = StorageFactory::new().register("oss", |_| async { Ok(MemoryAdapter::new()) });
        assert_eq!(replaced.names(), ["local", "oss", "memory"]);
    }
}
