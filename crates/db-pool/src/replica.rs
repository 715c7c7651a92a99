use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::DbConnection;
use crate::error::{Error, ErrorKind, Result};
use crate::loans::Place;
use crate::pool::DbPool;
use crate::shared::Shared;

/// How long a reader waits for the replica before it goes to the primary.
const PATIENCE: Duration = Duration::from_millis(500);
/// For how long all but one reader go straight to the primary after the replica failed.
const AVOIDED: Duration = Duration::from_secs(1);

/// The pool of the replica, and whether it is of any use at present.
pub(crate) struct Replica {
    pub(crate) shared: Arc<Shared>,
    failed: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            failed: Mutex::new(None),
        }
    }

    /// Whether this reader should try it. After a failure one reader a second does.
    fn is_worth_trying(&self) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match *failed {
            Some(at) if at.elapsed() < AVOIDED => false,
            Some(_) => {
                *failed = Some(Instant::now());
                true
            }
            None => true,
        }
    }

    fn note(&self, failed: bool) -> bool {
        let mut known = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.is_some();
        *known = failed.then(Instant::now);
        before
    }
}

impl DbPool {
    /// A handle for reading: connections to `DATABASE_REPLICA_URL` where one is set and answers, to the primary
    /// otherwise. Everything taken from it refuses to write (SQLSTATE 25006), on the primary as well, so that a mistake
    /// shows everywhere.
    ///
    /// **A replica is behind.** What was just written may not be there yet: ask [`replica_lag`](Self::replica_lag), or
    /// read what has to be current from the pool itself. [`DbConnection::is_replica`] tells where one ended up. A
    /// replica whose connections are all busy is not abandoned: its callers wait, as everywhere.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            scope: self
                .shared
                .scopes
                .get(self.scope.schema.as_deref(), true, &self.shared.roles),
        }
    }

    /// How far the replica is behind the primary; zero where it has replayed all it received. `None` without a replica,
    /// and where `DATABASE_REPLICA_URL` leads to a primary.
    ///
    /// # Errors
    /// Those of [`get`](Self::get) and [`query`](Self::query) on the replica.
    pub async fn replica_lag(&self) -> Result<Option<Duration>> {
        let Some(replica) = &self.shared.replica else {
            return Ok(None);
        };
        let pool = Self::of(Arc::clone(&replica.shared));
        let row = pool
            .query_one(
                "SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL \
                 WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
                 ELSE greatest(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) \
                 END::float8",
                &[],
            )
            .await?;
        let seconds: Option<f64> = row.get(0);
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }

    /// From the replica, if there is one and it answers.
    pub(crate) async fn take_from_replica(&self, place: Place) -> Result<Option<DbConnection>> {
        let Some(replica) = self
            .shared
            .replica
            .as_ref()
            .filter(|replica| replica.is_worth_trying())
        else {
            return Ok(None);
        };
        let pool = Self {
            shared: Arc::clone(&replica.shared),
            scope: replica
                .shared
                .scopes
                .get(self.scope.schema.as_deref(), true, &replica.shared.roles),
        };
        let limit = PATIENCE.min(pool.shared.limits.acquire_timeout);
        let reachable = pool.shared.pool.status().size > 0;
        let taken = match reachable {
            // Busy, perhaps, but there.
            true => pool.take(place).await,
            false => tokio::time::timeout(limit, pool.take(place))
                .await
                .unwrap_or_else(|_| Err(no_answer(&pool.shared, limit))),
        };
        match taken {
            Ok(connection) => {
                if replica.note(false) {
                    tracing::info!("the replica answers again");
                }
                Ok(Some(connection))
            }
            Err(error) if error.kind() != ErrorKind::Saturated && error.is_unavailable() => {
                self.shared.instruments.fell_back();
                if !replica.note(true) {
                    tracing::warn!(error = %error, "the replica does not answer: reading from the primary");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn no_answer(shared: &Shared, limit: Duration) -> Error {
    let reason = format!("no connection within {limit:?}");
    let cause = shared.dialer.breaker.cause();
    Error::new(
        ErrorKind::Unreachable,
        "get a connection",
        &shared.dialer.subject,
        reason,
    )
    .after(cause)
}
