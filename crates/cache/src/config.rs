use std::path::PathBuf;
use std::time::Duration;

use zhuji_config::{ByteSize, Config, Problem, Reader, Secret};

use crate::error::{Error, ErrorKind, Result};
use crate::redis;

/// The longest time the memory tier of `tiered` may keep a value: the bound on how stale another instance's write can
/// look here.
pub const MAX_LOCAL_TTL: Duration = Duration::from_secs(30);

const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where and how values are cached.
#[derive(Config, Clone, Debug, PartialEq)]
#[config(title = "Cache", prefixes("CACHE_", "REDIS_"), check = CacheConfig::check, impl_default)]
pub struct CacheConfig {
    /// Which adapter holds the values: `memory`, `redis`, `tiered`, or a registered name. Unset means `tiered` when
    /// `REDIS_URL` is set and `memory` when it is not.
    ///
    /// Env: `CACHE_TYPE`. Default: by `REDIS_URL`.
    #[config(
        env = "CACHE_TYPE",
        default_note = "tiered when REDIS_URL is set, else memory"
    )]
    pub kind: Option<String>,
    /// The Redis server: `redis://user:password@host:6379/0`, or `rediss://` for TLS with the host's name checked. The
    /// user is an ACL user and may be left out, `?protocol=resp3` asks for that protocol, `unix:///path` is a socket.
    ///
    /// Env: `REDIS_URL`. Default: none; required for `redis` and `tiered`.
    #[config(env = "REDIS_URL", example = "redis://127.0.0.1:6379")]
    pub redis_url: Option<Secret>,
    /// A PEM file with the authorities that may have signed the server's certificate, for `rediss://`. When it is set,
    /// no other authority is trusted.
    ///
    /// Env: `REDIS_CA_FILE`. Default: the system's authorities.
    #[config(env = "REDIS_CA_FILE", default_note = "the system's authorities")]
    pub redis_ca_file: Option<PathBuf>,
    /// How long a value lives when the call does not say.
    ///
    /// Env: `CACHE_DEFAULT_TTL`. Default: `5m`.
    #[config(env = "CACHE_DEFAULT_TTL", default = "5m")]
    pub default_ttl: Duration,
    /// The longest any single call waits for the server.
    ///
    /// Env: `CACHE_TIMEOUT`. Default: `100ms`.
    #[config(env = "CACHE_TIMEOUT", default = "100ms")]
    pub timeout: Duration,
    /// The longest dialling the server may take. A call waits for it only until its own timeout; the dialling goes on.
    ///
    /// Env: `CACHE_CONNECT_TIMEOUT`. Default: `1s`.
    #[config(env = "CACHE_CONNECT_TIMEOUT", default = "1s")]
    pub connect_timeout: Duration,
    /// How much memory the values held in this process may take, keys and bookkeeping included.
    ///
    /// Env: `CACHE_MEMORY_SIZE`. Default: `64MiB`.
    #[config(env = "CACHE_MEMORY_SIZE", default = "64MiB")]
    pub memory_size: ByteSize,
    /// How long the memory tier of `tiered` keeps a value, and so how stale another instance's write can look here when
    /// the message about it is lost. For `redis`: how long another instance's drop of a namespace can go unnoticed. At
    /// most `30s`.
    ///
    /// Env: `CACHE_LOCAL_TTL`. Default: `10s`.
    #[config(env = "CACHE_LOCAL_TTL", default = "10s")]
    pub local_ttl: Duration,
    /// Put in front of every key, for services that share one Redis server: `literature:`.
    ///
    /// Env: `CACHE_KEY_PREFIX`. Default: none.
    #[config(env = "CACHE_KEY_PREFIX", example = "literature:")]
    pub key_prefix: Option<String>,
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
        match self.mistakes().into_iter().next() {
            Some((variable, reason)) => Err(Error::new(ErrorKind::Config, "configure", variable, reason)),
            None => Ok(()),
        }
    }

    fn check(&self, reader: &mut Reader<'_>) {
        let kind = self.effective_kind();
        if matches!(kind, "redis" | "tiered") {
            reader.require(
                "REDIS_URL",
                self.redis_url.is_some(),
                format_args!("CACHE_TYPE={kind}"),
            );
        }
        for (variable, reason) in self.mistakes() {
            reader.problem(Problem::invalid(variable, reason));
        }
    }

    fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let tick = Duration::from_millis(1);
        let mut mistakes = Vec::new();
        if let Some(url) = &self.redis_url
            && let Err(reason) = redis::read_url(url)
        {
            mistakes.push(("REDIS_URL", reason));
        }
        if let Some(path) = &self.redis_ca_file
            && !path.is_file()
        {
            mistakes.push(("REDIS_CA_FILE", "is not a file that can be read"));
        }
        if self.default_ttl < tick {
            mistakes.push(("CACHE_DEFAULT_TTL", "must be at least 1ms"));
        }
        for (variable, value) in [
            ("CACHE_TIMEOUT", self.timeout),
            ("CACHE_CONNECT_TIMEOUT", self.connect_timeout),
        ] {
            if value < tick || value > MAX_TIMEOUT {
                mistakes.push((variable, "must be between 1ms and 1h"));
            }
        }
        if self.local_ttl < tick || self.local_ttl > MAX_LOCAL_TTL {
            let reason = "must be between 1ms and 30s, because it bounds how stale a value can be";
            mistakes.push(("CACHE_LOCAL_TTL", reason));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_follows_the_url_and_problems_never_repeat_it() {
        let read =
            |pairs: &[(&str, &str)]| zhuji_config::load_from_pairs::<CacheConfig>(pairs.iter().copied());
        assert_eq!(read(&[]).expect("defaults"), CacheConfig::default());
        assert_eq!(read(&[]).expect("defaults").effective_kind(), "memory");
        let config = read(&[("REDIS_URL", "redis://:hunter2@cache:6379/1")]).expect("a good URL");
        assert_eq!(config.effective_kind(), "tiered");
        assert!(!format!("{config:?}").contains("hunter2"));

        let report = read(&[
            ("CACHE_DEFAULT_TTL", "0s"),
            ("CACHE_TIMEOUT", "0ms"),
            ("CACHE_CONNECT_TIMEOUT", "61m"),
            ("CACHE_LOCAL_TTL", "0s"),
        ])
        .expect_err("all four are bad");
        assert_eq!(report.problems.len(), 4, "{report}");

        let missing = read(&[("CACHE_TYPE", "redis")]).expect_err("no URL").to_string();
        assert!(
            missing.contains("REDIS_URL is required because CACHE_TYPE=redis"),
            "{missing}"
        );
        for url in [
            "hunter2",
            "http://u:hunter2@h",
            "rediss://:hunter2@h:6379#insecure",
            "redis://:hunter2@h:99999999",
        ] {
            let report = read(&[("REDIS_URL", url), ("CACHE_LOCAL_TTL", "31s")]).expect_err("both are bad");
            let report = format!("{report} {report:?}");
            assert!(
                report.contains("REDIS_URL") && report.contains("CACHE_LOCAL_TTL"),
                "{report}"
            );
            assert!(!report.contains("hunter2"), "{report}");
        }
    }
}
