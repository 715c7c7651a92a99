mod address;
mod backoff;
mod dial;
mod facts;
mod gather;
mod invalidation;
mod link;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, ServerErrorKind, Value};
use async_trait::async_trait;
use bytes::Bytes;

pub(crate) use self::address::read_url;
use self::dial::{DialError, Dialer};
pub use self::facts::RedisFacts;
pub(crate) use self::invalidation::{Invalidation, Listener};
use self::link::{Line, Link, Pace};
use crate::adapter::{CacheAdapter, Entry, NewEntry};
use crate::config::CacheConfig;
use crate::error::{Error, ErrorKind, Result};

/// Keys in one `MGET` and entries in one transaction; longer calls send several, all at once.
const CHUNK: usize = 500;
/// What a ping may always take.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);
const SHORTEST_EPOCH: Duration = Duration::from_millis(100);

/// Takes the lock if it is free, and draws a number that is higher than all before: from the server's clock, so that
/// numbers go on rising when the server has lost its data.
const LOCK: &str = "\
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end \
local now = redis.call('TIME') \
local fence = now[1] * 1000000 + now[2] \
local last = tonumber(redis.call('GET', KEYS[2])) \
if last and last >= fence then fence = last + 1 end \
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', 86400000) \
return fence";
const EXTEND: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";
const UNLOCK: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
return redis.call('DEL', KEYS[1])";

/// Values on a Redis server (or one that speaks its protocol, version 6 and up), over one multiplexed connection: all
/// callers' commands are pipelined on it, so an instance costs the server one connection, whatever its load.
///
/// The connection is made when it is first needed and again when it is lost, by one dialler with full-jitter backoff
/// (50 ms to 1 s); meanwhile calls fail at once with the reason. A read, a `set` or a `delete` that met a lost
/// connection is sent once more; an `increment` or a lock is not, because it may have been done.
///
/// A call waits for a connection at most `CACHE_CONNECT_TIMEOUT`, and for an answer until a silent connection is given
/// up: it is pinged every second and has half a second, or twice the operation timeout, to answer. The tighter limit is the [`Guard`](crate::Guard)'s, which the factory puts around this
/// adapter: use both.
#[derive(Debug)]
pub struct RedisAdapter {
    /// Host and port, for errors; never the user or the password.
    address: String,
    link: Arc<Link>,
    dialer: Arc<Dialer>,
    /// Who hears of this cache's invalidations: the caches with the same prefix in the same database.
    channel: String,
}

impl RedisAdapter {
    /// Reads the address and the authorities; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if `REDIS_URL` is missing or can't be read, or `REDIS_CA_FILE` can't be used. The error
    /// never repeats the URL.
    pub fn new(config: &CacheConfig) -> Result<Self> {
        let refuse = |reason: &'static str| Error::new(ErrorKind::Config, "configure", "REDIS_URL", reason);
        let url = config
            .redis_url
            .as_ref()
            .ok_or_else(|| refuse("is required for this CACHE_TYPE"))?;
        let address = read_url(url).map_err(refuse)?;
        let prefix = config.key_prefix.as_deref().unwrap_or_default();
        let channel = format!("{prefix}~invalidate:{}", address.login.db());
        let tls = match address.place.is_tls() {
            true => Some(tls::settings(config.redis_ca_file.as_deref()).map_err(|reason| {
                Error::new(ErrorKind::Config, "configure", "REDIS_URL with TLS", reason)
            })?),
            false => None,
        };
        let label = address.place.to_string();
        let dialer = Arc::new(Dialer::new(address, tls, config.connect_timeout).map_err(refuse)?);
        let pace = Pace {
            patience: (config.timeout * 2).max(SHORTEST_PATIENCE),
            epoch: config.local_ttl.max(SHORTEST_EPOCH),
        };
        Ok(Self {
            address: label,
            link: Arc::new(Link::new(dialer.clone(), pace)),
            dialer,
            channel,
        })
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What tells the other instances of this one's writes, and tells `listener` of theirs. Must be called on a tokio
    /// runtime; ends when the answer is dropped.
    pub(crate) fn invalidation(&self, listener: &Arc<dyn Listener>) -> Invalidation {
        Invalidation::start(
            self.link.clone(),
            self.dialer.clone(),
            self.channel.clone(),
            listener,
        )
    }

    /// Sends `request`, once more if the connection turned out to be lost and `again` allows it.
    async fn run<T, R>(&self, operation: &'static str, key: &str, again: bool, request: R) -> Result<T>
    where
        T: FromRedisValue,
        R: Request,
    {
        let mut left = if again { 2 } else { 1 };
        loop {
            left -= 1;
            let line = self.link.line(operation == CHECK).await;
            let mut line = line.map_err(|error| self.not_connected(operation, key, error))?;
            let error = match ask(&mut line, &request).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // An address that leads to a replica now leads to the new primary after the next dialling.
            let moved = matches!(
                error.kind(),
                ::redis::ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            );
            if error.is_unrecoverable_error() || moved {
                self.link.lost(&line);
            }
            if left == 0 || !error.is_connection_dropped() {
                return Err(self.explain(operation, key, error));
            }
        }
    }

    fn not_connected(&self, operation: &'static str, key: &str, error: DialError) -> Error {
        let DialError { kind, reason, source } = error;
        let error = Error::new(kind, operation, key, reason);
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    fn explain(&self, operation: &'static str, key: &str, source: RedisError) -> Error {
        let kind = match kind_of(&source) {
            ErrorKind::Other if source.to_string().contains("not an integer") => ErrorKind::InvalidInput,
            ErrorKind::Other if source.to_string().contains("overflow") => ErrorKind::InvalidInput,
            kind => kind,
        };
        let address = &self.address;
        let reason = match kind {
            ErrorKind::Timeout => format!("{address} did not answer in time"),
            ErrorKind::Unavailable => format!("{address} is out of reach"),
            ErrorKind::Denied => format!("{address} refused the login or the command"),
            ErrorKind::Full => format!("{address} is out of memory"),
            ErrorKind::InvalidInput => "the key holds something this call can't use".to_owned(),
            _ => format!("{address} answered with an error"),
        };
        Error::new(kind, operation, key, reason).with_source(source)
    }
}

const CHECK: &str = "check";

/// What can be sent: one command, or several in one go.
trait Request: Sync {
    fn send(&self, line: &mut Line) -> impl Future<Output = ::redis::RedisResult<Value>> + Send;
}

impl Request for Cmd {
    async fn send(&self, line: &mut Line) -> ::redis::RedisResult<Value> {
        line.connection.send_packed_command(self).await
    }
}

impl Request for Pipeline {
    async fn send(&self, line: &mut Line) -> ::redis::RedisResult<Value> {
        self.query_async(&mut line.connection).await
    }
}

async fn ask<T: FromRedisValue>(line: &mut Line, request: &impl Request) -> ::redis::RedisResult<T> {
    Ok(T::from_redis_value(request.send(line).await?.extract_error()?)?)
}

/// Which class an error of the library belongs to.
pub(crate) fn kind_of(error: &RedisError) -> ErrorKind {
    use ::redis::ErrorKind as Redis;
    match (error.kind(), error.code().unwrap_or_default()) {
        _ if error.is_timeout() => ErrorKind::Timeout,
        (
            Redis::Io
            | Redis::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            ),
            _,
        ) => ErrorKind::Unavailable,
        (Redis::AuthenticationFailed | Redis::Server(ServerErrorKind::NoPerm), _) => ErrorKind::Denied,
        (_, "NOAUTH" | "WRONGPASS") => ErrorKind::Denied,
        (_, "OOM") => ErrorKind::Full,
        (_, "WRONGTYPE") => ErrorKind::InvalidInput,
        _ => ErrorKind::Other,
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What `PTTL` says: -2 for a key that is gone, -1 for one without an end.
fn left(pttl: i64) -> Option<Duration> {
    match pttl {
        -2 => Some(Duration::ZERO),
        pttl => u64::try_from(pttl).ok().map(Duration::from_millis),
    }
}

fn set_command(key: &str, value: &[u8], ttl: Duration) -> Cmd {
    let mut command = Cmd::with_capacity(5, key.len() + value.len() + 32);
    command.arg("SET").arg(key).arg(value).arg("PX").arg(millis(ttl));
    command
}

fn command(name: &str, key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + key.len() + 16);
    command.arg(name).arg(key);
    command
}

fn script(body: &str, keys: &[&str], token: &str, ttl: Option<Duration>) -> Cmd {
    let mut command = ::redis::cmd("EVAL");
    command.arg(body).arg(keys.len()).arg(keys).arg(token);
    if let Some(ttl) = ttl {
        command.arg(millis(ttl));
    }
    command
}

#[async_trait]
impl CacheAdapter for RedisAdapter {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let value: Option<Vec<u8>> = self.run("get", key, true, command("GET", key)).await?;
        Ok(value.map(Bytes::from))
    }

    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        let mut commands = ::redis::pipe();
        commands.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let (value, pttl): (Option<Vec<u8>>, i64) = self.run("get", key, true, commands).await?;
        // The entry may end between the two commands; it is fresh enough to return, not to keep.
        Ok(value.map(|value| Entry {
            value: Bytes::from(value),
            expires_in: left(pttl),
        }))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let chunks = keys.chunks(CHUNK).map(|keys| async move {
            let mut command = ::redis::cmd("MGET");
            command.arg(keys);
            self.run::<Vec<Option<Vec<u8>>>, _>("get_many", keys[0], true, command)
                .await
        });
        let chunks = futures_util::future::try_join_all(chunks).await?;
        Ok(chunks
            .into_iter()
            .flatten()
            .map(|value| value.map(Bytes::from))
            .collect())
    }

    async fn get_entries(&self, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        let chunks = keys.chunks(CHUNK).map(|keys| async move {
            let mut commands = ::redis::pipe();
            commands.cmd("MGET").arg(keys);
            for key in keys {
                commands.cmd("PTTL").arg(*key);
            }
            let mut answers: Vec<Value> = self.run("get_many", keys[0], true, commands).await?;
            let read = |error: ::redis::ParsingError| self.explain("get_many", keys[0], error.into());
            let ends: Vec<i64> =
                ::redis::from_redis_value(Value::Array(answers.split_off(1))).map_err(read)?;
            let values: Vec<Option<Vec<u8>>> = match answers.pop() {
                Some(values) => ::redis::from_redis_value(values).map_err(read)?,
                None => Vec::new(),
            };
            let entry = |(value, pttl): (Option<Vec<u8>>, i64)| {
                value.map(|value| Entry {
                    value: Bytes::from(value),
                    expires_in: left(pttl),
                })
            };
            Ok(values.into_iter().zip(ends).map(entry).collect::<Vec<_>>())
        });
        Ok(futures_util::future::try_join_all(chunks)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn get_or_insert(&self, key: &str, value: Bytes, ttl: Duration) -> Result<Bytes> {
        let mut commands = ::redis::pipe();
        let insert = commands.atomic().cmd("SET").arg(key).arg(value.as_ref());
        insert.arg("NX").arg("PX").arg(millis(ttl)).ignore();
        commands.cmd("GET").arg(key);
        let (found,): (Option<Vec<u8>>,) = self.run("get_or_insert", key, true, commands).await?;
        Ok(found.map_or(value, Bytes::from))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.run("set", key, true, set_command(key, &value, ttl)).await
    }

    async fn set_many(&self, entries: &[NewEntry]) -> Result<()> {
        let chunks = entries.chunks(CHUNK).map(|entries| {
            let mut commands = ::redis::pipe();
            commands.atomic();
            for entry in entries {
                commands
                    .add_command(set_command(&entry.key, &entry.value, entry.ttl))
                    .ignore();
            }
            async move {
                self.run::<(), _>("set_many", &entries[0].key, true, commands)
                    .await
            }
        });
        futures_util::future::try_join_all(chunks).await?;
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let removed: u64 = self.run("delete", key, true, command("UNLINK", key)).await?;
        Ok(removed > 0)
    }

    async fn expires_in(&self, key: &str) -> Result<Option<Duration>> {
        let pttl: i64 = self.run("expires_in", key, true, command("PTTL", key)).await?;
        // A key without an end is none of ours.
        Ok(if pttl == -1 {
            Some(Duration::MAX)
        } else {
            left(pttl).filter(|left| !left.is_zero())
        })
    }

    async fn touch(&self, key: &str, ttl: Duration) -> Result<bool> {
        let mut command = command("PEXPIRE", key);
        command.arg(millis(ttl));
        self.run("touch", key, true, command).await
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        let mut commands = ::redis::pipe();
        commands.atomic();
        commands
            .cmd("SET")
            .arg(key)
            .arg(0)
            .arg("PX")
            .arg(millis(ttl))
            .arg("NX")
            .ignore();
        commands.cmd("INCRBY").arg(key).arg(delta);
        let (count,): (i64,) = self.run("increment", key, false, commands).await?;
        Ok(count)
    }

    async fn lock(&self, key: &str, token: &str, ttl: Duration) -> Result<Option<u64>> {
        let fences = format!("{key}~fence");
        let fence: u64 = self
            .run(
                "lock",
                key,
                false,
                script(LOCK, &[key, &fences], token, Some(ttl)),
            )
            .await?;
        Ok((fence != 0).then_some(fence))
    }

    async fn extend_lock(&self, key: &str, token: &str, ttl: Duration) -> Result<bool> {
        self.run("extend_lock", key, true, script(EXTEND, &[key], token, Some(ttl)))
            .await
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        self.run("unlock", key, true, script(UNLOCK, &[key], token, None))
            .await
    }

    async fn check(&self) -> Result<()> {
        self.run::<Value, _>(CHECK, &self.address, true, ::redis::cmd("PING"))
            .await
            .map(drop)
    }

    fn epoch(&self) -> u64 {
        self.link.epoch()
    }
}
