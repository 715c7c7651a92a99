use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool::managed::Object;
use tokio::runtime::Handle;
use tokio_postgres::Row;

use crate::conn::Conn;
use crate::error::Result;
use crate::lane::{Lane, Params};
use crate::loans::Place;
use crate::manager::Manager;
use crate::scope::{HasRole, Scope};
use crate::shared::Shared;
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
    held: Option<Held>,
    /// Closed instead of given back.
    for_good: bool,
    shared: Arc<Shared>,
    scope: Arc<Scope>,
    taken: Instant,
}

/// Where a connection came from and has to go.
pub(crate) enum Held {
    Pool(Object<Manager>),
    /// Opened for one caller, outside of the pool.
    Own(Box<Conn>),
}

impl Deref for Held {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match self {
            Self::Pool(object) => object,
            Self::Own(conn) => conn,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Conn {
        match self {
            Self::Pool(object) => object,
            Self::Own(conn) => conn,
        }
    }
}

impl fmt::Debug for DbConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbConnection")
            .field("schema", &self.scope.schema)
            .finish_non_exhaustive()
    }
}

impl DbConnection {
    pub(crate) fn new(
        held: Held,
        shared: Arc<Shared>,
        scope: Arc<Scope>,
        taken: Instant,
        place: Place,
    ) -> Self {
        held.side.slot.open(taken, scope.id(), place);
        Self {
            held: Some(held),
            for_good: false,
            shared,
            scope,
            taken,
        }
    }

    fn conn(&self) -> &Conn {
        // Taken only by `drop`.
        self.held
            .as_deref()
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
            statement_timeout: self.shared.limits.statement_timeout,
        }
    }

    /// Makes the session serve this handle's schema, if it last served another.
    pub(crate) async fn enter_scope(&self) -> Result<()> {
        let (side, scope) = (&self.conn().side, &*self.scope);
        if side.serves.load(Ordering::Relaxed) == scope.id() {
            return Ok(());
        }
        if scope.has_role() == HasRole::Unknown {
            self.shared.resolve_role(&self.lane()).await?;
        }
        if side.pooled {
            return Ok(());
        }
        let id = scope.id();
        let lane = self.lane();
        lane.guarded("set the schema", lane.client.batch_execute(&scope.set()))
            .await?;
        side.serves.store(id, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it leads to a server that only replays what another one wrote.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn is_replica(&self) -> Result<bool> {
        let row = self
            .query_one("SELECT pg_catalog.pg_is_in_recovery()", &[])
            .await?;
        Ok(row.get(0))
    }

    /// Takes it out of the pool: it is closed instead of given back, and may be held for as long as it takes.
    pub(crate) fn keep_for_good(&mut self) {
        self.for_good = true;
        self.conn().side.slot.allow_for_long();
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.conn().is_usable()
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
            .held
            .as_deref_mut()
            .expect("a connection is there until it is dropped");
        let Conn { client, side, .. } = conn;
        Transaction::begin(client, side, &self.shared, &self.scope, options).await
    }
}

impl Drop for DbConnection {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let (shared, now) = (&self.shared, Instant::now());
        shared.instruments.held(now.saturating_duration_since(self.taken));
        let object = match held {
            Held::Pool(object) if !self.for_good => object,
            held => return end_for_good(held, shared),
        };
        let side = &object.side;
        if !object.is_usable() {
            shared.close(object, "broken");
        } else if side.is(&side.interrupted) || side.is(&side.dirty) {
            match Handle::try_current() {
                // Stays on loan until it is clean: `drain` waits for it.
                Ok(runtime) => drop(runtime.spawn(clean(object, Arc::clone(shared)))),
                Err(_) => shared.close(object, "interrupted"),
            }
        } else {
            shared.give_back(object, now);
        }
    }
}

/// Closes a session's connection. What it is still doing is cancelled on the server, where it would go on otherwise.
fn end_for_good(held: Held, shared: &Arc<Shared>) {
    let conn = match held {
        Held::Pool(object) => {
            object.side.slot.close();
            let conn = Object::take(object);
            shared.gate.leave();
            conn
        }
        Held::Own(conn) => {
            conn.side.slot.close();
            conn
        }
    };
    if conn.side.is(&conn.side.interrupted)
        && let Ok(runtime) = Handle::try_current()
    {
        drop(runtime.spawn(async move { conn.side.cancel().await }));
    }
}

/// Makes a connection fit for the next caller, or closes it.
async fn clean(object: Object<Manager>, shared: Arc<Shared>) {
    let mut cleaning = Cleaning(Some(object), shared);
    let Some(object) = &mut cleaning.0 else { return };
    if make_clean(object).await
        && let Some(object) = cleaning.0.take()
    {
        cleaning.1.give_back(object, Instant::now());
    }
}

/// Closed unless it became clean, also when the runtime ends meanwhile.
struct Cleaning(Option<Object<Manager>>, Arc<Shared>);

impl Drop for Cleaning {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            self.1.close(object, "interrupted");
        }
    }
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
