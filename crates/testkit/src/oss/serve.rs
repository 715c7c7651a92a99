//! One request's way through: taken apart, judged, carried out, answered, written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::auth::{AuthScheme, Keyring, Verifier};
use super::body::{self, BodyFailure, ReplyBody, too_large};
use super::clock::{Clock, http_date};
use super::error::OssError;
use super::fault::{FaultKind, Faults};
use super::log::{OssRequestRecord, RequestLog};
use super::operation::{Operation, PublicAccess, classify};
use super::ops::{self, Cx};
use super::reply::Reply;
use super::request::OssRequest;
use super::store::Store;

/// Largest document (not object) that a request may carry.
const MAX_DOCUMENT: u64 = 2 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) max_put_bytes: u64,
    pub(crate) min_part_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) accept_v1: bool,
    pub(crate) limits: Limits,
    pub(crate) keyring: Keyring,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) log: RequestLog,
    pub(crate) faults: Faults,
    pub(crate) requests: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// Takes connections until the task is aborted, which cuts the open ones too.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
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
    let length = reply.length_of_head.filter(|_| head).unwrap_or(reply.body.len());
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
