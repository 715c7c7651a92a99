use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError, QueueMode, Timeouts};
use tokio_postgres::Row;
use zhuji_config::Secret;

use crate::config::DbConfig;
use crate::connection::DbConnection;
use crate::dialer::{DialSettings, Dialer};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::housekeeping;
use crate::lane::{ParameterTypes, Params};
use crate::loans::Loans;
use crate::manager::{DEADLINE, Manager};
use crate::metrics::Instruments;
use crate::planner::{Plan, PlannerInput, plan};
use crate::scope::Scope;
use crate::transaction::{Transaction, TransactionOptions};
use crate::url::Target;

/// A pool of PostgreSQL connections, shared by everything in the process. Cloning is cheap.
///
/// A handle works in one schema; [`scoped`](Self::scoped) gives a handle of the same pool for another.
#[derive(Clone)]
pub struct DbPool {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scope: Arc<Scope>,
}

/// What all handles of a pool have in common.
pub(crate) struct Shared {
    pub(crate) pool: Pool<Manager>,
    /// Where requests go.
    pub(crate) dialer: Arc<Dialer>,
    /// Where migrations and LISTEN go; the same unless there is a pooler.
    pub(crate) direct: Arc<Dialer>,
    pub(crate) acquire_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) loans: Loans,
    pub(crate) types: ParameterTypes,
    scopes: Mutex<HashMap<String, Arc<Scope>>>,
    next_scope: AtomicU32,
    epoch: Instant,
    /// Microseconds after `epoch` when a connection last came back in working order; 0: never.
    well_at: AtomicU64,
    keeps_house: AtomicBool,
    pub(crate) sizing: Sizing,
}

/// How large the pool may be, and why.
pub(crate) struct Sizing {
    fixed: Option<u32>,
    input: PlannerInput,
    max_connections_fixed: bool,
    pub(crate) plan: Mutex<Option<Plan>>,
}

impl Shared {
    pub(crate) fn gave_back_well(&self, at: Instant) {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        self.well_at.store(
            u64::try_from(micros).unwrap_or(u64::MAX).max(1),
            Ordering::Relaxed,
        );
    }

    fn last_well(&self) -> Option<Instant> {
        match self.well_at.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.epoch + Duration::from_micros(micros)),
        }
    }

    pub(crate) async fn acquire(&self) -> Result<Object<Manager>> {
        let started = Instant::now();
        let deadline = started + self.acquire_timeout;
        let attempts = DEADLINE.scope(deadline, self.attempts(deadline));
        let result = tokio::select! {
            biased;
            result = attempts => result,
            // Polled only while there is nothing to hand out.
            cause = self.dialer.breaker.gives_up(started, || self.last_well()) => {
                Err(cause.doing("get a connection"))
            }
        };
        match &result {
            Ok(_) => self.instruments.acquired(started.elapsed()),
            Err(error) => self.instruments.not_acquired(error),
        }
        result
    }

    async fn attempts(&self, deadline: Instant) -> Result<Object<Manager>> {
        // The first look costs no timer: mostly there is a connection.
        let mut looks_only = true;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if looks_only { Duration::ZERO } else { left };
            let timeouts = Timeouts {
                wait: Some(wait),
                create: None,
                recycle: None,
            };
            match self.pool.timeout_get(&timeouts).await {
                Err(PoolError::Timeout(_)) if looks_only => looks_only = false,
                Ok(object) => return Ok(object),
                Err(PoolError::Backend(error)) if may_pass(&error) => {
                    // Without the permit in hand, so that a connection given back meanwhile finds a caller.
                    let pause = Duration::from_millis(2 + fastrand::u64(..30));
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(PoolError::Backend(error)) => return Err(error),
                Err(PoolError::Closed) => return Err(self.closed()),
                Err(_) => {
                    let status = self.pool.status();
                    let reason = format!(
                        "{} of {} connections are in use and {} callers wait",
                        self.loans.count(),
                        status.max_size,
                        status.waiting
                    );
                    return Err(self.timed_out(Phase::Waiting, reason));
                }
            }
        }
    }

    fn timed_out(&self, phase: Phase, reason: String) -> Error {
        Error::timeout("get a connection", &self.dialer.subject, phase, reason)
            .after(self.dialer.breaker.cause())
    }

    fn closed(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            "get a connection",
            &self.dialer.subject,
            "the pool was drained",
        )
    }
}

fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::TooManyConnections | ErrorKind::Disconnected
    )
}

/// A pool in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Connections it may have.
    pub max: usize,
    /// Connections it has.
    pub size: usize,
    /// Connections in the hands of callers.
    pub in_use: usize,
    /// Connections that wait for a caller.
    pub idle: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

impl fmt::Debug for DbPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbPool")
            .field("subject", &self.shared.dialer.subject)
            .field("schema", &self.scope.schema)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl DbPool {
    /// A pool that has reached its server: opens one connection, reads the server's limits and plans its size by them.
    ///
    /// # Errors
    /// The settings cannot be used, or the server cannot: within `acquire_timeout`, and after one second already when
    /// it refuses.
    pub async fn connect(config: &DbConfig) -> Result<Self> {
        let pool = Self::new(config)?;
        pool.learn().await?;
        Ok(pool)
    }

    /// A pool that opens its first connection when it is first used. Until then its size is planned for the server
    /// limit in `max_connections`, or PostgreSQL's default of 100.
    ///
    /// # Errors
    /// The settings cannot be used: [`ErrorKind::Config`].
    pub fn new(config: &DbConfig) -> Result<Self> {
        let url = config.url.as_ref().ok_or_else(|| {
            Error::config(
                "DATABASE_URL",
                "it is not set: postgres://user:password@host:5432/database",
            )
        })?;
        config.validate()?;
        let instruments = Arc::new(Instruments::new());
        let dialer = |variable: &str, url: &Secret, pooled: bool| {
            let target = Target::parse(url.expose()).map_err(|reason| Error::config(variable, reason))?;
            let settings = DialSettings {
                pooled,
                application_name: config.application_name.clone(),
                statement_timeout: config.statement_timeout,
                connect_timeout: config.connect_timeout,
                max_lifetime: config.max_lifetime,
                instruments: Arc::clone(&instruments),
            };
            let dialer = Dialer::new(target, settings).map_err(|reason| Error::config(variable, reason))?;
            Ok::<_, Error>(Arc::new(dialer))
        };
        let direct = dialer("DATABASE_URL", url, false)?;
        let requests = match &config.pooled_url {
            Some(pooled) if pooled != url => dialer("DATABASE_POOLED_URL", pooled, true)?,
            _ => Arc::clone(&direct),
        };
        let input = PlannerInput {
            instances: config.max_instances,
            surge: config.surge_instances.unwrap_or(config.max_instances),
            ..PlannerInput::new(config.max_connections.unwrap_or(100))
        };
        let size = config.pool_size.unwrap_or_else(|| plan(&input).size);
        let manager = Manager::new(
            Arc::clone(&requests),
            config.acquire_timeout,
            Arc::clone(&instruments),
        );
        let pool = Pool::builder(manager)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX).max(1))
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Config, "build the pool", &requests.subject, "refused").because(error)
            })?;
        let shared = Shared {
            pool,
            dialer: requests,
            direct,
            acquire_timeout: config.acquire_timeout,
            statement_timeout: config.statement_timeout,
            idle_timeout: config.idle_timeout,
            instruments,
            loans: Loans::default(),
            types: ParameterTypes::default(),
            scopes: Mutex::default(),
            next_scope: AtomicU32::new(Scope::SERVER_DEFAULT + 1),
            epoch: Instant::now(),
            well_at: AtomicU64::new(0),
            keeps_house: AtomicBool::new(false),
            sizing: Sizing {
                fixed: config.pool_size,
                input,
                max_connections_fixed: config.max_connections.is_some(),
                plan: Mutex::new(None),
            },
        };
        Ok(Self {
            shared: Arc::new(shared),
            scope: Scope::server_default(),
        })
    }

    /// Reads the server's limits and sizes the pool by them. Once; further calls do nothing.
    pub(crate) async fn learn(&self) -> Result<()> {
        let sizing = &self.shared.sizing;
        let known = sizing
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        let connection = self.get().await?;
        if known {
            return Ok(());
        }
        let rows = connection
            .query(
                "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN \
                 ('max_connections', 'superuser_reserved_connections', 'reserved_connections')",
                &[],
            )
            .await?;
        drop(connection);
        let mut input = sizing.input;
        input.superuser_reserved = 0;
        for row in &rows {
            let value: u32 = row.get::<_, &str>(1).parse().unwrap_or(0);
            match row.get::<_, &str>(0) {
                "max_connections" if !sizing.max_connections_fixed => input.max_connections = value,
                "superuser_reserved_connections" | "reserved_connections" => {
                    input.superuser_reserved += value
                }
                _ => {}
            }
        }
        let made = plan(&input);
        let size = sizing.fixed.unwrap_or(made.size).max(1);
        made.report(sizing.fixed);
        *sizing.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        self.shared
            .pool
            .resize(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(())
    }

    /// How the size was found; `None` before the server was reached.
    pub fn plan(&self) -> Option<Plan> {
        self.shared
            .sizing
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A handle of the same pool that works in this schema: unqualified names mean tables there, then in `public`.
    ///
    /// The schema need not exist; [`migrate`](Self::migrate) creates it. A name PostgreSQL cannot have is reported by
    /// the first use.
    #[must_use]
    pub fn scoped(&self, schema: &str) -> Self {
        let mut scopes = self.shared.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = scopes.entry(schema.to_owned()).or_insert_with(|| {
            let id = self.shared.next_scope.fetch_add(1, Ordering::Relaxed);
            Scope::of(id, schema)
        });
        Self {
            shared: Arc::clone(&self.shared),
            scope: Arc::clone(scope),
        }
    }

    /// The schema this handle works in; `None`: the server's default.
    pub fn schema(&self) -> Option<&str> {
        self.scope.schema.as_deref()
    }

    /// A connection of one's own until it is dropped. Waits at most `acquire_timeout` (default 3 s), dialling included.
    ///
    /// While the server cannot be reached, callers are held for at most one second, then told at once with the cause.
    /// Callers are served in the order they came. Safe to cancel.
    ///
    /// # Errors
    /// [`ErrorKind::Saturated`] when all connections were busy; the cause when none could be opened;
    /// [`Error::phase`] says where the time went.
    pub async fn get(&self) -> Result<DbConnection> {
        if let Some(reason) = self.scope.invalid {
            let subject = format!("schema {:?}", self.scope.schema.as_deref().unwrap_or_default());
            return Err(Error::new(ErrorKind::Config, "get a connection", subject, reason));
        }
        if !self.shared.keeps_house.swap(true, Ordering::Relaxed) {
            housekeeping::start(self);
        }
        let object = self.shared.acquire().await?;
        let connection = DbConnection::new(object, Arc::clone(&self.shared), Arc::clone(&self.scope));
        connection.enter_scope().await?;
        Ok(connection)
    }

    /// [`get`](Self::get), then [`DbConnection::query`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        self.get().await?.query(sql, params).await
    }

    /// [`get`](Self::get), then [`DbConnection::query_one`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row> {
        self.get().await?.query_one(sql, params).await
    }

    /// [`get`](Self::get), then [`DbConnection::query_opt`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>> {
        self.get().await?.query_opt(sql, params).await
    }

    /// [`get`](Self::get), then [`DbConnection::execute`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64> {
        self.get().await?.execute(sql, params).await
    }

    /// [`get`](Self::get), then [`DbConnection::batch_execute`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.get().await?.batch_execute(sql).await
    }

    /// Runs `work` in a transaction: committed when it returns `Ok`; rolled back on `Err`, on a panic, and when the
    /// future is dropped.
    ///
    /// ```no_run
    /// # async fn example(pool: zhuji_db_pool::DbPool) -> Result<(), zhuji_db_pool::Error> {
    /// let id: i64 = pool
    ///     .transaction(async |tx| {
    ///         let row = tx.query_one("INSERT INTO trials (title) VALUES ($1) RETURNING id", &[&"A"]).await?;
    ///         tx.execute("INSERT INTO log (trial) VALUES ($1)", &[&row.get::<_, i64>(0)]).await?;
    ///         Ok::<_, zhuji_db_pool::Error>(row.get(0))
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `work` returns, and those of [`get`](Self::get) and [`Transaction::commit`], turned into its error type.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        self.transaction_with(TransactionOptions::default(), work).await
    }

    /// As [`transaction`](Self::transaction), with an isolation level or read only.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<T, E, F>(&self, options: TransactionOptions, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let mut connection = self.get().await?;
        let mut transaction = connection.transaction_with(options).await?;
        match work(&mut transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // The error to tell is the caller's; a connection that cannot roll back is not given on.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// The pool in numbers.
    pub fn status(&self) -> PoolStatus {
        let status = self.shared.pool.status();
        let in_use = self.shared.loans.count();
        PoolStatus {
            max: status.max_size,
            size: status.size,
            in_use,
            idle: status.size.saturating_sub(in_use),
            waiting: status.waiting,
        }
    }

    /// Whether requests go through a transaction-mode pooler (`DATABASE_POOLED_URL`).
    pub fn is_pooled(&self) -> bool {
        self.shared.dialer.pooled
    }
}
