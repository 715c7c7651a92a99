use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::error::{Error, ErrorKind, Phase};

/// Why a caller got no connection.
const REASONS: [&str; 8] = [
    "saturated",
    "timeout_dialling",
    "timeout_recycling",
    "too_many_connections",
    "auth",
    "tls",
    "closed",
    "unreachable",
];

/// The metrics of one pool, looked up once: a recorder installed later does not see them.
pub(crate) struct Instruments {
    acquire: Histogram,
    hold: Histogram,
    dial: Histogram,
    dial_failures: Counter,
    statement_timeouts: Counter,
    pub(crate) max: Gauge,
    pub(crate) size: Gauge,
    pub(crate) in_use: Gauge,
    pub(crate) idle: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) server_max: Gauge,
    pub(crate) instances: Gauge,
    pool: &'static str,
}

impl Instruments {
    /// `pool` is the label of all that is about one pool: `main` or `replica`.
    pub(crate) fn new(pool: &'static str) -> Self {
        describe_histogram!(
            "zhuji_db_acquire_seconds",
            Unit::Seconds,
            "Time from asking for a database connection to having it"
        );
        describe_histogram!(
            "zhuji_db_hold_seconds",
            Unit::Seconds,
            "Time a database connection was held"
        );
        describe_histogram!(
            "zhuji_db_dial_seconds",
            Unit::Seconds,
            "Time to open a database connection"
        );
        describe_counter!(
            "zhuji_db_dial_failures_total",
            "Database connections that could not be opened"
        );
        describe_counter!(
            "zhuji_db_statement_timeouts_total",
            "Statements that ran into DB_STATEMENT_TIMEOUT"
        );
        describe_counter!(
            "zhuji_db_acquire_failures_total",
            "Callers that got no connection, by reason"
        );
        describe_counter!(
            "zhuji_db_discarded_total",
            "Database connections closed before their time, by reason"
        );
        describe_gauge!("zhuji_db_pool_max", "Connections the pool may have");
        describe_gauge!("zhuji_db_pool_size", "Connections the pool has");
        describe_gauge!("zhuji_db_pool_in_use", "Connections in the hands of callers");
        describe_gauge!("zhuji_db_pool_idle", "Connections that wait for a caller");
        describe_gauge!("zhuji_db_pool_waiting", "Callers that wait for a connection");
        describe_counter!(
            "zhuji_db_held_for_long_total",
            "Connections held for longer than DB_LEAK_AFTER"
        );
        describe_counter!(
            "zhuji_db_slow_queries_total",
            "Statements that took longer than DB_SLOW_QUERY"
        );
        describe_counter!(
            "zhuji_db_transaction_retries_total",
            "Transactions run again after a conflict with others"
        );
        describe_counter!(
            "zhuji_db_replica_fallbacks_total",
            "Readers that went to the primary because the replica did not answer"
        );
        describe_gauge!(
            "zhuji_db_instances",
            "Instances of this service with a connection"
        );
        describe_gauge!(
            "zhuji_db_server_connections",
            "Client connections on the server, by database"
        );
        describe_gauge!(
            "zhuji_db_server_max_connections",
            "Client connections the server allows"
        );
        // At 0 from the start: an increase from nothing is no increase to who watches.
        for reason in REASONS {
            counter!("zhuji_db_acquire_failures_total", "pool" => pool, "reason" => reason).increment(0);
        }
        for name in [
            "zhuji_db_held_for_long_total",
            "zhuji_db_slow_queries_total",
            "zhuji_db_transaction_retries_total",
        ] {
            counter!(name, "pool" => pool).increment(0);
        }
        Self {
            acquire: histogram!("zhuji_db_acquire_seconds", "pool" => pool),
            hold: histogram!("zhuji_db_hold_seconds", "pool" => pool),
            dial: histogram!("zhuji_db_dial_seconds", "pool" => pool),
            dial_failures: counter!("zhuji_db_dial_failures_total", "pool" => pool),
            statement_timeouts: counter!("zhuji_db_statement_timeouts_total", "pool" => pool),
            max: gauge!("zhuji_db_pool_max", "pool" => pool),
            size: gauge!("zhuji_db_pool_size", "pool" => pool),
            in_use: gauge!("zhuji_db_pool_in_use", "pool" => pool),
            idle: gauge!("zhuji_db_pool_idle", "pool" => pool),
            waiting: gauge!("zhuji_db_pool_waiting", "pool" => pool),
            server_max: gauge!("zhuji_db_server_max_connections"),
            instances: gauge!("zhuji_db_instances"),
            pool,
        }
    }

    pub(crate) fn acquired(&self, took: Duration) {
        self.acquire.record(took.as_secs_f64());
    }

    pub(crate) fn not_acquired(&self, error: &Error) {
        let reason = match (error.kind(), error.phase()) {
            (ErrorKind::Saturated, _) => "saturated",
            (ErrorKind::Timeout, Some(Phase::Dialling)) => "timeout_dialling",
            (ErrorKind::Timeout, _) => "timeout_recycling",
            (ErrorKind::TooManyConnections, _) => "too_many_connections",
            (ErrorKind::Auth, _) => "auth",
            (ErrorKind::Tls, _) => "tls",
            (ErrorKind::Closed, _) => "closed",
            _ => "unreachable",
        };
        counter!("zhuji_db_acquire_failures_total", "pool" => self.pool, "reason" => reason).increment(1);
    }

    pub(crate) fn held(&self, time: Duration) {
        self.hold.record(time.as_secs_f64());
    }

    pub(crate) fn dialled(&self, took: Duration, well: bool) {
        if well {
            self.dial.record(took.as_secs_f64());
        } else {
            self.dial_failures.increment(1);
        }
    }

    pub(crate) fn statement_timed_out(&self) {
        self.statement_timeouts.increment(1);
    }

    pub(crate) fn discarded(&self, reason: &'static str) {
        counter!("zhuji_db_discarded_total", "pool" => self.pool, "reason" => reason).increment(1);
    }

    pub(crate) fn held_for_long(&self) {
        counter!("zhuji_db_held_for_long_total", "pool" => self.pool).increment(1);
    }

    pub(crate) fn slow_query(&self) {
        counter!("zhuji_db_slow_queries_total", "pool" => self.pool).increment(1);
    }

    pub(crate) fn retried(&self) {
        counter!("zhuji_db_transaction_retries_total", "pool" => self.pool).increment(1);
    }

    pub(crate) fn fell_back(&self) {
        counter!("zhuji_db_replica_fallbacks_total").increment(1);
    }

    pub(crate) fn server_connections(&self, database: &str, count: f64) {
        gauge!("zhuji_db_server_connections", "database" => database.to_owned()).set(count);
    }
}
