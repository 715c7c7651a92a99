use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{IsolationLevel, Row};

use crate::conn::Side;
use crate::error::{ErrorKind, Result};
use crate::lane::{Lane, Params};
use crate::scope::Scope;
use crate::shared::Shared;

/// How a transaction is begun.
#[derive(Clone, Copy, Debug)]
pub struct TransactionOptions {
    pub(crate) isolation: Option<IsolationLevel>,
    read_only: bool,
    pub(crate) retries: u32,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            isolation: None,
            read_only: false,
            retries: 3,
        }
    }
}

impl TransactionOptions {
    /// The isolation level; the server's default (`READ COMMITTED`) otherwise.
    #[must_use]
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.isolation = Some(level);
        self
    }

    /// Refuses to write.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How often [`DbPool::transaction_with`](crate::DbPool::transaction_with) runs it again after a serialization
    /// failure or a deadlock. Default: 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }
}

/// A transaction: rolled back when dropped, unless committed.
pub struct Transaction<'a> {
    raw: tokio_postgres::Transaction<'a>,
    side: &'a Side,
    shared: &'a Shared,
    scope: &'a Scope,
    statement_timeout: Duration,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("schema", &self.scope.schema)
            .finish_non_exhaustive()
    }
}

impl<'a> Transaction<'a> {
    pub(crate) async fn begin(
        client: &'a mut ClientWrapper,
        side: &'a Side,
        shared: &'a Shared,
        scope: &'a Scope,
        options: TransactionOptions,
    ) -> Result<Self> {
        side.conflict.store(false, Ordering::Relaxed);
        let flight = side.in_flight();
        let client: &'a mut tokio_postgres::Client = &mut *client;
        let mut builder = client.build_transaction();
        if let Some(level) = options.isolation {
            builder = builder.isolation_level(level);
        }
        if options.read_only {
            builder = builder.read_only(true);
        }
        let begun = tokio::time::timeout(shared.limits.statement_timeout, builder.start()).await;
        let raw = match begun {
            Ok(Ok(raw)) => raw,
            Ok(Err(error)) => {
                flight.answered();
                let error = crate::Error::statement("begin a transaction", &shared.dialer.subject, error);
                if error.spoils_connection() {
                    side.spoil();
                }
                return Err(error);
            }
            Err(_) => {
                let reason = format!("no answer within {:?}", shared.limits.statement_timeout);
                return Err(crate::Error::timeout(
                    "begin a transaction",
                    &shared.dialer.subject,
                    crate::Phase::Reading,
                    reason,
                ));
            }
        };
        flight.answered();
        let this = Self {
            raw,
            side,
            shared,
            scope,
            statement_timeout: shared.limits.statement_timeout,
        };
        if side.pooled {
            let timeout = shared.limits.statement_timeout.as_millis();
            let settings = format!("SET LOCAL statement_timeout = {timeout};{}", scope.set_local());
            this.batch_execute(&settings).await?;
        }
        Ok(this)
    }

    pub(crate) fn lane(&self) -> Lane<'_> {
        Lane {
            client: self.raw.client(),
            side: self.side,
            shared: self.shared,
            scope: self.scope,
            in_transaction: true,
            statement_timeout: self.statement_timeout,
        }
    }

    /// Ends the transaction as `result` says. Says besides whether others got in the way (40001, 40P01): nothing took
    /// effect then, and running it again may go well.
    pub(crate) async fn conclude<T, E: From<crate::Error>>(
        self,
        result: Result<T, E>,
    ) -> (Result<T, E>, bool) {
        match result {
            Ok(value) => match self.commit().await {
                Ok(()) => (Ok(value), false),
                Err(error) => {
                    let conflict = matches!(error.kind(), ErrorKind::Serialization | ErrorKind::Deadlock);
                    (Err(error.into()), conflict)
                }
            },
            Err(error) => {
                let conflict = self.side.is(&self.side.conflict);
                // The error to tell is the caller's; a connection that cannot roll back is not given on.
                let _ = self.rollback().await;
                (Err(error), conflict)
            }
        }
    }

    /// Runs a statement and collects its rows.
    ///
    /// # Errors
    /// What the server refuses, a value of the wrong type, the statement deadline, a lost connection. After an error
    /// of the server the transaction can only be rolled back.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        self.lane().query(sql, params).await
    }

    /// Runs a statement that gives exactly one row.
    ///
    /// # Errors
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for none or several.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        self.lane().query_one(sql, params).await
    }

    /// Runs a statement that gives one row or none.
    ///
    /// # Errors
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`] for several.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        self.lane().query_opt(sql, params).await
    }

    /// Runs a statement and counts the rows it changed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        self.lane().execute(sql, params).await
    }

    /// Runs several statements without parameters. Never build `sql` from input.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.lane().batch_execute(sql).await
    }

    /// Lets the statements of this transaction run for longer, or less long, than `DB_STATEMENT_TIMEOUT`.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn set_statement_timeout(&mut self, limit: Duration) -> Result<()> {
        // Zero would mean no limit to the server.
        let limit = limit.max(Duration::from_millis(1));
        self.batch_execute(&format!("SET LOCAL statement_timeout = {}", limit.as_millis()))
            .await?;
        self.statement_timeout = limit;
        Ok(())
    }

    /// Runs `work` in a savepoint: when it fails, what it did is undone and the transaction goes on. Dropped half-way,
    /// what was done so far stays part of the transaction.
    ///
    /// # Errors
    /// What `work` returns, and those of [`query`](Self::query).
    pub async fn savepoint<T, E, F>(&mut self, work: F) -> Result<T, E>
    where
        E: From<crate::Error>,
        F: AsyncFnOnce(&mut Self) -> Result<T, E>,
    {
        self.batch_execute("SAVEPOINT zhuji").await?;
        match work(self).await {
            Ok(value) => {
                self.batch_execute("RELEASE SAVEPOINT zhuji").await?;
                Ok(value)
            }
            Err(error) => {
                self.batch_execute("ROLLBACK TO SAVEPOINT zhuji; RELEASE SAVEPOINT zhuji")
                    .await?;
                Err(error)
            }
        }
    }

    /// The driver's transaction, for what is not here: portals, row streams. It has no deadline of ours.
    pub fn as_raw(&self) -> &tokio_postgres::Transaction<'a> {
        &self.raw
    }

    /// The schema of the handle it came from.
    pub fn schema(&self) -> Option<&str> {
        self.scope.schema.as_deref()
    }

    /// Makes everything permanent.
    ///
    /// # Errors
    /// Deferred constraints and serialization failures appear here: nothing took effect.
    ///
    /// **An error may also mean "committed".** With [`ErrorKind::Disconnected`] and [`ErrorKind::Timeout`] the server
    /// may have committed and its answer been lost on the way; neither [is retryable](crate::Error::is_retryable). Who
    /// has to know looks for what the transaction wrote, or makes the transaction safe to run twice: by a unique key, or
    /// `INSERT … ON CONFLICT DO NOTHING`. The same goes when the future is dropped before it has an answer.
    pub async fn commit(self) -> Result<()> {
        let Self {
            raw, side, shared, ..
        } = self;
        end("commit", raw.commit(), side, shared).await
    }

    /// Undoes everything. Dropping does the same, without telling of errors.
    ///
    /// # Errors
    /// A lost connection or the statement deadline.
    pub async fn rollback(self) -> Result<()> {
        let Self {
            raw, side, shared, ..
        } = self;
        end("roll back", raw.rollback(), side, shared).await
    }
}

async fn end(
    operation: &'static str,
    work: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>,
    side: &Side,
    shared: &Shared,
) -> Result<()> {
    let flight = side.in_flight();
    match tokio::time::timeout(shared.limits.statement_timeout, work).await {
        Ok(Ok(())) => {
            flight.answered();
            Ok(())
        }
        Ok(Err(error)) => {
            flight.answered();
            let mut error = crate::Error::statement(operation, &shared.dialer.subject, error);
            if error.spoils_connection() {
                side.spoil();
            }
            if error.kind() == ErrorKind::Unreachable {
                // Told to go away in the middle of a commit: nobody knows.
                error = error.unknown_outcome();
            }
            Err(error)
        }
        Err(_) => {
            side.spoil();
            let reason = format!("no answer within {:?}", shared.limits.statement_timeout);
            Err(crate::Error::timeout(
                operation,
                &shared.dialer.subject,
                crate::Phase::Reading,
                reason,
            ))
        }
    }
}
