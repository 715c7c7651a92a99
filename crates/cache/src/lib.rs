#![doc = include_str!("../README.md")]

mod adapter;
mod cache;
mod codec;
mod config;
mod error;
mod factory;
mod fleet;
mod flight;
mod health;
mod layers;
mod load;
mod lock;
mod many;
mod memory;
mod options;
mod redis;
mod scope;
mod stats;
mod tally;
mod tiered;
mod ttl;

pub use adapter::{AdapterStats, CacheAdapter, Entry, Held, NewEntry};
pub use cache::Cache;
pub use config::{CacheConfig, MAX_LOCAL_TTL};
pub use error::{Error, ErrorKind, Result};
pub use factory::CacheFactory;
pub use layers::{Guard, GuardSettings};
pub use lock::Lock;
pub use memory::MemoryAdapter;
pub use options::LoadOptions;
pub use redis::{RedisAdapter, RedisFacts};
pub use stats::CacheStats;
pub use tiered::TieredAdapter;
pub use ttl::Ttl;
