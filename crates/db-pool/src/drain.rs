use std::time::{Duration, Instant};

use crate::pool::DbPool;

/// What [`DbPool::drain`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that were given back while it waited.
    pub returned: usize,
    /// Connections that were still held at the deadline.
    pub leftovers: Vec<Leftover>,
    /// How long it waited.
    pub waited: Duration,
}

impl DrainReport {
    /// Whether everything was given back.
    pub fn is_clean(&self) -> bool {
        self.leftovers.is_empty()
    }
}

/// A connection that was not given back in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// The schema of the handle it was taken from.
    pub schema: Option<String>,
    /// For how long it has been held.
    pub held: Duration,
    /// The line that took it: `src/asl/routes.rs:40:12`.
    pub taken_at: String,
}

impl DbPool {
    /// Ends the pool, for all its handles: idle connections are closed, callers that wait get
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), new ones as well, and those who hold a connection have until
    /// `deadline` to finish. What they still hold then is named in the report and in a warning, and is closed when
    /// they give it back.
    ///
    /// May be called again, to go on waiting.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let started = Instant::now();
        let pools = || {
            std::iter::once(&self.shared).chain(self.shared.replica.as_ref().map(|replica| &replica.shared))
        };
        for shared in pools() {
            shared.pool.close();
            shared.gate.close();
            shared.dialer.drop_spares();
        }
        let held: usize = pools().map(|shared| shared.loans.count()).sum();
        let all = futures_util::future::join_all(pools().map(|shared| shared.loans.all_returned()));
        // Whether it ended or not is seen below.
        let _ = tokio::time::timeout(deadline, all).await;
        let leftovers: Vec<Leftover> = pools()
            .flat_map(|shared| shared.loans.list().into_iter().map(move |loan| (shared, loan)))
            .map(|(shared, loan)| Leftover {
                schema: shared.scopes.schema(loan.scope),
                held: loan.since.elapsed(),
                taken_at: loan.place.to_string(),
            })
            .collect();
        let waited = started.elapsed();
        if leftovers.is_empty() {
            tracing::info!(
                returned = held,
                waited_ms = waited.as_millis(),
                "database pool drained"
            );
        } else {
            tracing::warn!(
                leftovers = leftovers.len(),
                longest_ms = leftovers.iter().map(|leftover| leftover.held.as_millis()).max(),
                taken_at = ?leftovers.iter().map(|leftover| leftover.taken_at.as_str()).collect::<Vec<_>>(),
                schemas = ?leftovers.iter().filter_map(|leftover| leftover.schema.as_deref()).collect::<Vec<_>>(),
                "database connections were still held when the pool had to end"
            );
        }
        DrainReport {
            returned: held.saturating_sub(leftovers.len()),
            leftovers,
            waited,
        }
    }
}
