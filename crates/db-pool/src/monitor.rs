use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::error::Result;
use crate::pool::DbPool;
use crate::shared::Shared;

/// How often the monitor looks.
const EVERY: Duration = Duration::from_secs(60);
/// From which share of the server's connections on it warns.
const WARN_FROM: f64 = 0.8;

/// The client connections of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConnections {
    /// How many it allows (`max_connections`).
    pub max: u32,
    /// How many there are, over all databases.
    pub total: u32,
    /// How many there are, by database.
    pub by_database: BTreeMap<String, u32>,
}

impl ServerConnections {
    /// The share in use, from 0 to 1.
    pub fn usage(&self) -> f64 {
        f64::from(self.total) / f64::from(self.max.max(1))
    }

    /// Whether more than 80 % are in use: time to act, before callers are refused.
    pub fn is_high(&self) -> bool {
        self.usage() > WARN_FROM
    }
}

/// Ends the monitor when dropped.
#[derive(Debug)]
#[must_use = "the monitor ends when this is dropped"]
pub struct MonitorGuard(JoinHandle<()>);

impl Drop for MonitorGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl DbPool {
    /// Counts the server's client connections, by database. Needs no special right.
    ///
    /// # Errors
    /// Those of [`get`](Self::get) and [`query`](Self::query).
    pub async fn server_connections(&self) -> Result<ServerConnections> {
        // The type is hidden from users without pg_monitor, the database is not.
        let rows = Self::of(std::sync::Arc::clone(&self.shared))
            .query(
                "SELECT datname::text, count(*)::int8, current_setting('max_connections')::int8 \
                 FROM pg_catalog.pg_stat_activity \
                 WHERE datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend' \
                 GROUP BY datname",
                &[],
            )
            .await?;
        let narrow = |number: i64| u32::try_from(number).unwrap_or(0);
        let mut found = ServerConnections::default();
        for row in &rows {
            let count = narrow(row.get(1));
            found.max = narrow(row.get(2));
            found.total += count;
            found.by_database.insert(row.get(0), count);
        }
        Ok(found)
    }

    /// Watches the server's connections once a minute: gauges by database, and a warning in the log while more than
    /// 80 % of `max_connections` are in use. Uses a connection of the pool for a moment; does not keep the pool alive.
    pub fn spawn_monitor(&self) -> MonitorGuard {
        self.spawn_monitor_every(EVERY)
    }

    /// As [`spawn_monitor`](Self::spawn_monitor), at another pace.
    pub fn spawn_monitor_every(&self, every: Duration) -> MonitorGuard {
        let weak = std::sync::Arc::downgrade(&self.shared);
        MonitorGuard(tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            loop {
                let Some(shared) = weak.upgrade() else { return };
                let pool = Self::of(shared);
                match pool.server_connections().await {
                    Ok(found) => pool.shared.show_server(&found, &mut seen),
                    Err(error) => tracing::warn!(error = %error, "database connections could not be counted"),
                }
                drop(pool);
                tokio::time::sleep(every.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
            }
        }))
    }
}

impl Shared {
    fn show_server(&self, found: &ServerConnections, seen: &mut BTreeMap<String, u32>) {
        self.instruments.server_max.set(f64::from(found.max));
        // A database that nobody uses any more has to go to zero, not to stay.
        for database in seen
            .keys()
            .filter(|database| !found.by_database.contains_key(*database))
        {
            self.instruments.server_connections(database, 0.0);
        }
        for (database, count) in &found.by_database {
            self.instruments.server_connections(database, f64::from(*count));
        }
        seen.clone_from(&found.by_database);
        if found.is_high() {
            tracing::warn!(
                connections = found.total,
                max_connections = found.max,
                percent = (found.usage() * 100.0).round(),
                by_database = ?found.by_database,
                "more than 80 % of the server's connections are in use: lower DB_POOL_SIZE or DB_MAX_INSTANCES, use \
                 DATABASE_POOLED_URL, or take a larger server"
            );
        } else {
            tracing::debug!(
                connections = found.total,
                max_connections = found.max,
                "database connections"
            );
        }
    }
}
