use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Pool, QueueMode};
use tokio_postgres::Row;
use zhuji_config::Secret;

use crate::config::DbConfig;
use crate::connection::{DbConnection, Held};
use crate::dialer::{DialSettings, Dialer};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Gate;
use crate::housekeeping;
use crate::identity::Identity;
use crate::lane::{ParameterTypes, Params};
use crate::loans::{Loans, Place};
use crate::manager::Manager;
use crate::metrics::Instruments;
use crate::planner::Plan;
use crate::replica::Replica;
use crate::roles::Roles;
use crate::scope::Scope;
use crate::shared::{Limits, Scopes, Shared};
use crate::sizing::Sizing;
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
    /// A pool that has reached its server: reads the server's limits, counts the instances of the service, sizes itself by
    /// both, and opens the connections that are kept warm (`min_idle`).
    ///
    /// # Errors
    /// The settings cannot be used, or the server cannot: within `acquire_timeout`, and after one second already when
    /// it refuses.
    pub async fn connect(config: &DbConfig) -> Result<Self> {
        let pool = Self::new(config)?;
        pool.learn().await?;
        pool.shared.warm().await;
        Ok(pool)
    }

    /// A pool that opens its first connection when it is first used. Until then its size is planned for the server
    /// limit in `max_connections`, or PostgreSQL's default of 100.
    ///
    /// # Errors
    /// The settings cannot be used: [`ErrorKind::Config`].
    pub fn new(config: &DbConfig) -> Result<Self> {
        config.validate()?;
        let direct = config.url.as_ref();
        let pooled = config
            .pooled_url
            .as_ref()
            .filter(|pooled| Some(*pooled) != direct);
        let Some(requests) = pooled.or(direct) else {
            return Err(Error::config(
                "DATABASE_URL",
                "it is not set: postgres://user:password@host:5432/database",
            ));
        };
        let named = Target::parse(requests.expose())
            .ok()
            .and_then(|target| target.application_name);
        let make = Make {
            config,
            identity: Identity::new(named.as_deref().unwrap_or(&config.application_name)),
        };
        let replica = match &config.replica_url {
            Some(url) => {
                let instruments = Arc::new(Instruments::new("replica"));
                let dialer = make.dialer("DATABASE_REPLICA_URL", url, false, "replica", &instruments)?;
                Some(Replica::new(Arc::new(make.shared(
                    dialer,
                    None,
                    None,
                    instruments,
                )?)))
            }
            None => None,
        };
        let instruments = Arc::new(Instruments::new("main"));
        let direct = match direct {
            Some(url) => Some(make.dialer("DATABASE_URL", url, false, "main", &instruments)?),
            None => None,
        };
        let dialer = match (pooled, &direct) {
            (Some(url), _) => make.dialer("DATABASE_POOLED_URL", url, true, "main", &instruments)?,
            (None, Some(direct)) => Arc::clone(direct),
            (None, None) => make.dialer("DATABASE_URL", requests, false, "main", &instruments)?,
        };
        Ok(Self::of(Arc::new(make.shared(
            dialer,
            direct,
            replica,
            instruments,
        )?)))
    }

    /// The handle that is not scoped.
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            scope: Scope::server_default(),
        }
    }

    /// How the size was found; `None` before the server was reached.
    pub fn plan(&self) -> Option<Plan> {
        self.shared.sizing.plan()
    }

    /// A handle of the same pool that works in this schema: unqualified names mean tables there, then in `public`, and
    /// where the server has roles for modules ([`ModuleRoles`](crate::ModuleRoles)), nothing else can be seen.
    ///
    /// The schema need not exist; [`migrate`](Self::migrate) creates it. A name PostgreSQL cannot have is reported by
    /// the first use.
    #[must_use]
    pub fn scoped(&self, schema: &str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            scope: self
                .shared
                .scopes
                .get(Some(schema), self.scope.read_only, &self.shared.roles),
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
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<DbConnection>> + Send {
        self.take(Location::caller())
    }

    pub(crate) async fn take(&self, place: Place) -> Result<DbConnection> {
        if let Some(reason) = self.scope.invalid {
            let subject = format!("schema {:?}", self.scope.schema.as_deref().unwrap_or_default());
            return Err(Error::new(ErrorKind::Config, "get a connection", subject, reason));
        }
        let shared = &self.shared;
        if !shared.keeps_house.load(Ordering::Relaxed) && !shared.keeps_house.swap(true, Ordering::Relaxed) {
            housekeeping::start(shared);
        }
        if self.scope.read_only && shared.replica.is_some() {
            // Boxed, because taking from the replica's pool is this function again.
            if let Some(connection) = Box::pin(self.take_from_replica(place)).await? {
                return Ok(connection);
            }
        }
        let (object, taken) = shared.acquire().await?;
        let connection = DbConnection::new(
            Held::Pool(object),
            Arc::clone(shared),
            Arc::clone(&self.scope),
            taken,
            place,
        );
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
    #[track_caller]
    pub fn transaction<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let place = Location::caller();
        async move {
            let mut connection = self.take(place).await?;
            let mut transaction = connection.transaction().await?;
            let result = work(&mut transaction).await;
            transaction.conclude(result).await.0
        }
    }

    /// As [`transaction`](Self::transaction), with an isolation level, read only, and run again when others got in its
    /// way: after a serialization failure (40001) or a deadlock (40P01), whatever error `work` made of it, at most
    /// [`retries`](TransactionOptions::retries) times (3), with random pauses of up to half a second between them and no
    /// connection held meanwhile.
    ///
    /// In a spawned task, give it what it needs by value (`async move`): the compiler cannot see yet that borrowing is
    /// safe to send.
    ///
    /// What `work` does besides the database is done again as well. A commit whose answer was lost is never repeated.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    #[track_caller]
    pub fn transaction_with<T, E, F>(
        &self,
        options: TransactionOptions,
        mut work: F,
    ) -> impl Future<Output = Result<T, E>>
    where
        E: From<Error>,
        F: AsyncFnMut(&mut Transaction<'_>) -> Result<T, E>,
    {
        let place = Location::caller();
        async move {
            let mut retry = 0;
            loop {
                let mut connection = self.take(place).await?;
                let mut transaction = connection.transaction_with(options).await?;
                let result = work(&mut transaction).await;
                let (result, conflict) = transaction.conclude(result).await;
                drop(connection);
                if result.is_ok() || !conflict || retry >= options.retries {
                    return result;
                }
                self.shared.instruments.retried();
                let longest = 10_u64 << retry.min(5);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..=longest))).await;
                retry += 1;
            }
        }
    }

    /// The pool in numbers.
    pub fn status(&self) -> PoolStatus {
        let shared = &self.shared;
        let (size, in_use) = (shared.pool.status().size, shared.loans.count());
        PoolStatus {
            max: shared.gate.limit(),
            size,
            in_use,
            idle: size.saturating_sub(in_use),
            waiting: shared.gate.waiting(),
        }
    }

    /// Whether requests go through a transaction-mode pooler (`DATABASE_POOLED_URL`).
    pub fn is_pooled(&self) -> bool {
        self.shared.dialer.pooled
    }
}

/// Puts pools together.
struct Make<'a> {
    config: &'a DbConfig,
    identity: Identity,
}

impl Make<'_> {
    fn dialer(
        &self,
        variable: &str,
        url: &Secret,
        pooled: bool,
        purpose: &'static str,
        instruments: &Arc<Instruments>,
    ) -> Result<Arc<Dialer>> {
        let config = self.config;
        let target = Target::parse(url.expose()).map_err(|reason| Error::config(variable, reason))?;
        let settings = DialSettings {
            pooled,
            identity: self.identity.clone(),
            purpose,
            statement_timeout: config.statement_timeout,
            connect_timeout: config.connect_timeout,
            max_lifetime: config.max_lifetime,
            instruments: Arc::clone(instruments),
        };
        let dialer = Dialer::new(target, settings).map_err(|reason| Error::config(variable, reason))?;
        Ok(Arc::new(dialer))
    }

    fn shared(
        &self,
        dialer: Arc<Dialer>,
        direct: Option<Arc<Dialer>>,
        replica: Option<Replica>,
        instruments: Arc<Instruments>,
    ) -> Result<Shared> {
        let config = self.config;
        let input = config.planner_input(config.max_connections.unwrap_or(100));
        let follows = config.adaptive && !dialer.pooled;
        let sizing = Sizing::new(config.pool_size, input, config.max_connections.is_some(), follows);
        let loans = Arc::new(Loans::default());
        let pool = Pool::builder(Manager::new(Arc::clone(&dialer), Arc::clone(&loans)))
            .max_size(sizing.limit())
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Config, "build the pool", &dialer.subject, "refused").because(error)
            })?;
        Ok(Shared {
            pool,
            gate: Gate::new(sizing.limit()),
            roles: Roles::new(config.module_roles, &dialer.target.database),
            limits: Limits {
                acquire_timeout: config.acquire_timeout,
                statement_timeout: config.statement_timeout,
                idle_timeout: config.idle_timeout,
                min_idle: usize::try_from(config.min_idle).unwrap_or(usize::MAX),
                leak_after: config.leak_after,
                slow_query: config.slow_query,
            },
            dialer,
            direct,
            replica,
            instruments,
            loans,
            types: ParameterTypes::default(),
            sizing,
            scopes: Scopes::default(),
            epoch: Instant::now(),
            well_at: AtomicU64::new(0),
            distrusted_before: AtomicU64::new(0),
            keeps_house: AtomicBool::new(false),
        })
    }
}
