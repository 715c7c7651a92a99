use async_trait::async_trait;
use zhuji_health::{Check, Outcome};

use crate::cache::Cache;

/// Not critical: a service without its cache is slow, not broken.
pub(crate) struct CacheCheck {
    pub(crate) cache: Cache,
}

#[async_trait]
impl Check for CacheCheck {
    fn name(&self) -> &str {
        "cache"
    }

    fn critical(&self) -> bool {
        false
    }

    async fn run(&self) -> Outcome {
        self.cache.stats();
        match self.cache.check().await {
            Ok(()) => Outcome::Up,
            Err(error) => {
                tracing::debug!(%error, "cache health check");
                Outcome::down(error.kind().as_str())
            }
        }
    }
}
