use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::ClientWrapper;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::config::{Host, SslMode as DriverSslMode};
use tokio_postgres::{AsyncMessage, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::breaker::Breaker;
use crate::conn::Conn;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::identity::Identity;
use crate::metrics::Instruments;
use crate::tls::{self, SslMode};
use crate::url::Target;

/// Connections being opened at the same time. More at once only makes a server that comes back fall over again.
const AT_ONCE: usize = 2;
/// A connection that was opened for a caller who has gone is kept so long for the next one.
const SPARE_KEPT: Duration = Duration::from_secs(10);

/// Opens connections to one address: few at a time, each in a task of its own, so that a caller who gives up does not
/// throw away the work, and not more often than the breaker allows.
pub(crate) struct Dialer {
    pub(crate) target: Target,
    pub(crate) subject: String,
    /// Through a transaction-mode pooler: no startup options, no session state.
    pub(crate) pooled: bool,
    pub(crate) breaker: Breaker,
    tls: MakeRustlsConnect,
    options: String,
    identity: Identity,
    /// What the pool's connections are for, in their names.
    purpose: &'static str,
    timeout: Duration,
    max_lifetime: Duration,
    gate: Arc<Semaphore>,
    spare: Mutex<Vec<Conn>>,
    instruments: Arc<Instruments>,
}

/// What a [`Dialer`] is made of, besides its address.
pub(crate) struct DialSettings {
    pub(crate) pooled: bool,
    pub(crate) identity: Identity,
    pub(crate) purpose: &'static str,
    pub(crate) statement_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_lifetime: Duration,
    pub(crate) instruments: Arc<Instruments>,
}

impl Dialer {
    pub(crate) fn new(target: Target, settings: DialSettings) -> Result<Self, String> {
        let tls = tls::connector(&target.ssl)?;
        let mut options = format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000",
            settings.statement_timeout.as_millis()
        );
        if let Some(own) = &target.options {
            // Later ones win on the server.
            options = format!("{options} {own}");
        }
        Ok(Self {
            subject: target.subject(),
            identity: settings.identity,
            purpose: settings.purpose,
            timeout: target.connect_timeout.unwrap_or(settings.connect_timeout),
            target,
            pooled: settings.pooled,
            breaker: Breaker::default(),
            tls,
            options,
            max_lifetime: settings.max_lifetime,
            gate: Arc::new(Semaphore::new(AT_ONCE)),
            spare: Mutex::new(Vec::new()),
            instruments: settings.instruments,
        })
    }

    /// The service's name, as the connections have it.
    pub(crate) fn service(&self) -> &str {
        self.identity.service()
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_spare(&self) -> Option<Conn> {
        let mut spares = self.spares();
        while let Some(conn) = spares.pop() {
            if conn.is_usable() {
                return Some(conn);
            }
        }
        None
    }

    pub(crate) fn keep_spare(&self, conn: Conn) {
        self.spares().push(conn);
    }

    /// Closes the spare connections, at the end of the pool.
    pub(crate) fn drop_spares(&self) {
        let spares = std::mem::take(&mut *self.spares());
        drop(spares);
    }

    /// Closes connections that nobody came for.
    pub(crate) fn sweep(&self) {
        let kept = |conn: &mut Conn| conn.is_usable() && conn.returned.elapsed() < SPARE_KEPT;
        let mut spares = self.spares();
        let old: Vec<Conn> = spares.extract_if(.., |conn| !kept(conn)).collect();
        drop(spares);
        drop(old);
    }

    /// A connection for a caller who waits until `deadline`.
    pub(crate) async fn connect(self: &Arc<Self>, deadline: Instant) -> Result<Conn> {
        if let Some(conn) = self.take_spare() {
            return Ok(conn);
        }
        let late = || self.late();
        let permit = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.gate).acquire_owned())
            .await
            .map_err(|_| late())?
            .map_err(|_| self.closed())?;
        if let Some(conn) = self.take_spare() {
            return Ok(conn);
        }
        if let Some(at) = self.breaker.retry_at() {
            if at >= deadline {
                tokio::time::sleep_until(deadline.into()).await;
                return Err(late());
            }
            // With the permit in hand: whoever comes later waits behind.
            tokio::time::sleep_until(at.into()).await;
        }
        let (give, take) = oneshot::channel();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let result = this.dial(this.purpose, None).await;
            match &result {
                Ok(_) => this.breaker.succeeded(),
                Err(error) => this.breaker.failed(error),
            }
            if let Err(Ok(conn)) = give.send(result) {
                this.keep_spare(conn);
            }
            drop(permit);
        });
        match tokio::time::timeout_at(deadline.into(), take).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.closed()),
            Err(_) => Err(late()),
        }
    }

    /// What to tell a caller whose time is up: the reason of the last refusal, if the server refuses.
    fn late(&self) -> Error {
        match self.breaker.cause() {
            Some(cause) => cause.doing("get a connection").at(Phase::Dialling),
            None => {
                let reason = "no connection could be opened in time";
                Error::timeout("get a connection", &self.subject, Phase::Dialling, reason)
            }
        }
    }

    fn closed(&self) -> Error {
        Error::new(
            ErrorKind::Closed,
            "get a connection",
            &self.subject,
            "the runtime is shutting down",
        )
    }

    /// Opens one connection within the dial timeout. Notifications go to `notifications`, if given.
    pub(crate) async fn dial(
        &self,
        purpose: &str,
        notifications: Option<mpsc::Sender<Notification>>,
    ) -> Result<Conn> {
        let started = Instant::now();
        let result = match tokio::time::timeout(self.timeout, self.attempts(purpose, notifications)).await {
            Ok(result) => result,
            Err(_) => {
                let reason = format!("no answer within {:?} (DB_CONNECT_TIMEOUT)", self.timeout);
                Err(Error::new(ErrorKind::Unreachable, "connect", &self.subject, reason).at(Phase::Dialling))
            }
        };
        self.instruments.dialled(started.elapsed(), result.is_ok());
        if let Err(error) = &result {
            tracing::debug!(error = %error, "a connection could not be opened");
        }
        result
    }

    async fn attempts(
        &self,
        purpose: &str,
        notifications: Option<mpsc::Sender<Notification>>,
    ) -> Result<Conn> {
        use DriverSslMode::{Disable, Prefer, Require};
        let over_tcp = self.target.hosts.iter().any(|host| matches!(host, Host::Tcp(_)));
        let (first, second) = match self.target.ssl.mode {
            // As libpq: a unix socket needs no encryption.
            _ if !over_tcp => (Disable, None),
            SslMode::Disable => (Disable, None),
            SslMode::Allow => (Disable, Some(Require)),
            SslMode::Prefer => (Prefer, Some(Disable)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Require, None),
        };
        match (self.attempt(purpose, first, notifications.clone()).await, second) {
            (Err(error), Some(second)) if asks_for_the_other_way(&error) => {
                // If that is refused as well, the first refusal is the one to tell.
                self.attempt(purpose, second, notifications)
                    .await
                    .map_err(|_| error)
            }
            (result, _) => result,
        }
    }

    async fn attempt(
        &self,
        purpose: &str,
        ssl_mode: DriverSslMode,
        notifications: Option<mpsc::Sender<Notification>>,
    ) -> Result<Conn> {
        let target = &self.target;
        let mut config = tokio_postgres::Config::new();
        for host in &target.hosts {
            match host {
                Host::Tcp(name) => config.host(name),
                Host::Unix(path) => config.host_path(path),
            };
        }
        for address in &target.hostaddrs {
            config.hostaddr(*address);
        }
        for port in &target.ports {
            config.port(*port);
        }
        config
            .user(&target.user)
            .dbname(&target.database)
            .application_name(self.identity.application_name(purpose))
            .ssl_mode(ssl_mode)
            .ssl_negotiation(target.negotiation)
            .channel_binding(target.channel_binding)
            .target_session_attrs(target.session)
            .load_balance_hosts(target.load_balance)
            .tcp_user_timeout(target.tcp_user_timeout)
            .keepalives(target.keepalives)
            .keepalives_idle(target.keepalives_idle)
            .keepalives_interval(target.keepalives_interval)
            .keepalives_retries(target.keepalives_count);
        if let Some(password) = &target.password {
            config.password(password);
        }
        if target.hosts.len() > 1 {
            // So that one dead host leaves time for the next.
            let share = self.timeout / u32::try_from(target.hosts.len()).unwrap_or(u32::MAX);
            config.connect_timeout(share);
        }
        if !self.pooled {
            config.options(&self.options);
        }
        let (client, connection) = config
            .connect(self.tls.clone())
            .await
            .map_err(|error| Error::dial(&self.subject, error))?;
        let driver = tokio::spawn(drive(connection, notifications));
        Ok(Conn::new(
            ClientWrapper::new(client, driver),
            self.tls.clone(),
            self.max_lifetime,
            self.pooled,
        ))
    }

    /// Whether something listens there, without taking one of the server's connections.
    pub(crate) async fn is_listening(&self, within: Duration) -> bool {
        let look = async {
            for (index, host) in self.target.hosts.iter().enumerate() {
                let port = self
                    .target
                    .ports
                    .get(index)
                    .or(self.target.ports.first())
                    .copied()
                    .unwrap_or(5432);
                let connected = match (host, self.target.hostaddrs.get(index)) {
                    (_, Some(address)) => tokio::net::TcpStream::connect((*address, port)).await.is_ok(),
                    (Host::Tcp(name), None) => tokio::net::TcpStream::connect((name.as_str(), port))
                        .await
                        .is_ok(),
                    (Host::Unix(path), None) => {
                        let socket = path.join(format!(".s.PGSQL.{port}"));
                        tokio::net::UnixStream::connect(socket).await.is_ok()
                    }
                };
                if connected {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(within, look).await.unwrap_or(false)
    }
}

/// Whether a refusal may be about TLS: the handshake failed, or no rule of `pg_hba.conf` matched. A wrong password is
/// wrong either way, and tried twice it counts twice where accounts are locked.
fn asks_for_the_other_way(error: &Error) -> bool {
    error.kind() == ErrorKind::Tls || error.sql_state().is_some_and(|code| code.code() == "28000")
}

/// Moves a connection's bytes until it ends.
async fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notifications: Option<mpsc::Sender<Notification>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match futures_util::future::poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Some(listener) = &notifications {
                    // Full or gone: a notification is a hint, and must not hold up the connection.
                    let _ = listener.try_send(notification);
                }
            }
            Some(Ok(AsyncMessage::Notice(notice))) => {
                tracing::debug!(
                    severity = notice.severity(),
                    notice = notice.message(),
                    "PostgreSQL says"
                );
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                // Whoever uses the connection gets the error; this is for those who look for its time.
                tracing::debug!(error = %error, "a database connection ended");
                return;
            }
            None => return,
        }
    }
}
