//! Storing objects: in one request, or in parts.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::Fuse};
use http::{HeaderMap, Method, header};

use super::{
    client::{Client, Payload, Request},
    multipart::Upload,
    parts::{PartSizes, SMALLEST, at_once},
    pieces::Collected,
};
use crate::{
    ByteStream, Error, ErrorKind, Key, PutOptions, Result, RetryPolicy, content::encode_metadata_value,
};

/// What the server said of a stored object.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) crc64: u64,
}

/// Stores an object in one request.
pub(super) async fn whole(
    client: &Client,
    key: &Key,
    body: Payload,
    options: &PutOptions,
) -> Result<Receipt> {
    may_create_only(client, key, options)?;
    let request = with_options(Request::new("upload", Method::PUT, key), options)?.payload(body);
    let request = client.with_access(request)?;
    let (headers, _) = client.send_and_read(&request).await?;
    was_heeded(client, &headers, key, options)?;
    let crc64 = request.body.crc64();
    check_crc(&request, &headers, crc64)?;
    Ok(Receipt {
        size: request.body.len(),
        etag: etag(&headers),
        crc64,
    })
}

/// Stores a stream. Every request that is sent has its body in memory and can be repeated by itself, which a stream can't;
/// so memory is bounded by the parts in flight, and a broken connection costs one part, not the upload.
pub(super) async fn stream(
    client: &Arc<Client>,
    key: &Key,
    stream: ByteStream,
    length: Option<u64>,
    options: &PutOptions,
    retry: RetryPolicy,
) -> Result<Receipt> {
    let sizes = match length {
        Some(length) => PartSizes::of_length(length, SMALLEST, key)?,
        None => PartSizes::Growing,
    };
    let mut parts = Parts {
        stream: stream.fuse(),
        rest: Bytes::new(),
    };
    let first = parts.fill(Collected::default(), SMALLEST).await?;
    if parts.is_empty().await? {
        let body = Payload::Pieces(first.finish());
        return patience(options, retry)
            .run("oss", || whole(client, key, body.clone(), options))
            .await;
    }
    // Equal parts, but for the last one: the first is filled up.
    let first = parts.fill(first, sizes.next(0)).await?;
    let mut upload = Upload::start(Arc::clone(client), key, options, retry).await?;
    let stored = async {
        let (mut part, mut number, mut sent) = (first, 1, 0);
        while part.len() > 0 {
            let size = part.len();
            sent += size;
            let body = Payload::Pieces(part.finish());
            upload.add(number, body, at_once(size)).await?;
            number += 1;
            part = parts.fill(Collected::default(), sizes.next(sent)).await?;
        }
        upload.complete(options).await
    }
    .await;
    if stored.is_err() {
        upload.abort().await;
    }
    stored
}

/// How often the request that makes the object may be sent. A write that may only create is sent once: if the answer to a
/// first attempt was lost, a second one would fail on its own success.
pub(super) fn patience(options: &PutOptions, retry: RetryPolicy) -> RetryPolicy {
    if options.create_only {
        RetryPolicy::none()
    } else {
        retry
    }
}

/// Cuts a stream into parts.
struct Parts {
    /// Asked again after its end, which not every stream takes.
    stream: Fuse<ByteStream>,
    rest: Bytes,
}

impl Parts {
    /// `part`, filled up to `size` bytes with what comes next; with fewer only at the end.
    async fn fill(&mut self, mut part: Collected, size: u64) -> Result<Collected> {
        while part.len() < size && !self.is_empty().await? {
            let room = usize::try_from(size - part.len()).unwrap_or(usize::MAX);
            part.add(self.rest.split_to(self.rest.len().min(room)));
        }
        Ok(part)
    }

    /// Whether nothing is left.
    async fn is_empty(&mut self) -> Result<bool> {
        while self.rest.is_empty() {
            match self.stream.try_next().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// The headers that make an object what it is.
pub(super) fn with_options(request: Request, options: &PutOptions) -> Result<Request> {
    let mut request = request;
    if let Some(content_type) = &options.content_type {
        request = request.header(header::CONTENT_TYPE, content_type)?;
    }
    if let Some(disposition) = &options.content_disposition {
        request = request.header(header::CONTENT_DISPOSITION, disposition)?;
    }
    for (name, value) in &options.metadata {
        let name = header::HeaderName::try_from(format!("x-oss-meta-{name}")).map_err(|error| {
            request
                .error(ErrorKind::InvalidInput, "a metadata name can't be sent")
                .with_source(error)
        })?;
        request = request.header(name, &encode_metadata_value(value))?;
    }
    forbid_overwrite(request, options)
}

pub(super) fn forbid_overwrite(request: Request, options: &PutOptions) -> Result<Request> {
    if options.create_only {
        request.header("x-oss-forbid-overwrite", "true")
    } else {
        Ok(request)
    }
}

/// Refuses a write that may only create, once it is known that the bucket would let it replace.
pub(super) fn may_create_only(client: &Client, key: &Key, options: &PutOptions) -> Result<()> {
    if options.create_only && client.versioned.load(Ordering::Relaxed) {
        let why = "the bucket has versioning, where OSS does not heed `create_only`";
        return Err(not_in_versions(key, why));
    }
    Ok(())
}

/// An answer that tells a version means that the object has been stored in any case.
pub(super) fn was_heeded(
    client: &Client,
    headers: &HeaderMap,
    key: &Key,
    options: &PutOptions,
) -> Result<()> {
    if options.create_only && headers.contains_key("x-oss-version-id") {
        client.versioned.store(true, Ordering::Relaxed);
        let why = "the bucket has versioning, where OSS does not heed `create_only`: this is the newest version now, \
                   whether or not there was one before";
        return Err(not_in_versions(key, why));
    }
    Ok(())
}

fn not_in_versions(key: &Key, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "upload", key.as_str(), why)
        .with_hint("use a bucket that never had versioning, or keys that nobody else writes")
}

/// Compares the server's checksum with ours. One that isn't sent (some stand-ins) can't be compared.
pub(super) fn check_crc(request: &Request, headers: &HeaderMap, ours: u64) -> Result<()> {
    match server_crc(headers) {
        Some(theirs) if theirs != ours => {
            let why = format!("OSS received other bytes than were sent: CRC-64 there {theirs}, here {ours}");
            Err(request.error(ErrorKind::Integrity, why).with_retryable(true))
        }
        _ => Ok(()),
    }
}

pub(super) fn server_crc(headers: &HeaderMap) -> Option<u64> {
    headers
        .get("x-oss-hash-crc64ecma")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The ETag without its quotes.
pub(super) fn etag(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::ETAG)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.trim_matches('"').to_owned()
}

/// An answer that isn't what was asked for.
pub(super) fn unexpected(request: &Request, why: impl Into<String>) -> Error {
    request.error(ErrorKind::Unexpected, why).with_retryable(true)
}
