#![doc = include_str!("../README.md")]

mod address;
mod breaker;
mod config;
mod conn;
mod connection;
mod copy;
mod dialer;
mod drain;
mod error;
mod gate;
mod health;
mod housekeeping;
mod identity;
mod lane;
mod lasting;
mod listener;
mod loans;
mod manager;
mod metrics;
mod migrate;
mod monitor;
mod planner;
mod pool;
mod replica;
mod roles;
mod scope;
mod session;
mod shared;
mod sizing;
mod slow;
mod statements;
mod tls;
mod transaction;
mod url;
mod watch;

pub use address::DbAddress;
pub use config::DbConfig;
pub use connection::DbConnection;
pub use copy::CopyIn;
pub use drain::{DrainReport, Leftover};
pub use error::{Error, ErrorKind, Phase, Result};
pub use listener::{Listener, Notification};
pub use migrate::{Migrated, Migration};
pub use monitor::{MonitorGuard, ServerConnections};
pub use planner::{Demand, Plan, PlannerInput, Verdict, plan};
pub use pool::{DbPool, PoolStatus};
pub use roles::ModuleRoles;
pub use session::{AdvisoryLock, Session};
pub use transaction::{Transaction, TransactionOptions};

/// The driver, for types of its own: what [`Transaction::as_raw`] returns.
pub use tokio_postgres;
pub use tokio_postgres::error::{DbError, SqlState};
pub use tokio_postgres::types;
pub use tokio_postgres::types::ToSql;
pub use tokio_postgres::{IsolationLevel, Row};
