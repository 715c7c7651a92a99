#![doc = include_str!("../README.md")]

mod breaker;
mod config;
mod conn;
mod connection;
mod dialer;
mod error;
mod housekeeping;
mod lane;
mod loans;
mod manager;
mod metrics;
mod migrate;
mod planner;
mod pool;
mod scope;
mod statements;
mod tls;
mod transaction;
mod url;

pub use config::DbConfig;
pub use connection::DbConnection;
pub use error::{Error, ErrorKind, Phase, Result};
pub use migrate::{Migrated, Migration};
pub use planner::{Demand, Plan, PlannerInput, Verdict, plan};
pub use pool::{DbPool, PoolStatus};
pub use transaction::{Transaction, TransactionOptions};

/// The driver, for types of its own: what [`Transaction::as_raw`] returns.
pub use tokio_postgres;
pub use tokio_postgres::error::{DbError, SqlState};
pub use tokio_postgres::types;
pub use tokio_postgres::types::ToSql;
pub use tokio_postgres::{IsolationLevel, Row};
