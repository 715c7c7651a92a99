use std::sync::Arc;
use std::time::Instant;

use deadpool::managed::{self, Metrics, RecycleResult};

use crate::conn::Conn;
use crate::dialer::Dialer;
use crate::error::{Error, ErrorKind, Result};
use crate::loans::Loans;

tokio::task_local! {
    /// Until when the caller waits for a new connection. Callers who only look for an idle one have none.
    pub(crate) static DEADLINE: Instant;
}

/// What the pool beneath needs to know: how a connection is made. Whether one may be used again is seen to by
/// [`Shared`](crate::shared::Shared), which knows the time already.
pub(crate) struct Manager {
    dialer: Arc<Dialer>,
    loans: Arc<Loans>,
}

impl Manager {
    pub(crate) fn new(dialer: Arc<Dialer>, loans: Arc<Loans>) -> Self {
        Self { dialer, loans }
    }
}

impl managed::Manager for Manager {
    // Boxed, because it is moved several times at every checkout.
    type Type = Box<Conn>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Conn>> {
        let Ok(deadline) = DEADLINE.try_with(|deadline| *deadline) else {
            return Err(none_idle());
        };
        let conn = self.dialer.connect(deadline).await?;
        self.loans.register(&conn.side.slot);
        Ok(Box::new(conn))
    }

    async fn recycle(&self, _: &mut Box<Conn>, _: &Metrics) -> RecycleResult<Error> {
        Ok(())
    }
}

/// Never shown: it sends the caller to open a connection. Made once, because it is made often.
fn none_idle() -> Error {
    static NONE: std::sync::OnceLock<Error> = std::sync::OnceLock::new();
    let make = || {
        Error::new(
            ErrorKind::Saturated,
            "get a connection",
            "the pool",
            "none is idle",
        )
    };
    NONE.get_or_init(make).clone()
}
