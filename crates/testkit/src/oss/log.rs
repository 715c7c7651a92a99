//! What the server was asked and what it answered, for assertions.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;

use super::auth::AuthScheme;
use super::request::{HostStyle, OssRequest};

/// Parameters and headers that are never kept.
const SECRET_PARAMETERS: &[&str] = &[
    "x-oss-signature",
    "Signature",
    "x-oss-security-token",
    "security-token",
    "x-oss-credential",
    "OSSAccessKeyId",
];

/// One request and its answer. Signatures and tokens are left out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OssRequestRecord {
    /// Which connection it came over: equal numbers mean that a connection was used again.
    pub connection: u64,
    /// The HTTP method.
    pub method: String,
    /// The `Host` header.
    pub host: String,
    /// How that host and path name the bucket.
    pub style: HostStyle,
    /// The path as it was on the wire.
    pub path: String,
    /// The bucket, if one was named.
    pub bucket: Option<String>,
    /// The decoded key; empty for operations on buckets.
    pub key: String,
    /// The decoded query without signatures and tokens.
    pub query: Vec<(String, String)>,
    /// The headers without `Authorization` and the security token.
    pub headers: HeaderMap,
    /// OSS's name for it: `PutObject`, `ListObjectsV2` …; `Unknown` if it is none of them.
    pub operation: String,
    /// How it was signed.
    pub auth: AuthScheme,
    /// The answer's status; 0 if the connection was broken instead.
    pub status: u16,
    /// The answer's OSS error code.
    pub code: Option<String>,
    /// Bytes of the request's body, once read.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The answer's `x-oss-request-id`.
    pub request_id: String,
}

impl OssRequestRecord {
    pub(crate) fn begin(connection: u64, request_id: &str) -> Self {
        Self {
            connection,
            method: String::new(),
            host: String::new(),
            style: HostStyle::Path,
            path: String::new(),
            bucket: None,
            key: String::new(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            operation: "Unknown".to_owned(),
            auth: AuthScheme::Anonymous,
            status: 0,
            code: None,
            bytes_in: 0,
            bytes_out: 0,
            request_id: request_id.to_owned(),
        }
    }

    pub(crate) fn describe(&mut self, request: &OssRequest) {
        self.method = request.method.to_string();
        self.host.clone_from(&request.host);
        self.style = request.style;
        self.path.clone_from(&request.path);
        self.bucket.clone_from(&request.bucket);
        self.key = String::from_utf8_lossy(request.key_bytes()).into_owned();
        self.query = request
            .query
            .iter()
            .filter(|(name, _)| !SECRET_PARAMETERS.contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.headers = request.headers.clone();
        self.headers.remove(http::header::AUTHORIZATION);
        self.headers.remove("x-oss-security-token");
    }
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<VecDeque<OssRequestRecord>>);

impl RequestLog {
    /// A server that runs for days must not grow without end.
    const MOST: usize = 20_000;

    pub(crate) fn push(&self, record: OssRequestRecord) {
        let mut records = self.lock();
        if records.len() >= Self::MOST {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(crate) fn all(&self) -> Vec<OssRequestRecord> {
        self.lock().iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<OssRequestRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
