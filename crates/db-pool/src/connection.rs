use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool::managed::Object;
use tokio::runtime::Handle;
use tokio_postgres::Row;

use crate::conn::Conn;
use crate::error::Result;
use crate::lane::{Lane, Params};
use crate::manager::Manager;
use crate::pool::Shared;
use crate::scope::Scope;
use crate::transaction::{Transaction, TransactionOptions};

/// How long a connection whose caller gave up may take to finish by itself. Cancelling instead means closing it.
const FINISHES_SOON: Duration = Duration::from_millis(50);
/// How long the session may take to be put back as it was.
const RESET_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on loan, working in the schema of the handle it came from. Given back when dropped.
///
/// Every method has the pool's statement deadline and is safe to cancel: dropped half-way, the connection is not given
/// to anyone else before the server is done with it, and a statement that goes on is cancelled.
pub struct DbConnection {
    object: Option<Object<Manager>>,
    shared: Arc<Shared>,
    scope: Arc<Scope>,
    taken: Instant,
    loan: usize,
}

impl fmt::Debug for DbConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbConnection")
            .field("schema", &self.scope.schema)
            .finish_non_exhaustive()
    }
}

impl DbConnection {
    pub(crate) fn new(object: Object<Manager>, shared: Arc<Shared>, scope: Arc<Scope>) -> Self {
        let taken = Instant::now();
        let loan = shared.loans.open(taken, Arc::clone(&scope));
        shared.instruments.in_use.increment(1.0);
        Self {
            object: Some(object),
            shared,
            scope,
            taken,
            loan,
        }
    }

    fn conn(&self) -> &Conn {
        // Taken only by `drop`.
        self.object
            .as_ref()
            .expect("a connection is there until it is dropped")
    }

    fn lane(&self) -> Lane<'_> {
        let conn = self.conn();
        Lane {
            client: &conn.client,
            side: &conn.side,
            shared: &self.shared,
            scope: &self.scope,
            in_transaction: false,
            statement_timeout: self.shared.statement_timeout,
        }
    }

    /// Makes the session serve this handle's schema, if it last served another.
    pub(crate) async fn enter_scope(&self) -> Result<()> {
        let side = &self.conn().side;
        if self.shared.dialer.pooled || side.serves.load(Ordering::Relaxed) == self.scope.id {
            return Ok(());
        }
        let lane = self.lane();
        lane.guarded("set the schema", lane.client.batch_execute(&self.scope.set))
            .await?;
        side.serves.store(self.scope.id, Ordering::Relaxed);
        Ok(())
    }

    /// Asks the server for an answer.
    pub(crate) async fn ping(&self) -> Result<()> {
        let lane = self.lane();
        lane.guarded("check the connection", lane.client.batch_execute("SELECT 1"))
            .await
    }

    /// Runs a statement and collects its rows.
    ///
    /// # Errors
    /// What the server refuses, a value of the wrong type, the statement deadline, a lost connection.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        self.lane().query(sql, params).await
    }

    /// Runs a statement that gives exactly one row.
    ///
    /// # Errors
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`](crate::ErrorKind::RowCount) for none or several.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        self.lane().query_one(sql, params).await
    }

    /// Runs a statement that gives one row or none.
    ///
    /// # Errors
    /// As [`query`](Self::query), and [`ErrorKind::RowCount`](crate::ErrorKind::RowCount) for several.
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

    /// Runs several statements without parameters. The session is put back as it was before anyone else gets it.
    ///
    /// Never build `sql` from input: there are no parameters to keep it apart.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.lane().batch_execute(sql).await
    }

    /// Begins a transaction, rolled back when dropped without [`commit`](Transaction::commit).
    ///
    /// # Errors
    /// A lost connection, or the statement deadline.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>> {
        self.transaction_with(TransactionOptions::default()).await
    }

    /// As [`transaction`](Self::transaction), with an isolation level or read only.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with(&mut self, options: TransactionOptions) -> Result<Transaction<'_>> {
        let conn: &mut Conn = self
            .object
            .as_mut()
            .expect("a connection is there until it is dropped");
        let Conn { client, side, .. } = conn;
        Transaction::begin(client, side, &self.shared, &self.scope, options).await
    }
}

impl Drop for DbConnection {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        let shared = &self.shared;
        shared.instruments.held(self.taken.elapsed());
        shared.instruments.in_use.decrement(1.0);
        let side = &object.side;
        if !object.is_usable() {
            shared.instruments.discarded("broken");
            drop(Object::take(object));
        } else if side.is(&side.interrupted) || side.is(&side.dirty) {
            match Handle::try_current() {
                // Stays on loan until it is clean: `drain` waits for it.
                Ok(runtime) => {
                    runtime.spawn(clean(object, Arc::clone(shared), self.loan));
                    return;
                }
                Err(_) => drop(Object::take(object)),
            }
        } else {
            object.returned = Instant::now();
            shared.gave_back_well(object.returned);
            drop(object);
        }
        shared.loans.close(self.loan);
    }
}

/// Makes a connection fit for the next caller, or closes it.
async fn clean(mut object: Object<Manager>, shared: Arc<Shared>, loan: usize) {
    let conn: &mut Conn = &mut object;
    if make_clean(conn).await {
        conn.returned = Instant::now();
        drop(object);
    } else {
        shared.instruments.discarded("interrupted");
        drop(Object::take(object));
    }
    shared.loans.close(loan);
}

async fn make_clean(conn: &mut Conn) -> bool {
    let side = &conn.side;
    if side.is(&side.interrupted) {
        // A rollback may stand in the queue; this is answered after it.
        let finished = tokio::time::timeout(FINISHES_SOON, conn.client.check_connection()).await;
        if !matches!(finished, Ok(Ok(()))) {
            // The request to cancel may arrive late and hit a later statement, so there is none.
            side.cancel().await;
            return false;
        }
        side.interrupted.store(false, Ordering::Relaxed);
        side.abandoned.store(false, Ordering::Relaxed);
        // A change of schema may have been on its way.
        side.serves.store(u32::MAX, Ordering::Relaxed);
    }
    if side.is(&side.dirty) {
        // Refused inside a transaction, which is what it is meant to find as well.
        let reset = conn.client.batch_execute("DISCARD ALL");
        if !matches!(tokio::time::timeout(RESET_TIMEOUT, reset).await, Ok(Ok(()))) {
            return false;
        }
        side.statements.clear();
        side.serves.store(Scope::SERVER_DEFAULT, Ordering::Relaxed);
        side.dirty.store(false, Ordering::Relaxed);
    }
    conn.is_usable()
}
