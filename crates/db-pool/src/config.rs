use std::time::Duration;

use zhuji_config::{Config, Problem, Reader, Secret};

use crate::error::{Error, Result};
use crate::planner::PlannerInput;
use crate::roles::ModuleRoles;
use crate::tls;
use crate::url::Target;

/// No deadline and no age of a connection is useful beyond this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// No server has more connections, and no service more instances.
const MOST: u32 = 100_000;

/// Settings of the database connection pool.
#[derive(Config, Clone, Debug)]
#[config(title = "Database", prefixes("DATABASE_", "DB_"), check = DbConfig::check, impl_default)]
pub struct DbConfig {
    /// Where PostgreSQL is: `postgres://user:password@host:5432/database?sslmode=verify-full`. All of libpq's
    /// `sslmode`s are understood. This is the direct address: migrations and LISTEN use it in every case.
    ///
    /// Env: `DATABASE_URL`. Default: none; required by modules that use the database.
    #[config(env = "DATABASE_URL")]
    pub url: Option<Secret>,

    /// A transaction-mode pooler in front of it (RDS PgBouncer, port 6432). When set, requests go through it with
    /// unnamed statements and without session state.
    ///
    /// Env: `DATABASE_POOLED_URL`. Default: none: requests go to `DATABASE_URL` too.
    #[config(env = "DATABASE_POOLED_URL", default_note = "= DATABASE_URL")]
    pub pooled_url: Option<Secret>,

    /// How many connections the server allows. Read from the server when not set.
    ///
    /// Env: `DB_MAX_CONNECTIONS`. Default: read from the server.
    #[config(env = "DB_MAX_CONNECTIONS", default_note = "read from the server")]
    pub max_connections: Option<u32>,

    /// How many instances of this service run at most at the same time.
    ///
    /// Env: `DB_MAX_INSTANCES`. Default: `1`; `10` in cloud mode.
    #[config(env = "DB_MAX_INSTANCES", default = "1", default_note = "10 in cloud mode")]
    pub max_instances: u32,

    /// How many further instances may be alive during a rolling deploy. The same number again when not set.
    ///
    /// Env: `DB_SURGE_INSTANCES`. Default: `DB_MAX_INSTANCES`.
    #[config(env = "DB_SURGE_INSTANCES", default_note = "= DB_MAX_INSTANCES")]
    pub surge_instances: Option<u32>,

    /// Connections of this process, instead of the planner's answer.
    ///
    /// Env: `DB_POOL_SIZE`. Default: the planner's answer.
    #[config(env = "DB_POOL_SIZE", default_note = "the planner's answer")]
    pub pool_size: Option<u32>,

    /// How long a caller waits for a connection, dialling included.
    ///
    /// Env: `DB_ACQUIRE_TIMEOUT`. Default: `3s`.
    #[config(env = "DB_ACQUIRE_TIMEOUT", default = "3s")]
    pub acquire_timeout: Duration,

    /// How long one statement may run.
    ///
    /// Env: `DB_STATEMENT_TIMEOUT`. Default: `30s`.
    #[config(env = "DB_STATEMENT_TIMEOUT", default = "30s")]
    pub statement_timeout: Duration,

    /// How long opening one connection may take: TCP, TLS and login together.
    ///
    /// Env: `DB_CONNECT_TIMEOUT`. Default: `5s`.
    #[config(env = "DB_CONNECT_TIMEOUT", default = "5s")]
    pub connect_timeout: Duration,

    /// A connection that nobody used for so long is closed.
    ///
    /// Env: `DB_IDLE_TIMEOUT`. Default: `5m`.
    #[config(env = "DB_IDLE_TIMEOUT", default = "5m")]
    pub idle_timeout: Duration,

    /// A connection older than this, give or take a tenth, is replaced.
    ///
    /// Env: `DB_MAX_LIFETIME`. Default: `30m`.
    #[config(env = "DB_MAX_LIFETIME", default = "30m")]
    pub max_lifetime: Duration,

    /// The service's name on the server: its connections are called `service/instance/purpose` in `pg_stat_activity`, by
    /// which the instances of a service count one another. `application_name` in the URL wins.
    ///
    /// Env: `DB_APPLICATION_NAME`. Default: `zhuji`; the service's name where the platform starts it.
    #[config(env = "DB_APPLICATION_NAME", default = "zhuji")]
    pub application_name: String,

    /// Connections of others on the same server: other services, people and tools. The planner leaves them alone.
    ///
    /// Env: `DB_OTHER_CONNECTIONS`. Default: `9`.
    #[config(env = "DB_OTHER_CONNECTIONS", default = "9")]
    pub other_connections: u32,

    /// Whether the pool shrinks while more instances of the service live than were planned, counted every 15 s, and
    /// when the server has no connection left. Never through a pooler.
    ///
    /// Env: `DB_ADAPTIVE`. Default: `true`.
    #[config(env = "DB_ADAPTIVE", default = "true")]
    pub adaptive: bool,

    /// Connections that are kept open while nobody uses them, and are open before the service is ready. At most the
    /// pool's size.
    ///
    /// Env: `DB_MIN_IDLE`. Default: `2`.
    #[config(env = "DB_MIN_IDLE", default = "2")]
    pub min_idle: u32,

    /// Whoever holds a connection for longer is named in the log, with the line that took it.
    ///
    /// Env: `DB_LEAK_AFTER`. Default: `60s`.
    #[config(env = "DB_LEAK_AFTER", default = "60s")]
    pub leak_after: Duration,

    /// Statements that took longer are logged, without their values. `0s`: none.
    ///
    /// Env: `DB_SLOW_QUERY`. Default: `1s`.
    #[config(env = "DB_SLOW_QUERY", default = "1s")]
    pub slow_query: Duration,

    /// A replica, for what is read through `read_only()` handles.
    ///
    /// Env: `DATABASE_REPLICA_URL`. Default: none: such handles read from `DATABASE_URL`.
    #[config(env = "DATABASE_REPLICA_URL")]
    pub replica_url: Option<Secret>,

    /// Whether every module acts as a role of its own, which sees no other module's tables: `auto` where the server's
    /// user may create roles, `required`, `off`.
    ///
    /// Env: `DB_MODULE_ROLES`. Default: `auto`.
    #[config(env = "DB_MODULE_ROLES", default = "auto")]
    pub module_roles: ModuleRoles,
}

impl DbConfig {
    /// The defaults with this direct URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Some(Secret::new(url)),
            ..Self::default()
        }
    }

    /// What the planner is asked for a server that allows so many connections.
    pub fn planner_input(&self, max_connections: u32) -> PlannerInput {
        PlannerInput {
            instances: self.max_instances,
            surge: self.surge_instances.unwrap_or(self.max_instances),
            other: self.other_connections,
            ..PlannerInput::new(max_connections)
        }
    }

    /// Refuses what can't work, connection strings and the certificate files they name included. The pool calls it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the variable; never a piece of a connection string.
    pub fn validate(&self) -> Result<()> {
        match self.mistakes().into_iter().next() {
            Some((variable, reason)) => Err(Error::config(variable, reason)),
            None => Ok(()),
        }
    }

    fn check(&self, reader: &mut Reader<'_>) {
        for (variable, reason) in self.mistakes() {
            reader.problem(Problem::invalid(variable, reason));
        }
    }

    fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        for (variable, url) in [
            ("DATABASE_URL", &self.url),
            ("DATABASE_POOLED_URL", &self.pooled_url),
            ("DATABASE_REPLICA_URL", &self.replica_url),
        ] {
            let Some(url) = url else { continue };
            let usable = Target::parse(url.expose()).and_then(|target| tls::connector(&target.ssl));
            if let Err(reason) = usable {
                mistakes.push((variable, reason));
            }
        }
        for (variable, count) in [
            ("DB_MAX_CONNECTIONS", self.max_connections),
            ("DB_MAX_INSTANCES", Some(self.max_instances)),
            ("DB_POOL_SIZE", self.pool_size),
        ] {
            if count.is_some_and(|count| count == 0 || count > MOST) {
                mistakes.push((variable, format!("it has to be between 1 and {MOST}")));
            }
        }
        for (variable, limit) in [
            ("DB_ACQUIRE_TIMEOUT", self.acquire_timeout),
            ("DB_STATEMENT_TIMEOUT", self.statement_timeout),
            ("DB_CONNECT_TIMEOUT", self.connect_timeout),
            ("DB_IDLE_TIMEOUT", self.idle_timeout),
            ("DB_MAX_LIFETIME", self.max_lifetime),
            ("DB_LEAK_AFTER", self.leak_after),
        ] {
            if limit < Duration::from_millis(1) || limit > LONGEST {
                mistakes.push((variable, "it has to be between 1ms and 24h".to_owned()));
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::DbConfig;

    #[test]
    fn nothing_is_required_and_no_deadline_is_missing() {
        let config = DbConfig::default();
        assert!(config.url.is_none());
        assert_eq!(config.acquire_timeout, Duration::from_secs(3));
        assert_eq!(config.statement_timeout, Duration::from_secs(30));
        assert_eq!(config.connect_timeout, Duration::from_secs(5));
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_no_url_repeated() {
        let report = zhuji_config::load_from_pairs::<DbConfig>([
            ("DATABASE_URL", "postgres://app:hun/ter2@h:5432/d"),
            ("DATABASE_POOLED_URL", "mysql://app:hunter2@h/d"),
            ("DB_MAX_CONNECTIONS", "0"),
            ("DB_MAX_INSTANCES", "0"),
            ("DB_POOL_SIZE", "0"),
            ("DB_ACQUIRE_TIMEOUT", "0s"),
            ("DB_STATEMENT_TIMEOUT", "25h"),
            ("DB_CONNECT_TIMEOUT", "0ms"),
            ("DB_IDLE_TIMEOUT", "10000d"),
            ("DB_MAX_LIFETIME", "0s"),
        ])
        .expect_err("all of them are bad");
        assert_eq!(report.problems.len(), 10, "{report}");
        let text = format!("{report} {report:?}");
        assert!(!text.contains("hunter2") && !text.contains("ter2"), "{text}");
        for (url, part) in [
            ("postgres://u@h/d?sslmode=sometimes", "sslmode has to be one of"),
            (
                "postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem",
                "/nowhere.pem",
            ),
            ("postgres://h/d", "no user"),
        ] {
            let report = zhuji_config::load_from_pairs::<DbConfig>([("DATABASE_URL", url)]).expect_err(url);
            assert!(report.to_string().contains(part), "{report}");
            assert_eq!(report.problems.len(), 1);
            let error = DbConfig::new(url).validate().expect_err(url);
            assert!(error.to_string().contains(part), "{error}");
        }
        zhuji_config::load_from_pairs::<DbConfig>([
            ("DATABASE_URL", "postgres://app:hunter2@h:5432/d"),
            ("DB_POOL_SIZE", "1"),
            ("DB_MAX_LIFETIME", "24h"),
        ])
        .expect("at the edge");
    }

    #[test]
    fn no_url_is_ever_shown() {
        let config = DbConfig::new("postgres://u:hunter2@h/d");
        assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    }
}
