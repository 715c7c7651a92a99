//! The listener, one request's way through, and the handle that tests hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::auth::{AuthScheme, Keyring, OssCredentials, Verifier};
use super::body::{self, BodyFailure, Content, ReplyBody, too_large};
use super::clock::{Clock, http_date};
use super::disk::Disk;
use super::error::OssError;
use super::fault::{Fault, FaultKind, Faults};
use super::log::{OssRequestRecord, RequestLog};
use super::operation::{Operation, PublicAccess, classify};
use super::ops::{self, Cx};
use super::reply::Reply;
use super::request::{OssRequest, check_bucket_name};
use super::store::{Buckets, OssObjectType, Store};

/// Largest document (not object) that a request may carry.
const MAX_DOCUMENT: u64 = 2 * 1024 * 1024;

/// How a server is to be. `OssServerOptions::default()` is right for most tests.
#[derive(Debug, Clone)]
pub struct OssServerOptions {
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub port: u16,
    /// The region that V4 signatures must name. Default: `cn-hangzhou`.
    pub region: String,
    /// The bucket that exists from the start, and that custom domains lead to. Default: `demo`.
    pub bucket: String,
    /// Default: random for each server.
    pub access_key_id: String,
    /// Default: random for each server.
    pub access_key_secret: String,
    /// The security token that must come with every signature. Default: none, and then none may come.
    pub security_token: Option<String>,
    /// Keeps objects, metadata and bucket settings in this directory and reads them at the start. Unfinished
    /// uploads are not kept. Default: memory only.
    pub data_dir: Option<PathBuf>,
    /// Whether V1 signatures are taken. Default: true; real buckets made since September 2025 refuse them.
    pub accept_v1: bool,
    /// Most bytes of one PutObject or part. Default: 5 GiB, as in OSS.
    pub max_put_bytes: u64,
    /// Least bytes of a part that is not the last. Default: 100 KiB, as in OSS.
    pub min_part_bytes: u64,
}

impl Default for OssServerOptions {
    fn default() -> Self {
        Self {
            port: 0,
            region: "cn-hangzhou".to_owned(),
            bucket: "demo".to_owned(),
            access_key_id: format!("LTAI{}", random(20)),
            access_key_secret: random(30),
            security_token: None,
            data_dir: None,
            accept_v1: true,
            max_put_bytes: 5 * 1024 * 1024 * 1024,
            min_part_bytes: 100 * 1024,
        }
    }
}

fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(length)
        .collect()
}

#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) max_put_bytes: u64,
    pub(crate) min_part_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    region: String,
    bucket: String,
    accept_v1: bool,
    limits: Limits,
    keyring: Keyring,
    clock: Clock,
    store: Store,
    log: RequestLog,
    faults: Faults,
    requests: AtomicU64,
    connections: AtomicU64,
}

/// One stored object, as tests see it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OssObjectInfo {
    /// The bucket it lies in.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// CRC-64 of the content.
    pub crc64: u64,
    /// How it came to be.
    pub object_type: OssObjectType,
    /// `content-type` and its kin and `x-oss-meta-*`, lower case.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Its own access control; `default` follows the bucket.
    pub acl: String,
}

/// A running OSS server on 127.0.0.1. It stops when it is dropped.
///
/// See the [module page](super) for what it does and does not do.
#[derive(Debug)]
pub struct OssServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    credentials: OssCredentials,
    task: JoinHandle<()>,
}

impl OssServer {
    /// Starts a server.
    ///
    /// # Errors
    /// The port is taken, the bucket's name is not allowed, or the data directory can't be read.
    pub async fn start(options: OssServerOptions) -> std::io::Result<Self> {
        check_bucket_name(&options.bucket).map_err(|_| {
            std::io::Error::other(format!(
                "bucket {:?}: 3 to 63 lower-case letters, digits and hyphens are allowed",
                options.bucket
            ))
        })?;
        let disk = options.data_dir.clone().map(Disk::new);
        let buckets = match disk.clone() {
            None => Buckets::new(),
            Some(disk) => tokio::task::spawn_blocking(move || disk.load())
                .await
                .map_err(std::io::Error::other)??,
        };
        let store = Store::new(buckets, disk);
        let clock = Clock::default();
        store
            .change_bucket(&options.bucket, |before| {
                Ok((
                    before.cloned().unwrap_or_else(|| ops::new_bucket(clock.now())),
                    (),
                ))
            })
            .await
            .map_err(|error| std::io::Error::other(error.message))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let credentials = OssCredentials {
            access_key_id: options.access_key_id,
            access_key_secret: options.access_key_secret,
            security_token: options.security_token,
        };
        let shared = Arc::new(Shared {
            region: options
                .region
                .strip_prefix("oss-")
                .unwrap_or(&options.region)
                .to_owned(),
            bucket: options.bucket,
            accept_v1: options.accept_v1,
            limits: Limits {
                max_put_bytes: options.max_put_bytes,
                min_part_bytes: options.min_part_bytes,
            },
            keyring: Keyring::new(credentials.clone()),
            clock,
            store,
            log: RequestLog::default(),
            faults: Faults::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        tracing::debug!(%address, "OSS server started");
        Ok(Self {
            shared,
            address,
            credentials,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`: buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://oss.localhost:PORT`: buckets are in the host, as OSS wants it. Not every resolver knows names
    /// under `localhost`; give the client [`Self::address`] to connect to.
    pub fn virtual_host_endpoint(&self) -> String {
        format!("http://oss.localhost:{}", self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The region, without the `oss-` in front.
    pub fn region(&self) -> &str {
        &self.shared.region
    }

    /// The bucket that exists from the start.
    pub fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    /// The first accepted key's id.
    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    /// The first accepted key's secret.
    pub fn access_key_secret(&self) -> &str {
        &self.credentials.access_key_secret
    }

    /// The security token that must come with the first key.
    pub fn security_token(&self) -> Option<&str> {
        self.credentials.security_token.as_deref()
    }

    /// Accepts another key pair from now on.
    pub fn add_credentials(&self, credentials: OssCredentials) {
        self.shared.keyring.add(credentials);
    }

    /// Refuses this key with `SecurityTokenExpired` from now on.
    pub fn expire_credentials(&self, access_key_id: &str) {
        self.shared.keyring.expire(access_key_id);
    }

    /// Sets the server's clock this far from the real one; negative is behind.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.shared.clock.set_offset(offset);
    }

    /// The requests so far (the last 20,000), in the order in which they were answered.
    pub fn requests(&self) -> Vec<OssRequestRecord> {
        self.shared.log.all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Multipart uploads that were neither completed nor aborted, in all buckets.
    pub fn uploads_open(&self) -> usize {
        self.shared
            .store
            .lock()
            .values()
            .map(|bucket| bucket.uploads.len())
            .sum()
    }

    /// Every object in every bucket, in order.
    pub fn objects(&self) -> Vec<OssObjectInfo> {
        let buckets = self.shared.store.lock();
        let all = buckets
            .iter()
            .flat_map(|(name, b)| b.objects.iter().map(move |(key, object)| (name, key, object)));
        all.map(|(bucket, key, object)| OssObjectInfo {
            bucket: bucket.clone(),
            key: key.clone(),
            size: object.meta.size,
            etag: object.meta.etag.clone(),
            crc64: object.meta.crc64,
            object_type: object.meta.kind,
            headers: object.meta.headers.clone(),
            acl: object.meta.acl.clone(),
        })
        .collect()
    }

    /// An object's bytes in the first bucket.
    pub fn object_bytes(&self, key: &str) -> Option<Bytes> {
        let object = self.shared.store.object(&self.shared.bucket, key).ok()?;
        Some(Content::from_chunks(object.chunks.clone()).to_bytes())
    }

    /// Lets something go wrong with the next matching request.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Takes back the faults that have not hit.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// How many faults have not hit yet.
    pub fn faults_pending(&self) -> u32 {
        self.shared.faults.pending()
    }

    /// The environment that points any Zhuji service, or an OSS client, at this server: lines for a shell.
    pub fn export_lines(&self) -> String {
        let mut lines = vec![
            format!("export OSS_REGION={}", self.region()),
            format!("export OSS_ENDPOINT={}", self.endpoint()),
            format!("export OSS_BUCKET={}", self.bucket()),
            format!("export OSS_ACCESS_KEY_ID={}", self.access_key_id()),
            format!("export OSS_ACCESS_KEY_SECRET={}", self.access_key_secret()),
        ];
        if let Some(token) = self.security_token() {
            lines.push(format!("export OSS_SECURITY_TOKEN={token}"));
        }
        lines.join("\n") + "\n"
    }

    /// Stops: open connections are cut, the port is free afterwards.
    pub async fn stop(mut self) {
        self.task.abort();
        // The task was told to end; that it did is all there is to know.
        let _ = (&mut self.task).await;
    }
}

impl Drop for OssServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors: wait for some to come back.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                // Without it small answers wait for the client's acknowledgement; a socket that refuses is slow only.
                let _ = stream.set_nodelay(true);
                let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&shared), number, request));
                    let served = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(Duration::from_secs(30))
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(connection = number, %error, "OSS connection ended");
                    }
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Tells hyper to drop the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken here by a fault, or the client went away")]
struct Broken;

async fn serve(
    shared: Arc<Shared>,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Broken> {
    let began = Instant::now();
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("{:016X}{:08X}", fastrand::u64(..), number as u32);
    let mut record = OssRequestRecord::begin(connection, &request_id);
    let head = request.method() == http::Method::HEAD;
    let now = shared.clock.now();
    let (parts, mut incoming) = request.into_parts();
    let continues = parts.headers.contains_key(http::header::EXPECT);

    let answered = match answer(&shared, &parts, &mut incoming, &mut record, now).await {
        Ok(reply) => Ok(reply),
        Err(Failure::Broken) => Err(Broken),
        Err(Failure::Refused(error, drained)) => {
            if !drained && !continues {
                body::drain(&mut incoming).await;
            }
            record.code = Some(error.code.clone());
            Ok(Reply::refusal(&error, &request_id, &record.host, head))
        }
    };
    let mut reply = match answered {
        Ok(reply) => reply,
        Err(broken) => {
            shared.log.push(record);
            return Err(broken);
        }
    };
    record.status = reply.status.as_u16();
    record.bytes_out = if head { 0 } else { reply.body.len() };
    shared.log.push(record);

    reply = reply
        .header("server", "AliyunOSS")
        .header("date", http_date(now))
        .header("x-oss-request-id", &request_id)
        .header("x-oss-server-time", began.elapsed().as_millis().to_string());
    let length = reply.length_of_head.unwrap_or(reply.body.len());
    if reply.status != http::StatusCode::NO_CONTENT && reply.status != http::StatusCode::NOT_MODIFIED {
        reply = reply.header("content-length", length.to_string());
    }
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers);
    Ok(response)
}

enum Failure {
    /// The answer, and whether the body has been read already.
    Refused(OssError, bool),
    Broken,
}

impl From<OssError> for Failure {
    fn from(error: OssError) -> Self {
        Self::Refused(error, false)
    }
}

async fn answer(
    shared: &Shared,
    parts: &http::request::Parts,
    incoming: &mut Incoming,
    record: &mut OssRequestRecord,
    now: Timestamp,
) -> Result<Reply, Failure> {
    record.method = parts.method.to_string();
    record.path = parts.uri.path().to_owned();
    let request = OssRequest::parse(parts, &shared.bucket, |name| {
        shared.store.lock().contains_key(name)
    })?;
    record.describe(&request);
    let operation = classify(&request)?;
    record.operation = operation.name().to_owned();

    let key = String::from_utf8_lossy(request.key_bytes());
    let fault = shared
        .faults
        .take(operation.name(), request.method.as_str(), &key);
    match &fault {
        Some(FaultKind::Delay(by)) => tokio::time::sleep(*by).await,
        Some(FaultKind::Answer {
            status,
            code,
            after_effect: false,
        }) => {
            return Err(injected(*status, code).into());
        }
        _ => {}
    }

    let verifier = Verifier {
        keyring: &shared.keyring,
        region: &shared.region,
        now,
        accept_v1: shared.accept_v1,
    };
    let scheme = if operation.public_access() == PublicAccess::Always {
        AuthScheme::Anonymous
    } else {
        verifier.verify(&request)?
    };
    record.auth = scheme;
    let cx = Cx {
        store: &shared.store,
        limits: &shared.limits,
        region: &shared.region,
        request: &request,
        anonymous: scheme == AuthScheme::Anonymous,
        now,
    };
    let done = work(&cx, operation, incoming, record, fault.as_ref()).await;
    let reply = match done {
        Ok(reply) => reply,
        Err(Failure::Refused(error, drained)) if request.headers.contains_key("origin") => {
            if !drained {
                body::drain(incoming).await;
            }
            record.code = Some(error.code.clone());
            let head = request.method == http::Method::HEAD;
            Reply::refusal(&error, &record.request_id, &request.host, head)
        }
        Err(failure) => return Err(failure),
    };
    let reply = ops::decorate(&cx, reply);
    Ok(match fault {
        Some(FaultKind::Answer {
            status,
            code,
            after_effect: true,
        }) => {
            return Err(Failure::Refused(injected(status, &code), true));
        }
        Some(FaultKind::LoseAnswer) => return Err(Failure::Broken),
        Some(FaultKind::WrongCrc) => reply.header("x-oss-hash-crc64ecma", "1"),
        Some(FaultKind::CutDownload(bytes)) => {
            let Reply {
                status,
                headers,
                body,
                length_of_head,
            } = reply;
            Reply {
                status,
                headers,
                body: body.cut_after(bytes),
                length_of_head,
            }
        }
        _ => reply,
    })
}

fn injected(status: u16, code: &str) -> OssError {
    OssError::new(status, code, "Ordered by the test.")
}

async fn work(
    cx: &Cx<'_>,
    operation: Operation,
    incoming: &mut Incoming,
    record: &mut OssRequestRecord,
    fault: Option<&FaultKind>,
) -> Result<Reply, Failure> {
    if cx.anonymous && !matches!(operation, Operation::Preflight) {
        ops::check_public(cx, operation.public_access())?;
    }
    if cx.request.has_key() {
        cx.request.key()?;
    }
    if let Some(bucket) = &cx.request.bucket
        && !matches!(operation, Operation::PutBucket | Operation::Preflight)
    {
        cx.store.with_bucket(bucket, |_| Ok(()))?;
    }
    let limit = if operation.carries_object() {
        cx.limits.max_put_bytes
    } else {
        MAX_DOCUMENT
    };
    check_length(cx.request, operation, limit)?;
    let cut = match fault {
        Some(FaultKind::CutUpload(bytes)) => Some(*bytes),
        _ => None,
    };
    let content = match body::read(incoming, limit, cut).await {
        Ok(content) => content,
        Err(BodyFailure::Refused(error)) => return Err(error.into()),
        Err(BodyFailure::Gone) => return Err(Failure::Broken),
    };
    if cut.is_some() {
        return Err(Failure::Broken);
    }
    record.bytes_in = content.size;
    ops::run(cx, operation, content)
        .await
        .map_err(|error| Failure::Refused(error, true))
}

/// Refuses by the announced length, before a byte of the body is read.
fn check_length(request: &OssRequest, operation: Operation, limit: u64) -> Result<(), OssError> {
    let length = request.header("content-length");
    if operation.carries_object() && length.is_none() && !request.headers.contains_key("transfer-encoding") {
        return Err(OssError::new(
            411,
            "MissingContentLength",
            "You must provide the Content-Length HTTP header.",
        ));
    }
    match length.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}
