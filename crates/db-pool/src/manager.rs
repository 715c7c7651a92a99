use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};

use crate::conn::Conn;
use crate::dialer::Dialer;
use crate::error::{Error, Phase, Result};
use crate::metrics::Instruments;

/// A connection idle for longer is tested before it is handed out. Testing every time costs half the throughput.
const TESTED_AFTER: Duration = Duration::from_secs(1);
/// How long such a test may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Until when the caller waits: the pool beneath has a timeout for each phase, but none for all of them.
    pub(crate) static DEADLINE: Instant;
}

/// What the pool beneath needs to know: how a connection is made and whether it may be used again.
pub(crate) struct Manager {
    dialer: Arc<Dialer>,
    acquire_timeout: Duration,
    instruments: Arc<Instruments>,
    epoch: Instant,
    /// Milliseconds after `epoch`: connections given back before then are not even tested, because one of them failed
    /// its test. Otherwise a dead peer costs a test's timeout for every idle connection.
    distrusted_before: AtomicU64,
}

impl Manager {
    pub(crate) fn new(dialer: Arc<Dialer>, acquire_timeout: Duration, instruments: Arc<Instruments>) -> Self {
        Self {
            dialer,
            acquire_timeout,
            instruments,
            epoch: Instant::now(),
            distrusted_before: AtomicU64::new(0),
        }
    }

    fn deadline(&self) -> Instant {
        DEADLINE
            .try_with(|deadline| *deadline)
            .unwrap_or_else(|_| Instant::now() + self.acquire_timeout)
    }

    fn discard(&self, reason: &'static str) -> RecycleResult<Error> {
        self.instruments.discarded(reason);
        Err(RecycleError::message(reason))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl managed::Manager for Manager {
    type Type = Conn;
    type Error = Error;

    async fn create(&self) -> Result<Conn> {
        let deadline = self.deadline();
        if deadline <= Instant::now() {
            let reason = "connections that sat idle did not answer";
            let subject = &self.dialer.subject;
            return Err(
                Error::timeout("get a connection", subject, Phase::Recycling, reason)
                    .after(self.dialer.breaker.cause()),
            );
        }
        self.dialer.connect(deadline).await
    }

    async fn recycle(&self, conn: &mut Conn, _: &Metrics) -> RecycleResult<Error> {
        if !conn.is_usable() {
            return self.discard("closed");
        }
        if conn.has_lived() {
            return self.discard("lifetime");
        }
        let idle = conn.returned.elapsed();
        if idle < TESTED_AFTER {
            return Ok(());
        }
        let given_back = milliseconds(conn.returned.saturating_duration_since(self.epoch));
        if given_back < self.distrusted_before.load(Ordering::Relaxed) {
            return self.discard("distrusted");
        }
        let left = self
            .deadline()
            .saturating_duration_since(Instant::now())
            .min(TEST_TIMEOUT);
        match tokio::time::timeout(left, conn.client.check_connection()).await {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.distrusted_before
                    .store(milliseconds(self.epoch.elapsed()), Ordering::Relaxed);
                self.discard("failed_test")
            }
        }
    }
}
