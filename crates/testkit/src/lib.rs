#![doc = include_str!("../README.md")]

pub mod conformance;
mod http;
pub mod module;
mod offline;
pub mod oss;
mod ports;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sts;

pub use http::http_client;
pub use offline::{LonelyNetwork, Offline, offline};
pub use ports::free_port;
pub use postgres::{
    DevCluster, PGBOUNCER_INSTALL_HINT, POSTGRES_INSTALL_HINT, PostgresOptions, TestDatabase, TestPgBouncer,
    TestPostgres,
};
pub use process::ServerError;
pub use proxy::{FaultProxy, Moment, ProxyFault};
pub use redis::{DevRedis, REDIS_INSTALL_HINT, TestRedis};
pub use sts::{FakeSts, StsEndpoint, StsFault};
