//! What a server says of itself, for tools that look whether it is fit to be a cache.

use std::time::{Duration, Instant};

use ::redis::Value;

use super::{CHECK, RedisAdapter};
use crate::error::{ErrorKind, Result};

/// A Redis server in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisFacts {
    /// How long one `PING` took, on a connection that was there already.
    pub ping: Duration,
    /// Its version; `None` if the user may not ask (`INFO`), and then nothing below is known.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// Bytes in use.
    pub used_memory: u64,
    /// Bytes it may use; 0: as many as there are.
    pub max_memory: u64,
    /// What it does when it is full (`maxmemory-policy`).
    pub eviction_policy: Option<String>,
}

impl RedisAdapter {
    /// Pings the server and asks what it is.
    ///
    /// # Errors
    ///
    /// Those of every call: it can't be reached, or refuses the login.
    pub async fn facts(&self) -> Result<RedisFacts> {
        let address = self.address().to_owned();
        let ask = |command: &'static str| self.run::<Value, _>(CHECK, &address, true, ::redis::cmd(command));
        // The first one also pays for the connection.
        ask("PING").await?;
        let started = Instant::now();
        ask("PING").await?;
        let ping = started.elapsed();
        let told: String = match self.run(CHECK, &address, true, ::redis::cmd("INFO")).await {
            Ok(told) => told,
            Err(error) if error.kind() == ErrorKind::Denied => String::new(),
            Err(error) => return Err(error),
        };
        Ok(RedisFacts { ping, ..read(&told) })
    }
}

/// `name:value` lines between headings.
fn read(told: &str) -> RedisFacts {
    let find = |name: &str| {
        let value = told
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    };
    let number = |name| find(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    RedisFacts {
        ping: Duration::ZERO,
        version: find("redis_version"),
        role: find("role"),
        used_memory: number("used_memory"),
        max_memory: number("maxmemory"),
        eviction_policy: find("maxmemory_policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_name() {
        let told = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory_rss:9\r\nused_memory:5\r\n\
                    maxmemory_policy:allkeys-lru\r\nmaxmemory:0\r\nrole:master\r\n";
        let facts = read(told);
        assert_eq!(facts.version.as_deref(), Some("7.0.15"));
        assert_eq!((facts.used_memory, facts.max_memory), (5, 0));
        assert_eq!(facts.eviction_policy.as_deref(), Some("allkeys-lru"));
        assert_eq!(facts.role.as_deref(), Some("master"));
        assert_eq!(read(""), RedisFacts::default());
    }
}
