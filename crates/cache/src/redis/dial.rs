//! From an address to a connection: socket, TLS, login.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::{AsyncConnectionConfig, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::address::{Address, Place};
use super::gather::Gather;
use crate::error::ErrorKind;

/// Commands that may wait for the socket's writer at once. More wait in line before it; the answer is the same.
const PIPELINE: usize = 1024;

/// Makes connections; remembers nothing between them.
pub(crate) struct Dialer {
    address: Address,
    /// With the name the certificate must carry.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// For the whole way, from the name lookup to the login.
    timeout: Duration,
}

/// Why there is no connection, in words that may be shown.
#[derive(Clone, Debug)]
pub(crate) struct DialError {
    pub(crate) kind: ErrorKind,
    pub(crate) reason: String,
    pub(crate) source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A connection and the task that moves its bytes, which ends with this value.
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Wire {
    /// Ends every command that still waits for its answer.
    pub(crate) fn cut(&self) {
        self.driver.abort();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Dialer {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// One sentence, if TLS is asked for and can't be set up.
    pub(crate) fn new(
        address: Address,
        tls: Option<Arc<ClientConfig>>,
        timeout: Duration,
    ) -> Result<Self, &'static str> {
        let tls = match (&address.place, tls) {
            (Place::Tcp { host, tls: true, .. }, Some(settings)) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| "names a host that no certificate can be for")?;
                Some((settings, name))
            }
            _ => None,
        };
        Ok(Self {
            address,
            tls,
            timeout,
        })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.address.place
    }

    /// A connection for commands. Safe to cancel.
    pub(crate) async fn dial(&self) -> Result<Wire, DialError> {
        let until = Instant::now() + self.timeout;
        match self.stream(until).await? {
            Stream::Plain(stream) => self.log_in(until, stream).await,
            Stream::Tls(stream) => self.log_in(until, *stream).await,
            Stream::Unix(stream) => self.log_in(until, stream).await,
        }
    }

    /// A connection for subscriptions. Safe to cancel.
    pub(crate) async fn dial_subscriber(&self) -> Result<PubSub, DialError> {
        let until = Instant::now() + self.timeout;
        let login = &self.address.login;
        let stream = self.stream(until).await?;
        let connection = self
            .in_time(until, "answer the login", async {
                match stream {
                    Stream::Plain(stream) => PubSub::new(login, stream).await,
                    Stream::Tls(stream) => PubSub::new(login, *stream).await,
                    Stream::Unix(stream) => PubSub::new(login, stream).await,
                }
            })
            .await?;
        connection.map_err(|source| self.refused(source))
    }

    async fn in_time<T>(
        &self,
        until: Instant,
        phase: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, DialError> {
        let late = |_| DialError {
            kind: ErrorKind::Timeout,
            reason: format!("{} did not {phase} within {:?}", self.place(), self.timeout),
            source: None,
        };
        tokio::time::timeout_at(until, work).await.map_err(late)
    }

    async fn stream(&self, until: Instant) -> Result<Stream, DialError> {
        const CONNECT: &str = "take the connection";
        let (host, port) = match self.place() {
            Place::Tcp { host, port, .. } => (host.as_str(), *port),
            Place::Unix(path) => {
                let stream = self.in_time(until, CONNECT, UnixStream::connect(path)).await?;
                return stream.map(Stream::Unix).map_err(|error| self.unreachable(error));
            }
        };
        let stream = self
            .in_time(until, CONNECT, TcpStream::connect((host, port)))
            .await?;
        let stream = stream.map_err(|error| self.unreachable(error))?;
        // Commands that come together are sent together (`Gather`); waiting to fill a packet would only add to every
        // answer's time.
        let _ = stream.set_nodelay(true);
        let Some((settings, name)) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let handshake = TlsConnector::from(settings.clone()).connect(name.clone(), stream);
        let phase = "answer the TLS handshake (does it speak TLS on this port?)";
        let stream = self.in_time(until, phase, handshake).await?;
        stream
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(|error| self.untrusted(error))
    }

    async fn log_in<S>(&self, until: Instant, stream: S) -> Result<Wire, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // No timer per command here: the guard has one, and the link notices a peer that has fallen silent.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let stream = Gather::new(stream);
        let login = MultiplexedConnection::new_with_config(&self.address.login, stream, config);
        let (connection, driver) = self
            .in_time(until, "answer the login", login)
            .await?
            .map_err(|source| self.refused(source))?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Wire { connection, driver })
    }

    fn unreachable(&self, source: std::io::Error) -> DialError {
        DialError {
            kind: ErrorKind::Unavailable,
            reason: format!("{} is out of reach ({})", self.place(), source.kind()),
            source: Some(Arc::new(source)),
        }
    }

    fn untrusted(&self, source: std::io::Error) -> DialError {
        let advice = match source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                "; name the authority of the server's certificate in REDIS_CA_FILE"
            }
            Some(rustls::Error::InvalidMessage(_)) => "; does the server speak TLS on this port?",
            _ => "",
        };
        DialError {
            kind: ErrorKind::Unavailable,
            reason: format!("the TLS handshake with {} failed: {source}{advice}", self.place()),
            source: Some(Arc::new(source)),
        }
    }

    fn refused(&self, source: RedisError) -> DialError {
        let place = self.place();
        let (kind, reason) = match super::kind_of(&source) {
            ErrorKind::Denied => (ErrorKind::Denied, format!("{place} refused the login")),
            ErrorKind::Timeout | ErrorKind::Unavailable => (
                ErrorKind::Unavailable,
                format!("{place} ended the connection during the login"),
            ),
            kind => (kind, format!("{place} did not accept the connection")),
        };
        DialError {
            kind,
            reason,
            source: Some(Arc::new(source)),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("place", self.place())
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}
