use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use tracing::{Instrument, Span, field};

use crate::conn::Side;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::lasting::changes_session;
use crate::scope::Scope;
use crate::shared::Shared;
use crate::slow;

/// A statement's parameters.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

type Driver<T> = std::result::Result<T, tokio_postgres::Error>;

/// How much longer than the server a caller waits for the end of a statement: the server's answer says more.
const GRACE: Duration = Duration::from_secs(2);

/// Where statements run: a connection, or a transaction on it.
pub(crate) struct Lane<'c> {
    pub(crate) client: &'c Client,
    pub(crate) side: &'c Side,
    pub(crate) shared: &'c Shared,
    pub(crate) scope: &'c Scope,
    pub(crate) in_transaction: bool,
    /// What the server was told; for a pooled connection nobody was.
    pub(crate) statement_timeout: Duration,
}

/// The parameter types of statements, so that a pooled connection need not ask in a second round trip, which may reach
/// another server process.
#[derive(Default)]
pub(crate) struct ParameterTypes {
    by_scope: Mutex<HashMap<u32, TypesOf>>,
}

type TypesOf = HashMap<Box<str>, Arc<[Type]>>;

impl ParameterTypes {
    const KEPT: usize = 1024;

    fn get(&self, scope: u32, sql: &str) -> Option<Arc<[Type]>> {
        let known = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&scope)?.get(sql).cloned()
    }

    fn put(&self, scope: u32, sql: &str, types: Arc<[Type]>) {
        let mut known = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        let statements = known.entry(scope).or_default();
        if statements.len() >= Self::KEPT {
            // Statements built from text, most likely; learning again costs a round trip each.
            statements.clear();
        }
        statements.insert(sql.into(), types);
    }

    fn remove(&self, scope: u32, sql: &str) {
        let mut known = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statements) = known.get_mut(&scope) {
            statements.remove(sql);
        }
    }
}

fn note_failure<T>(trace: &Span, result: &Result<T>) {
    if let Err(error) = result {
        trace.record("otel.status_message", field::debug(error.kind()));
    }
}

/// The two ways of running a statement.
enum Want {
    Rows,
    Count,
}

enum Got {
    Rows(Vec<Row>),
    Count(u64),
}

impl Lane<'_> {
    fn subject(&self) -> &str {
        &self.shared.dialer.subject
    }

    fn is_pooled(&self) -> bool {
        self.side.pooled
    }

    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        match self.run("query", Want::Rows, sql, params).await? {
            Got::Rows(rows) => Ok(rows),
            Got::Count(_) => Ok(Vec::new()),
        }
    }

    pub(crate) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        match self.run("execute", Want::Count, sql, params).await? {
            Got::Count(count) => Ok(count),
            Got::Rows(_) => Ok(0),
        }
    }

    pub(crate) async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        let mut rows = self.query(sql, params).await?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            count => Err(self.row_count(format!("expected at most one row, got {count}"))),
        }
    }

    pub(crate) async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        match self.query_opt(sql, params).await? {
            Some(row) => Ok(row),
            None => Err(self.row_count("expected one row, got none".to_owned())),
        }
    }

    fn row_count(&self, reason: String) -> Error {
        Error::new(ErrorKind::RowCount, "query", self.subject(), reason)
    }

    /// Several statements without parameters.
    pub(crate) async fn batch_execute(&self, sql: &str) -> Result<()> {
        let started = Instant::now();
        let trace = self.trace("execute", sql);
        let result = self.run_batch(sql).instrument(trace.clone()).await;
        note_failure(&trace, &result);
        self.note_if_slow(started, sql, || None);
        result
    }

    async fn run_batch(&self, sql: &str) -> Result<()> {
        if self.is_pooled() {
            self.refuse_lasting("execute", sql)?;
        } else if !self.in_transaction || changes_session(sql) {
            // Outside of a transaction a function may have been called that changed a setting: better once too often.
            self.mark_dirty();
        }
        if self.in_transaction || !self.is_pooled() {
            return self.guarded("execute", self.client.batch_execute(sql)).await;
        }
        match &*self.scope.set_local() {
            "" => self.guarded("execute", self.client.batch_execute(sql)).await,
            // One message is one transaction, so the setting ends with it.
            set => {
                self.guarded("execute", self.client.batch_execute(&format!("{set}\n{sql}")))
                    .await
            }
        }
    }

    async fn run(&self, operation: &'static str, want: Want, sql: &str, params: Params<'_>) -> Result<Got> {
        let started = Instant::now();
        let trace = self.trace(operation, sql);
        let ran = async {
            match self.is_pooled() {
                true => self.run_unnamed(operation, want, sql, params).await,
                false => self.run_named(started, operation, want, sql, params).await,
            }
        };
        let result = ran.instrument(trace.clone()).await;
        note_failure(&trace, &result);
        self.note_if_slow(started, sql, || match &result {
            Ok(Got::Rows(rows)) => Some(rows.len() as u64),
            Ok(Got::Count(count)) => Some(*count),
            Err(_) => None,
        });
        result
    }

    /// For an exporter of traces.
    fn trace(&self, operation: &'static str, sql: &str) -> Span {
        let span = tracing::debug_span!(
            "database",
            db.system.name = "postgresql",
            db.namespace = self.scope.schema.as_deref(),
            db.operation.name = operation,
            db.query.text = field::Empty,
            otel.kind = "client",
            otel.name = field::Empty,
            otel.status_message = field::Empty,
        );
        if !span.is_disabled() {
            let shape = slow::shape(sql);
            let verb = shape.split(|c: char| !c.is_alphanumeric()).next();
            let name = verb.filter(|verb| !verb.is_empty()).unwrap_or(operation);
            span.record("otel.name", name.to_ascii_uppercase().as_str());
            span.record("db.query.text", shape.as_str());
        }
        span
    }

    fn note_if_slow(&self, started: Instant, sql: &str, rows: impl FnOnce() -> Option<u64>) {
        let threshold = self.shared.limits.slow_query;
        if threshold.is_zero() {
            return;
        }
        let took = started.elapsed();
        if took >= threshold {
            self.shared.instruments.slow_query();
            slow::report(sql, took, rows(), self.scope.schema.as_deref());
        }
    }

    async fn run_named(
        &self,
        started: Instant,
        operation: &'static str,
        want: Want,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Got> {
        let first = self
            .guarded_since(started, operation, self.run_prepared(&want, sql, params))
            .await;
        match first {
            Err(error) if is_stale(&error) => {
                self.side.statements.remove(self.scope.id(), sql);
                if self.in_transaction {
                    return Err(error);
                }
                self.guarded(operation, self.run_prepared(&want, sql, params))
                    .await
            }
            result => result,
        }
    }

    /// The session is put back as it was before anyone else gets it.
    fn mark_dirty(&self) {
        self.side.dirty.store(true, Ordering::Relaxed);
    }

    fn refuse_lasting(&self, operation: &'static str, sql: &str) -> Result<()> {
        if !changes_session(sql) {
            return Ok(());
        }
        let reason = "the statement changes the session, which a pooled connection shares with others: \
                      use a transaction with SET LOCAL, or DATABASE_URL without a pooler";
        Err(Error::new(
            ErrorKind::Unsupported,
            operation,
            self.subject(),
            reason,
        ))
    }

    async fn run_prepared(&self, want: &Want, sql: &str, params: Params<'_>) -> Driver<Got> {
        let (statement, lasting) = match self.side.statements.get(self.scope.id(), sql) {
            Some(kept) => kept,
            None => {
                let statement = self.client.prepare(sql).await?;
                // Looked at once, and kept with the statement.
                let kept = (statement, changes_session(sql));
                self.side.statements.put(self.scope.id(), sql, kept.clone());
                kept
            }
        };
        if lasting {
            self.mark_dirty();
        }
        Ok(match want {
            Want::Rows => Got::Rows(self.client.query(&statement, params).await?),
            Want::Count => Got::Count(self.client.execute(&statement, params).await?),
        })
    }

    /// Without named statements, which a transaction-mode pooler cannot keep.
    async fn run_unnamed(
        &self,
        operation: &'static str,
        want: Want,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Got> {
        let scope = self.scope.id();
        // What is known was let through before.
        let mut types = self.shared.types.get(scope, sql);
        if types.is_none() {
            self.refuse_lasting(operation, sql)?;
            if params.is_empty() {
                let none: Arc<[Type]> = Arc::from([]);
                self.shared.types.put(scope, sql, Arc::clone(&none));
                types = Some(none);
            }
        }
        // Alone, one round trip needs no transaction. A search path or a second round trip does.
        let wrap = !self.in_transaction && (types.is_none() || !self.scope.is_default());
        if !wrap {
            if types.is_none() {
                types = Some(self.learn_types(operation, sql).await?);
            }
            return self
                .run_typed(
                    operation,
                    &want,
                    sql,
                    params,
                    types.as_deref().unwrap_or_default(),
                )
                .await;
        }
        let begin = format!("BEGIN;{}", self.scope.set_local());
        // Given up half-way, the transaction would be another caller's.
        let unfinished = Spoiler(Some(self.side));
        self.guarded(operation, self.client.batch_execute(&begin)).await?;
        let result = async {
            if types.is_none() {
                types = Some(self.learn_types(operation, sql).await?);
            }
            self.run_typed(
                operation,
                &want,
                sql,
                params,
                types.as_deref().unwrap_or_default(),
            )
            .await
        }
        .await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.guarded(operation, self.client.batch_execute(end)).await;
        unfinished.finished();
        let got = result?;
        ended?;
        Ok(got)
    }

    /// In a transaction, so that both messages reach the same server process.
    async fn learn_types(&self, operation: &'static str, sql: &str) -> Result<Arc<[Type]>> {
        let statement = self.guarded(operation, self.client.prepare(sql)).await?;
        let types: Arc<[Type]> = statement.params().into();
        // Dropped now, its name is freed on the server process that has it.
        drop(statement);
        self.shared.types.put(self.scope.id(), sql, Arc::clone(&types));
        Ok(types)
    }

    async fn run_typed(
        &self,
        operation: &'static str,
        want: &Want,
        sql: &str,
        params: Params<'_>,
        types: &[Type],
    ) -> Result<Got> {
        if params.len() != types.len() {
            let reason = format!(
                "the statement has {} parameters, {} were given",
                types.len(),
                params.len()
            );
            return Err(Error::new(
                ErrorKind::Conversion,
                operation,
                self.subject(),
                reason,
            ));
        }
        let typed: Vec<(&(dyn ToSql + Sync), Type)> =
            params.iter().copied().zip(types.iter().cloned()).collect();
        let work = async {
            Ok(match want {
                Want::Rows => Got::Rows(self.client.query_typed(sql, &typed).await?),
                Want::Count => Got::Count(self.client.execute_typed(sql, &typed).await?),
            })
        };
        let result = self.guarded(operation, work).await;
        if result.is_err() {
            // The table may have changed its types; asking again costs one round trip.
            self.shared.types.remove(self.scope.id(), sql);
        }
        result
    }

    /// How long a caller waits for the end of a statement.
    pub(crate) fn limit(&self) -> Duration {
        match self.is_pooled() {
            true => self.statement_timeout,
            false => self.statement_timeout + GRACE,
        }
    }

    /// What the driver or the server said, and what it means for the connection and the transaction.
    pub(crate) fn failed(&self, operation: &'static str, error: tokio_postgres::Error) -> Error {
        let error = Error::statement(operation, self.subject(), error);
        if error.spoils_connection() {
            self.side.spoil();
        }
        match error.kind() {
            ErrorKind::Timeout => self.shared.instruments.statement_timed_out(),
            ErrorKind::Serialization | ErrorKind::Deadlock => {
                self.side.conflict.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        error
    }

    /// One exchange with the server, with a deadline. Cancelled half-way, the connection is known to be in use still.
    pub(crate) async fn guarded<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Driver<T>>,
    ) -> Result<T> {
        self.guarded_since(Instant::now(), operation, work).await
    }

    async fn guarded_since<T>(
        &self,
        started: Instant,
        operation: &'static str,
        work: impl Future<Output = Driver<T>>,
    ) -> Result<T> {
        if self.side.is(&self.side.abandoned) {
            let reason = "an earlier statement on this connection got no answer in time";
            return Err(Error::new(
                ErrorKind::Disconnected,
                operation,
                self.subject(),
                reason,
            ));
        }
        let flight = self.side.in_flight();
        let limit = self.limit();
        match self.side.slot.watch.within(started, limit, work).await {
            Some(result) => {
                flight.answered();
                result.map_err(|error| self.failed(operation, error))
            }
            None => {
                self.side.abandoned.store(true, Ordering::Relaxed);
                self.shared.instruments.statement_timed_out();
                let reason = format!("no answer within {limit:?} (DB_STATEMENT_TIMEOUT)");
                Err(Error::timeout(operation, self.subject(), Phase::Reading, reason))
            }
        }
    }
}

/// Spoils the connection unless told that all went to its end.
struct Spoiler<'a>(Option<&'a Side>);

impl Spoiler<'_> {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Spoiler<'_> {
    fn drop(&mut self) {
        if let Some(side) = self.0 {
            side.spoil();
        }
    }
}

/// The server's prepared statement no longer fits: its table was altered, or something deallocated it.
fn is_stale(error: &Error) -> bool {
    match error.sql_state().map(|code| code.code()) {
        Some("26000") => true,
        Some("0A000") => error
            .reason()
            .starts_with("cached plan must not change result type"),
        _ => false,
    }
}
