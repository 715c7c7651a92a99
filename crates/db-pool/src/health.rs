use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zhuji_health::{Check, Outcome};

use crate::error::{Error, ErrorKind};
use crate::pool::DbPool;

/// How long the check waits for a connection and an answer. Well below the 800 ms the health monitor allows.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long it then looks whether the server is there at all.
const LOOK: Duration = Duration::from_millis(250);

struct DbCheck(DbPool);

impl DbPool {
    /// The check called `database`: up when a connection answers.
    ///
    /// A pool whose connections are all busy is degraded (`pool saturated`), and so is a server without a free
    /// connection (`too many connections`), as long as the server is there. Everything else is down: `unreachable`,
    /// `auth`, `tls`, `timeout`, `read only`, `pool closed`.
    pub fn health_check(&self) -> Arc<dyn Check> {
        Arc::new(DbCheck(self.clone()))
    }

    async fn probe(&self) -> Result<(), Error> {
        let connection = self.get().await?;
        connection.ping().await
    }
}

#[async_trait]
impl Check for DbCheck {
    fn name(&self) -> &str {
        "database"
    }

    async fn run(&self) -> Outcome {
        let Self(pool) = self;
        let outcome = match tokio::time::timeout(PATIENCE, pool.probe()).await {
            Ok(Ok(())) if pool.shared.sizing.was_refused() => Outcome::degraded("too many connections"),
            Ok(Ok(())) => return Outcome::Up,
            Ok(Err(error)) => self.judge(error.kind()).await,
            Err(_) => match pool.shared.dialer.breaker.cause() {
                Some(cause) => self.judge(cause.kind()).await,
                None => {
                    let status = pool.status();
                    let busy = status.in_use >= status.max;
                    self.judge(if busy {
                        ErrorKind::Saturated
                    } else {
                        ErrorKind::Timeout
                    })
                    .await
                }
            },
        };
        let status = pool.status();
        tracing::warn!(
            outcome = outcome.kind(),
            cause = pool.shared.dialer.breaker.cause().map(tracing::field::display),
            in_use = status.in_use,
            max = status.max,
            waiting = status.waiting,
            "database check"
        );
        outcome
    }
}

impl DbCheck {
    async fn judge(&self, kind: ErrorKind) -> Outcome {
        match kind {
            // Everybody waits for somebody, which is what a dead server looks like as well.
            ErrorKind::Saturated if self.0.shared.dialer.is_listening(LOOK).await => {
                Outcome::degraded("pool saturated")
            }
            ErrorKind::TooManyConnections => Outcome::degraded("too many connections"),
            ErrorKind::Closed => Outcome::down("pool closed"),
            ErrorKind::Auth => Outcome::down("auth"),
            ErrorKind::Tls => Outcome::down("tls"),
            ErrorKind::Timeout => Outcome::down("timeout"),
            ErrorKind::ReadOnly => Outcome::down("read only"),
            _ => Outcome::down("unreachable"),
        }
    }
}
