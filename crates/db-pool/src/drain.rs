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
        let shared = &self.shared;
        shared.pool.close();
        shared.dialer.drop_spares();
        let held = shared.loans.count();
        // Whether it ended or not is seen below.
        let _ = tokio::time::timeout(deadline, shared.loans.all_returned()).await;
        let leftovers: Vec<Leftover> = shared
            .loans
            .list()
            .into_iter()
            .map(|loan| Leftover {
                schema: loan.scope.schema.clone(),
                held: loan.since.elapsed(),
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
