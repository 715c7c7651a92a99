//! One shared HTTP client; every request to OSS goes through here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::RootCertStore;

use super::{
    answer::{Refusal, refusal},
    credentials::{Credentials, CredentialsProvider},
    endpoint::Endpoint,
    pieces::Pieces,
    sign::{Query, Signer, Unsigned, encode_query},
    transport::transport,
};
use crate::{ByteStream, Error, ErrorKind, Result, crc::crc64, transfer::source::FileRange};

const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence while an answer or its next piece is awaited. There is no limit on a whole transfer.
const IDLE: Duration = Duration::from_secs(30);
/// The slowest upload that is still given time to end, in bytes per second.
const SLOWEST: u64 = 64 * 1024;
/// The slowest copy that a server is still given time to end.
const SLOWEST_SERVER: u64 = 8 << 20;
/// Shorter than a server keeps a connection open, so that we seldom write into one that it is closing.
const KEEP_IDLE: Duration = Duration::from_secs(25);
pub(super) const OBJECT_ACL: &str = "x-oss-object-acl";
pub(super) const PUBLIC_READ: &str = "public-read";
const PUBLIC_REFUSED: &str = "the key is below STORAGE_PUBLIC_PREFIXES and is stored as public-read: turn off Block Public \
                              Access for this bucket and allow oss:PutObjectAcl";
const LARGEST_REFUSAL: usize = 64 * 1024;

/// What a request carries. Every form of it can be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Bytes(Bytes),
    Pieces(Pieces),
    File(FileRange),
}

impl Payload {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pieces(pieces) => pieces.len(),
            Self::File(range) => range.len(),
        }
    }

    /// CRC-64 of what was sent; of a file only once it has been sent.
    pub(super) fn crc64(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => crc64(bytes),
            Self::Pieces(pieces) => pieces.crc64(),
            Self::File(range) => range.passed_crc(),
        }
    }

    fn to_body(&self) -> reqwest::Body {
        match self {
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Pieces(pieces) => pieces.to_body(),
            Self::File(range) => reqwest::Body::wrap_stream(range.read()),
        }
    }
}

/// A request that can be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    /// What errors are told about.
    pub(super) subject: String,
    pub(super) method: Method,
    /// Raw; empty for the bucket.
    pub(super) key: String,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    /// Bytes that the server moves itself before it answers.
    pub(super) moved_by_server: u64,
}

impl Request {
    pub(super) fn new(operation: &'static str, method: Method, key: &str) -> Self {
        Self {
            operation,
            subject: key.to_owned(),
            method,
            key: key.to_owned(),
            query: Query::new(),
            headers: HeaderMap::new(),
            body: Payload::Bytes(Bytes::new()),
            moved_by_server: 0,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a header; its value has been checked or made by us.
    pub(super) fn header(mut self, name: impl header::IntoHeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|error| {
            let why = "an option can't be sent as a header";
            Error::new(
                ErrorKind::InvalidInput,
                self.operation,
                self.subject.as_str(),
                why,
            )
            .with_source(error)
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn body(self, body: impl Into<Bytes>) -> Self {
        self.payload(Payload::Bytes(body.into()))
    }

    pub(super) fn payload(mut self, body: Payload) -> Self {
        self.body = body;
        self
    }

    /// An error of this request.
    pub(super) fn error(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        Error::new(kind, self.operation, self.subject.as_str(), why)
    }
}

/// Signs and sends requests.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    traffic: Endpoint,
    public: Endpoint,
    signer: Signer,
    pub(super) credentials: Arc<dyn CredentialsProvider>,
    /// Keys below these are stored as readable for everyone.
    public_prefixes: Vec<String>,
    /// The server's clock minus ours, in seconds, once it has complained.
    skew: AtomicI64,
    /// Whether a write was told a version: then OSS does not heed `x-oss-forbid-overwrite`.
    pub(super) versioned: AtomicBool,
}

impl Client {
    pub(super) fn new(
        http: reqwest::Client,
        traffic: Endpoint,
        public: Endpoint,
        signer: Signer,
        credentials: Arc<dyn CredentialsProvider>,
        public_prefixes: Vec<String>,
    ) -> Self {
        Self {
            http,
            traffic,
            public,
            signer,
            credentials,
            public_prefixes,
            skew: AtomicI64::new(0),
            versioned: AtomicBool::new(false),
        }
    }

    pub(super) fn bucket(&self) -> &str {
        &self.signer.bucket
    }

    pub(super) fn region(&self) -> &str {
        &self.signer.region
    }

    /// Scheme, host and bucket of the traffic.
    pub(super) fn base(&self) -> String {
        self.traffic.url("")
    }

    pub(super) fn public_url(&self, key: &str) -> String {
        self.public.url(key)
    }

    /// Whether everyone may read this key.
    pub(super) fn is_public(&self, key: &str) -> bool {
        self.public_prefixes
            .iter()
            .any(|prefix| key.starts_with(prefix.as_str()))
    }

    /// Adds the access control of the object that a request makes. Without one it has the bucket's, which is private.
    pub(super) fn with_access(&self, request: Request) -> Result<Request> {
        if self.is_public(&request.key) {
            request.header(OBJECT_ACL, PUBLIC_READ)
        } else {
            Ok(request)
        }
    }

    fn now(&self) -> Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.skew.load(Ordering::Relaxed));
        Timestamp::now()
            .checked_add(skew)
            .unwrap_or_else(|_| Timestamp::now())
    }

    /// Sends a request and returns the answer if it is a 2xx.
    ///
    /// A request that was refused because our clock is wrong, or because temporary keys have ended, did nothing: it is sent
    /// once more by the server's clock, or with new keys. Every body here can be sent again, whole.
    pub(super) async fn send(&self, request: &Request) -> Result<reqwest::Response> {
        let (mut clock_set, mut keys_renewed) = (false, false);
        loop {
            let credentials = self.credentials.credentials().await?;
            let refused = match self.send_as(request, &credentials).await? {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            if let Some(server) = refused.server_time
                && !clock_set
            {
                clock_set = true;
                self.set_clock(server);
            } else if refused.stale_keys && credentials.token().is_some() && !keys_renewed {
                keys_renewed = true;
                if !self.credentials.invalidate(&credentials) {
                    return Err(refused.error);
                }
            } else if request.headers.contains_key(OBJECT_ACL) && refused.error.kind() == ErrorKind::Denied {
                return Err(refused.error.with_hint(PUBLIC_REFUSED));
            } else {
                return Err(refused.error);
            }
            tracing::debug!(operation = request.operation, kind = %refused.error.kind(), "sending it once more");
        }
    }

    fn set_clock(&self, server: Timestamp) {
        let skew = server.as_second() - Timestamp::now().as_second();
        tracing::warn!(
            seconds = skew,
            "the clock of this machine differs from that of OSS; using the latter"
        );
        self.skew.store(skew, Ordering::Relaxed);
    }

    /// Sends a request once. The outer error is one below HTTP, the inner one an answer that isn't a 2xx.
    async fn send_as(
        &self,
        request: &Request,
        credentials: &Credentials,
    ) -> Result<Result<reqwest::Response, Refusal>> {
        // Room for what is added on the way: making it later would cost more.
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 8);
        headers.extend(request.headers.clone());
        let unsigned = Unsigned {
            method: request.method.as_str(),
            key: &request.key,
            query: &request.query,
        };
        self.signer
            .sign_headers(&unsigned, &mut headers, credentials, self.now());
        let length = request.body.len();
        if length > 0 || matches!(request.method, Method::PUT | Method::POST) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let url = self
            .traffic
            .request_url(&request.key, &encode_query(&request.query));
        let mut sent = reqwest::Request::new(request.method.clone(), url);
        *sent.headers_mut() = headers;
        *sent.body_mut() = Some(request.body.to_body());
        let patience =
            IDLE + Duration::from_secs(length / SLOWEST + request.moved_by_server / SLOWEST_SERVER);
        let answer = match tokio::time::timeout(patience, self.http.execute(sent)).await {
            Ok(answer) => answer.map_err(|error| transport(request.operation, &request.subject, error))?,
            Err(_) => {
                let why = format!("no answer within {} s of sending the request", patience.as_secs());
                return Err(request.error(ErrorKind::Timeout, why));
            }
        };
        // 203 is what OSS says when the object is there and a callback failed: no success.
        if answer.status().is_success() && answer.status() != StatusCode::NON_AUTHORITATIVE_INFORMATION {
            return Ok(Ok(answer));
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = small_body(answer).await;
        Ok(Err(refusal(
            request.operation,
            &request.subject,
            status,
            &headers,
            &body,
        )))
    }

    /// Sends a request and reads the whole (small) answer.
    pub(super) async fn send_and_read(&self, request: &Request) -> Result<(HeaderMap, Bytes)> {
        let mut answer = self.send(request).await?;
        let headers = std::mem::take(answer.headers_mut());
        if answer.content_length() == Some(0) {
            return Ok((headers, Bytes::new()));
        }
        let stream = self.stream(answer, request);
        Ok((headers, stream.into_bytes().await?))
    }

    /// The body of an answer, with a limit on the silence between two pieces.
    pub(super) fn stream(&self, answer: reqwest::Response, request: &Request) -> ByteStream {
        let (operation, subject) = (request.operation, request.subject.clone());
        let pieces = Box::pin(answer.bytes_stream());
        ByteStream::new(futures_util::stream::try_unfold(
            (pieces, subject),
            move |(mut pieces, subject)| async move {
                match tokio::time::timeout(IDLE, pieces.next()).await {
                    Ok(None) => Ok(None),
                    Ok(Some(Ok(piece))) => Ok(Some((piece, (pieces, subject)))),
                    Ok(Some(Err(error))) => Err(transport(operation, &subject, error)),
                    Err(_) => {
                        let why = format!("no data for {} s while reading the answer", IDLE.as_secs());
                        Err(Error::new(ErrorKind::Timeout, operation, subject, why))
                    }
                }
            },
        ))
    }

    /// A URL for others, good for `expires` seconds; the second value is what of it the credentials allow.
    pub(super) async fn presign(
        &self,
        method: &str,
        key: &str,
        query: Query,
        headers: &HeaderMap,
        expires: u64,
    ) -> Result<(String, Timestamp)> {
        let credentials = self.credentials.credentials().await?;
        let now = self.now();
        // A URL dies with the token it was signed with; say so instead of promising more.
        let left = credentials
            .expires_at()
            .map(|end| (end.as_second() - now.as_second()).max(0).unsigned_abs());
        let expires = left.map_or(expires, |left| expires.min(left));
        if expires == 0 {
            let why = "the temporary credentials have expired";
            return Err(Error::new(ErrorKind::Credential, "sign url", key, why));
        }
        let unsigned = Unsigned {
            method,
            key,
            query: &query,
        };
        let query = self
            .signer
            .sign_query(&unsigned, headers, &credentials, now, expires);
        let end = now.as_second().saturating_add_unsigned(expires);
        let url = format!("{}?{query}", self.public.url(key));
        Ok((url, Timestamp::from_second(end).unwrap_or(Timestamp::MAX)))
    }
}

/// At most 64 KiB of a refusal, and only while it comes quickly.
async fn small_body(answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    let read = async {
        while let Ok(Some(piece)) = pieces.try_next().await {
            body.extend_from_slice(&piece);
            if body.len() > LARGEST_REFUSAL {
                break;
            }
        }
    };
    // What has arrived by then is used; the status is known anyway.
    let _ = tokio::time::timeout(CONNECT, read).await;
    body.truncate(LARGEST_REFUSAL);
    body
}

/// The HTTP client of one adapter.
pub(super) fn http_client(traffic: &Endpoint) -> Result<reqwest::Client> {
    client(traffic.is_https(), traffic.is_loopback())
}

/// A client for one question to a service that gives out credentials. Without TLS it is on this machine or beside it: no
/// proxy is to see what it says.
pub(super) fn source_client(tls: bool) -> Result<reqwest::Client> {
    client(tls, !tls)
}

fn client(tls: bool, direct: bool) -> Result<reqwest::Client> {
    let failed = |why: &str, error: crate::BoxError| {
        Error::new(ErrorKind::Config, "configuration", "OSS", why).with_source(error)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    // Reading the system's certificates takes milliseconds that a plain-text endpoint needn't pay.
    if tls {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = "the system has no root certificates; install ca-certificates or set SSL_CERT_FILE";
            return Err(Error::new(ErrorKind::Config, "configuration", "OSS", why));
        }
    }
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS can't be set up", error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("zhuji-storage/", env!("CARGO_PKG_VERSION")))
        // A redirected request would carry a signature for another address.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(KEEP_IDLE)
        .tcp_nodelay(true);
    if direct {
        builder = builder.no_proxy().dns_resolver(Arc::new(Loopback));
    }
    builder
        .build()
        .map_err(|error| failed("the HTTP client can't be built", error.into()))
}

/// Leads `*.localhost` to this machine, as RFC 6761 wants and not every system does.
#[derive(Debug)]
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            if name == "localhost" || name.ends_with(".localhost") {
                let here: Addrs = Box::new(std::iter::once(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
                return Ok(here);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
