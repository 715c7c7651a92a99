#![doc = include_str!("../README.md")]

mod adapter;
mod cache;
mod codec;
mod config;
mod error;
mod factory;
mod flight;
mod health;
mod layers;
mod memory;
mod redis;
mod stats;
mod tiered;
mod ttl;

pub use adapter::{AdapterStats, CacheAdapter, Entry};
pub use cache::Cache;
pub use config::{CacheConfig, MAX_LOCAL_TTL};
pub use error::{Error, ErrorKind, Result};
pub use factory::CacheFactory;
pub use layers::{Guard, GuardSettings};
pub use memory::MemoryAdapter;
pub use redis::RedisAdapter;
pub use stats::CacheStats;
pub use tiered::TieredAdapter;
pub use ttl::Ttl;
