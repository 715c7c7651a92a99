use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use zhuji_config::Problem;

use crate::adapter::CacheAdapter;
use crate::cache::Cache;
use crate::config::CacheConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{Guard, GuardSettings};
use crate::memory::MemoryAdapter;
use crate::redis::RedisAdapter;
use crate::tiered::TieredAdapter;

type Built = Pin<Box<dyn Future<Output = Result<Arc<dyn CacheAdapter>>> + Send>>;
type Constructor = Box<dyn Fn(CacheConfig) -> Built + Send + Sync>;

const BUILT_IN: [&str; 3] = ["memory", "redis", "tiered"];

/// Turns settings into a [`Cache`].
///
/// The layers, from the outside in: the handle (namespaces, types, single flight, statistics) → [`TieredAdapter`] for
/// `tiered` → [`Guard`] (timeout, breaker) around everything that talks to a network → the adapter.
#[derive(Default)]
pub struct CacheFactory {
    registered: BTreeMap<String, Constructor>,
}

impl CacheFactory {
    /// A factory that knows `memory`, `redis` and `tiered`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an adapter under a name of its own, to be chosen with `CACHE_TYPE`. It is put behind a [`Guard`] with the
    /// settings' timeout. Registering a name again replaces the former.
    pub fn register<F, Fut>(mut self, name: impl Into<String>, constructor: F) -> Self
    where
        F: Fn(CacheConfig) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<dyn CacheAdapter>>> + Send + 'static,
    {
        let constructor: Constructor = Box::new(move |config| Box::pin(constructor(config)));
        self.registered.insert(name.into(), constructor);
        self
    }

    /// The names that `CACHE_TYPE` can take: the built-in ones, then the registered ones in order.
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
    pub fn check_kind(&self, config: &CacheConfig) -> Result<(), Box<Problem>> {
        let (kind, names) = (config.effective_kind(), self.names());
        if names.contains(&kind) {
            return Ok(());
        }
        Err(Box::new(Problem::unknown_choice("CACHE_TYPE", kind, &names)))
    }

    /// Builds the cache. Does not wait for a server: one that is down is found again later, and until then
    /// `get_or_load` works without it. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the settings can't work; whatever a registered constructor returns.
    pub async fn build(&self, config: &CacheConfig) -> Result<Cache> {
        config.validate()?;
        let guard = |inner: Arc<dyn CacheAdapter>| -> Arc<dyn CacheAdapter> {
            Arc::new(Guard::new(
                inner,
                GuardSettings {
                    timeout: config.timeout,
                    ..GuardSettings::default()
                },
            ))
        };
        let memory = || MemoryAdapter::new(config.memory_size.bytes());
        let kind = config.effective_kind();
        let adapter: Arc<dyn CacheAdapter> = match (self.registered.get(kind), kind) {
            (Some(constructor), _) => guard(constructor(config.clone()).await?),
            (None, "memory") => Arc::new(memory()),
            (None, "redis") => guard(Arc::new(RedisAdapter::new(config)?)),
            (None, "tiered") => {
                let redis = Arc::new(RedisAdapter::new(config)?);
                let tiered = TieredAdapter::new(memory(), guard(redis.clone()), config.local_ttl);
                Arc::new(tiered.with_invalidation(&redis))
            }
            (None, _) => {
                let reason = format!("no adapter of that name; there are: {}", self.names().join(", "));
                return Err(Error::new(
                    ErrorKind::Config,
                    "configure",
                    format!("CACHE_TYPE={kind}"),
                    reason,
                ));
            }
        };
        let cache = Cache::new(adapter, config);
        cache.warm_up();
        Ok(cache)
    }
}

impl fmt::Debug for CacheFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFactory")
            .field("registered", &self.registered.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_adapter_is_told_from_a_registered_one_without_building_it() {
        let factory = CacheFactory::new().register("etcd", |_| async {
            let adapter: Arc<dyn CacheAdapter> = Arc::new(MemoryAdapter::new(1024));
            Ok(adapter)
        });
        assert_eq!(factory.names(), ["memory", "redis", "tiered", "etcd"]);
        let check = |kind: &str| {
            let config = CacheConfig {
                kind: Some(kind.to_owned()),
                ..CacheConfig::default()
            };
            factory.check_kind(&config).map_err(|problem| problem.to_string())
        };
        for known in ["memory", "redis", "tiered", "etcd"] {
            check(known).expect(known);
        }
        let told = check("teired").expect_err("mistyped");
        assert!(
            told.contains("CACHE_TYPE") && told.contains("`etcd`") && told.contains("Did you mean `tiered`?"),
            "{told}"
        );
        assert!(
            !check("quantum-drive")
                .expect_err("nothing like it")
                .contains("Did you mean")
        );
        factory
            .check_kind(&CacheConfig::default())
            .expect("the default is known");
    }
}
