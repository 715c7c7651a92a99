//! One load in all processes: who takes the lease loads, the others look whether the value is there yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::adapter::CacheAdapter;
use crate::cache::Cache;
use crate::error::Result;

/// The first look, and the longest time between two looks.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(100);

/// What came of waiting for one's turn.
pub(crate) enum Turn {
    /// Nobody else loads: it is this process's turn.
    Mine(Lease),
    /// Another process has stored the value.
    Found(Bytes),
    /// The store is out of reach, or whoever has the lease takes too long: everyone for themselves.
    Alone,
}

/// Given back when dropped, so that the next process need not wait for its end.
pub(crate) struct Lease {
    adapter: Arc<dyn CacheAdapter>,
    key: String,
    token: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (adapter, key, token) = (
            self.adapter.clone(),
            std::mem::take(&mut self.key),
            std::mem::take(&mut self.token),
        );
        runtime.spawn(async move {
            let _ = adapter.unlock(&key, &token).await;
        });
    }
}

pub(crate) fn new_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl Cache {
    /// The lease to load `key`, if it is free.
    pub(crate) async fn fleet_lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>> {
        // Beside the values, whose part of the key begins with a generation.
        let names = self.scope.names();
        let lease_key = format!("{names}~load:{}", key.strip_prefix(&**names).unwrap_or(key));
        // Made before the call: a lease that was taken by a call that failed is given back as well.
        let lease = Lease {
            adapter: self.inner.adapter.clone(),
            key: lease_key,
            token: new_token(),
        };
        let taken = self.inner.adapter.lock(&lease.key, &lease.token, ttl).await?;
        Ok(taken.map(|_| lease))
    }

    pub(crate) async fn fleet_turn(&self, key: &str, ttl: Duration) -> Turn {
        let start = Instant::now();
        let mut pause = FIRST_LOOK;
        loop {
            let lease = match self.fleet_lease(key, ttl).await {
                Ok(lease) => lease,
                Err(error) => {
                    tracing::debug!(%error, "no lease: loading in each process");
                    return Turn::Alone;
                }
            };
            // Also with the lease in hand: its last holder may have stored the value just before it let go.
            match (self.inner.adapter.get(key).await, lease) {
                (Ok(Some(stored)), _) => return Turn::Found(stored),
                (_, Some(lease)) => return Turn::Mine(lease),
                (Err(_), None) => return Turn::Alone,
                (Ok(None), None) => {}
            }
            if start.elapsed() > ttl {
                return Turn::Alone;
            }
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}
