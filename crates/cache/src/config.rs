use std::time::Duration;

use zhuji_config::{ByteSize, Secret};

use crate::error::{Error, ErrorKind, Result};

/// The longest time the memory tier of `tiered` may keep a value: the bound on how stale another instance's write can
/// look here.
pub const MAX_LOCAL_TTL: Duration = Duration::from_secs(30);

/// Where and how values are cached.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// Which adapter holds the values: `memory`, `redis`, `tiered`, or a registered name. Unset means `tiered` when
    /// `REDIS_URL` is set and `memory` when it is not.
    ///
    /// Env: `CACHE_TYPE`. Default: by `REDIS_URL`.
    pub kind: Option<String>,
    /// The Redis server: `redis://user:password@host:6379/0`.
    ///
    /// Env: `REDIS_URL`. Default: none; required for `redis` and `tiered`.
    pub redis_url: Option<Secret>,
    /// How long a value lives when the call does not say.
    ///
    /// Env: `CACHE_DEFAULT_TTL`. Default: `5m`.
    pub default_ttl: Duration,
    /// The longest any single call waits for the server.
    ///
    /// Env: `CACHE_TIMEOUT`. Default: `100ms`.
    pub timeout: Duration,
    /// The longest dialling the server may take; happens in the background of calls.
    ///
    /// Env: `CACHE_CONNECT_TIMEOUT`. Default: `1s`.
    pub connect_timeout: Duration,
    /// How much memory the values held in this process may take, keys and bookkeeping included.
    ///
    /// Env: `CACHE_MEMORY_SIZE`. Default: `64MiB`.
    pub memory_size: ByteSize,
    /// How long the memory tier of `tiered` keeps a value, and so how stale another instance's write can look here.
    /// At most `30s`.
    ///
    /// Env: `CACHE_LOCAL_TTL`. Default: `10s`.
    pub local_ttl: Duration,
    /// Put in front of every key, for services that share one Redis server: `literature:`.
    ///
    /// Env: `CACHE_KEY_PREFIX`. Default: none.
    pub key_prefix: Option<String>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            kind: None,
            redis_url: None,
            default_ttl: Duration::from_secs(300),
            timeout: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(1),
            memory_size: ByteSize::mib(64),
            local_ttl: Duration::from_secs(10),
            key_prefix: None,
        }
    }
}

impl CacheConfig {
    /// The adapter these settings mean.
    pub fn effective_kind(&self) -> &str {
        match &self.kind {
            Some(kind) => kind,
            None if self.redis_url.is_some() => "tiered",
            None => "memory",
        }
    }

    /// Refuses what can't work. The factory calls it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the variable.
    pub fn validate(&self) -> Result<()> {
        let refuse = |variable: &str, reason: &'static str| {
            Err(Error::new(ErrorKind::Config, "configure", variable, reason))
        };
        let tick = Duration::from_millis(1);
        if self.default_ttl < tick {
            return refuse("CACHE_DEFAULT_TTL", "must be at least 1ms");
        }
        if self.timeout < tick {
            return refuse("CACHE_TIMEOUT", "must be at least 1ms");
        }
        if self.connect_timeout < tick {
            return refuse("CACHE_CONNECT_TIMEOUT", "must be at least 1ms");
        }
        if self.local_ttl < tick || self.local_ttl > MAX_LOCAL_TTL {
            return refuse(
                "CACHE_LOCAL_TTL",
                "must be between 1ms and 30s, because it bounds how stale a value can be",
            );
        }
        Ok(())
    }
}
