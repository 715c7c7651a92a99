use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::pool::{DbPool, Shared};
use crate::scope::Scope;

const EVERY: Duration = Duration::from_secs(1);

/// Starts the task that closes old connections, shows the pool's gauges and, for a pool that was not connected at
/// first, plans its size. It holds the pool weakly and ends with it.
pub(crate) fn start(pool: &DbPool) {
    let shared = Arc::downgrade(&pool.shared);
    tokio::spawn(keep(shared));
}

async fn keep(shared: Weak<Shared>) {
    let mut planned = false;
    loop {
        // Jitter, so that the instances of a fleet do not redial in step.
        tokio::time::sleep(EVERY.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.pool.is_closed() {
            shared.show();
            return;
        }
        shared.reap();
        shared.show();
        if !planned && shared.pool.status().size > 0 {
            let pool = DbPool {
                shared,
                scope: Scope::server_default(),
            };
            planned = pool.plan().is_some() || pool.learn().await.is_ok();
        }
    }
}

impl Shared {
    /// Closes connections that sat idle for too long or are too old.
    fn reap(&self) {
        let idle_timeout = self.idle_timeout;
        let kept = self.pool.retain(|conn, _| {
            conn.is_usable() && !conn.has_lived() && conn.returned.elapsed() < idle_timeout
        });
        for _ in &kept.removed {
            self.instruments.discarded("reaped");
        }
        // Closing sends a message each; the pool is not locked any more.
        drop(kept);
        self.dialer.sweep();
    }

    fn show(&self) {
        let status = self.pool.status();
        let in_use = self.loans.count();
        self.instruments.max.set(gauge(status.max_size));
        self.instruments.size.set(gauge(status.size));
        self.instruments.in_use.set(gauge(in_use));
        self.instruments
            .idle
            .set(gauge(status.size.saturating_sub(in_use)));
        self.instruments.waiting.set(gauge(status.waiting));
    }
}

fn gauge(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
