use std::fmt;
use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError, ServerErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use zhuji_config::Secret;

use crate::adapter::{CacheAdapter, Entry};
use crate::config::CacheConfig;
use crate::error::{Error, ErrorKind, Result};

/// Commands that may wait for the socket's writer at once. More wait in line before it; the answer is the same.
const PIPELINE: usize = 1024;
/// A connection that was refused for its credentials is not dialled again more often than this.
const REDIAL_AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// Values on a Redis server (or one that speaks its protocol, version 6 and up), over one multiplexed connection: all
/// callers' commands are pipelined on it, so an instance costs the server one connection, whatever its load.
///
/// The connection is made when it is first needed and again when it is lost. A read, a `set` or a `delete` that met a
/// lost connection is sent once more; an `increment` is not, because it may have been counted.
///
/// Each call ends after about the connect timeout plus twice the operation timeout at the latest. The tighter limit is
/// the [`Guard`](crate::Guard)'s, which the factory puts around this adapter: use both.
pub struct RedisAdapter {
    client: Client,
    /// Host and port, for errors; never the user or the password.
    address: String,
    connect_timeout: Duration,
    timeout: Duration,
    /// Replaced as a whole by `check` when it finds the manager stuck: on a dead peer, on an address that now belongs
    /// to a replica, or with a remembered refusal, none of which the manager mends by itself.
    manager: RwLock<ConnectionManager>,
    renewed: RwLock<Instant>,
}

impl RedisAdapter {
    /// Reads the address; connects to nothing yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if `REDIS_URL` is missing or can't be read. The error never repeats the URL.
    pub fn new(config: &CacheConfig) -> Result<Self> {
        let refuse = |reason: &'static str| Error::new(ErrorKind::Config, "configure", "REDIS_URL", reason);
        let url = config
            .redis_url
            .as_ref()
            .ok_or_else(|| refuse("is required for this CACHE_TYPE"))?;
        let info = read_url(url).map_err(refuse)?;
        let address = info.addr().to_string();
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|_| refuse("has settings the client does not accept"))?;
        let manager = lazy_manager(&client, config.connect_timeout, config.timeout, &address)?;
        Ok(Self {
            client,
            address,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            manager: RwLock::new(manager),
            renewed: RwLock::new(Instant::now()),
        })
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn manager(&self) -> ConnectionManager {
        self.manager
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn renew(&self) {
        if let Ok(fresh) = lazy_manager(&self.client, self.connect_timeout, self.timeout, &self.address) {
            *self.manager.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            *self.renewed.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Runs `command`, once more if the connection turned out to be lost and `again` allows it.
    async fn run<T, F, Fut>(&self, operation: &'static str, key: &str, again: bool, command: F) -> Result<T>
    where
        F: Fn(ConnectionManager) -> Fut + Send,
        Fut: Future<Output = ::redis::RedisResult<T>> + Send,
    {
        let mut result = command(self.manager()).await;
        if again
            && result
                .as_ref()
                .is_err_and(|error| error.is_connection_dropped() && !error.is_timeout())
        {
            result = command(self.manager()).await;
        }
        result.map_err(|source| {
            let error = self.explain(operation, key, source);
            if error.kind() == ErrorKind::Denied {
                self.renew_after_refusal();
            }
            error
        })
    }

    /// The manager remembers a refused login for ever; the password may have been put right meanwhile.
    fn renew_after_refusal(&self) {
        let renewed = *self.renewed.read().unwrap_or_else(PoisonError::into_inner);
        if renewed.elapsed() >= REDIAL_AFTER_REFUSAL {
            self.renew();
        }
    }

    fn explain(&self, operation: &'static str, key: &str, source: RedisError) -> Error {
        use ::redis::ErrorKind as Redis;
        let code = source.code().unwrap_or_default();
        let kind = match source.kind() {
            _ if source.is_timeout() => ErrorKind::Timeout,
            Redis::Io => ErrorKind::Unavailable,
            Redis::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            ) => ErrorKind::Unavailable,
            Redis::AuthenticationFailed | Redis::Server(ServerErrorKind::NoPerm) => ErrorKind::Denied,
            _ if matches!(code, "NOAUTH" | "WRONGPASS") => ErrorKind::Denied,
            _ if code == "OOM" => ErrorKind::Full,
            _ if code == "WRONGTYPE" => ErrorKind::InvalidInput,
            _ if operation == "increment" && source.to_string().contains("not an integer") => {
                ErrorKind::InvalidInput
            }
            _ if operation == "increment" && source.to_string().contains("overflow") => {
                ErrorKind::InvalidInput
            }
            _ => ErrorKind::Other,
        };
        let reason = match kind {
            ErrorKind::Timeout => format!("{} did not answer in time", self.address),
            ErrorKind::Unavailable => format!("{} is out of reach", self.address),
            ErrorKind::Denied => format!("{} refused the login or the command", self.address),
            ErrorKind::Full => format!("{} is out of memory", self.address),
            ErrorKind::InvalidInput => "the key holds something this call can't use".to_owned(),
            _ => format!("{} answered with an error", self.address),
        };
        Error::new(kind, operation, key, reason).with_source(source)
    }
}

/// The library's own error may quote parts of the URL, so none of it is kept.
pub(crate) fn read_url(url: &Secret) -> std::result::Result<ConnectionInfo, &'static str> {
    let url = url.expose();
    if url.starts_with("rediss://") || url.starts_with("valkeys://") {
        return Err("asks for TLS, which this build of the cache does not have: use redis://");
    }
    url.into_connection_info()
        .map_err(|_| "is not of the form redis://[user:password@]host[:port][/database]")
}

fn lazy_manager(
    client: &Client,
    connect_timeout: Duration,
    timeout: Duration,
    address: &str,
) -> Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        .set_response_timeout(Some(timeout * 2))
        // No waiting in line behind retries: a failed dial is the answer, and the next call dials again.
        .set_number_of_retries(0)
        .set_pipeline_buffer_size(PIPELINE);
    ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(|source| {
        Error::new(
            ErrorKind::Config,
            "connect",
            address,
            "the client refused its settings",
        )
        .with_source(source)
    })
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl fmt::Debug for RedisAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAdapter")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheAdapter for RedisAdapter {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let command = ::redis::cmd("GET").arg(key).to_owned();
        let value: Option<Vec<u8>> = self
            .run("get", key, true, |mut manager| {
                let command = &command;
                async move { command.query_async(&mut manager).await }
            })
            .await?;
        Ok(value.map(Bytes::from))
    }

    async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        let mut commands = ::redis::pipe();
        commands.cmd("GET").arg(key).cmd("PTTL").arg(key);
        let commands = &commands;
        let (value, left): (Option<Vec<u8>>, i64) = self
            .run("get", key, true, |mut manager| async move {
                commands.query_async(&mut manager).await
            })
            .await?;
        // The entry may end between the two commands (-2); it is fresh enough to return, not to keep.
        let expires_in = match left {
            -2 => Some(Duration::ZERO),
            left => u64::try_from(left).ok().map(Duration::from_millis),
        };
        Ok(value.map(|value| Entry {
            value: Bytes::from(value),
            expires_in,
        }))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let mut command = ::redis::cmd("SET");
        command.arg(key).arg(value.as_ref()).arg("PX").arg(millis(ttl));
        let command = &command;
        self.run("set", key, true, |mut manager| async move {
            command.query_async(&mut manager).await
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let command = ::redis::cmd("UNLINK").arg(key).to_owned();
        let command = &command;
        let removed: u64 = self
            .run("delete", key, true, |mut manager| async move {
                command.query_async(&mut manager).await
            })
            .await?;
        Ok(removed > 0)
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
        let commands = &commands;
        let (count,): (i64,) = self
            .run("increment", key, false, |mut manager| async move {
                commands.query_async(&mut manager).await
            })
            .await?;
        Ok(count)
    }

    async fn check(&self) -> Result<()> {
        let command = ::redis::cmd("PING");
        let command = &command;
        let result: Result<()> = self
            .run("check", &self.address, true, |mut manager| async move {
                command.query_async::<String>(&mut manager).await.map(|_| ())
            })
            .await;
        if result.is_err() {
            self.renew();
        }
        result
    }
}
