//! The health check of a store.

use std::sync::Arc;

use async_trait::async_trait;
use zhuji_health::{Check, Outcome};

use crate::StorageAdapter;

/// Asks the adapter for its cheapest sign of life.
#[derive(Debug)]
pub(crate) struct StorageCheck {
    adapter: Arc<dyn StorageAdapter>,
}

impl StorageCheck {
    pub(crate) fn new(adapter: Arc<dyn StorageAdapter>) -> Self {
        Self { adapter }
    }
}

#[async_trait]
impl Check for StorageCheck {
    fn name(&self) -> &str {
        "storage"
    }

    async fn run(&self) -> Outcome {
        match self.adapter.check().await {
            Ok(()) => self.adapter.degraded().map_or(Outcome::Up, Outcome::degraded),
            Err(error) => {
                tracing::warn!(adapter = self.adapter.name(), kind = %error.kind(), %error, "storage check failed");
                Outcome::down(error.kind().as_str())
            }
        }
    }
}
