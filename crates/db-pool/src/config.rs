use std::time::Duration;

use zhuji_config::{Config, Secret};

/// Settings of the database connection pool.
#[derive(Config, Clone, Debug)]
#[config(title = "Database", prefixes("DATABASE_", "DB_"), impl_default)]
pub struct DbConfig {
    /// Where PostgreSQL is: `postgres://user:password@host:5432/database?sslmode=verify-full`. All of libpq's
    /// `sslmode`s are understood. This is the direct address: migrations and LISTEN use it in every case.
    #[config(env = "DATABASE_URL")]
    pub url: Option<Secret>,

    /// A transaction-mode pooler in front of it (RDS PgBouncer, port 6432). When set, requests go through it with
    /// unnamed statements and without session state.
    #[config(env = "DATABASE_POOLED_URL", default_note = "= DATABASE_URL")]
    pub pooled_url: Option<Secret>,

    /// How many connections the server allows. Read from the server when not set.
    #[config(env = "DB_MAX_CONNECTIONS", default_note = "read from the server")]
    pub max_connections: Option<u32>,

    /// How many instances of this service run at most at the same time.
    #[config(env = "DB_MAX_INSTANCES", default = "1", default_note = "10 in cloud mode")]
    pub max_instances: u32,

    /// How many further instances may be alive during a rolling deploy. The same number again when not set.
    #[config(env = "DB_SURGE_INSTANCES", default_note = "= DB_MAX_INSTANCES")]
    pub surge_instances: Option<u32>,

    /// Connections of this process, instead of the planner's answer.
    #[config(env = "DB_POOL_SIZE", default_note = "the planner's answer")]
    pub pool_size: Option<u32>,

    /// How long a caller waits for a connection, dialling included.
    #[config(env = "DB_ACQUIRE_TIMEOUT", default = "3s")]
    pub acquire_timeout: Duration,

    /// How long one statement may run.
    #[config(env = "DB_STATEMENT_TIMEOUT", default = "30s")]
    pub statement_timeout: Duration,

    /// How long opening one connection may take: TCP, TLS and login together.
    #[config(env = "DB_CONNECT_TIMEOUT", default = "5s")]
    pub connect_timeout: Duration,

    /// A connection that nobody used for so long is closed.
    #[config(env = "DB_IDLE_TIMEOUT", default = "5m")]
    pub idle_timeout: Duration,

    /// A connection older than this, give or take a tenth, is replaced.
    #[config(env = "DB_MAX_LIFETIME", default = "30m")]
    pub max_lifetime: Duration,

    /// How the server sees this process in `pg_stat_activity`. `application_name` in the URL wins.
    #[config(env = "DB_APPLICATION_NAME", default = "zhuji")]
    pub application_name: String,
}

impl DbConfig {
    /// The defaults with this direct URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Some(Secret::new(url)),
            ..Self::default()
        }
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
    fn no_url_is_ever_shown() {
        let config = DbConfig::new("postgres://u:hunter2@h/d");
        assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    }
}
