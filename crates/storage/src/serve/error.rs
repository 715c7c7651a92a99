//! Refusals.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::ServeBody;
use crate::{Error, ErrorKind, signer::EXPIRED};

/// Why a request was refused, in the terms of `application/problem+json`. Says nothing about disks, paths or secrets.
#[derive(Clone, Debug)]
pub struct ServeError {
    status: StatusCode,
    detail: String,
    // Boxed: most refusals have none, and every answer carries the space of one.
    headers: Box<HeaderMap>,
}

impl ServeError {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Box::default(),
        }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such object")
    }

    pub(super) fn method_not_allowed() -> Self {
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "objects answer GET, HEAD and PUT");
        error
            .headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT, OPTIONS"));
        error
    }

    pub(super) fn other_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "the CORS rules of this store do not allow this request to a page of that origin",
        )
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    pub(super) fn too_large(max: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an upload may have {max} bytes at most"),
        )
    }

    pub(super) fn range_not_satisfiable(size: u64) -> Self {
        let mut error = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("the object has {size} bytes"),
        );
        if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
            error.headers.insert(header::CONTENT_RANGE, value);
        }
        error
    }

    /// The refusal that a failed storage operation becomes. The error itself belongs into the log.
    pub fn from_storage(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidKey => Self::not_found(),
            ErrorKind::Denied if error.operation() == "signature check" => {
                let detail = if error.code() == Some(EXPIRED) {
                    "the address has expired; ask for a new one"
                } else {
                    "the address is not signed, or its signature does not match"
                };
                Self::new(StatusCode::FORBIDDEN, detail)
            }
            ErrorKind::Denied => Self::new(StatusCode::FORBIDDEN, "the object may not be read"),
            ErrorKind::Source => {
                Self::new(StatusCode::BAD_REQUEST, "the upload ended before it was complete")
            }
            ErrorKind::InvalidInput => Self::new(StatusCode::BAD_REQUEST, "the request contradicts itself"),
            ErrorKind::InvalidRange => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "there are no such bytes")
            }
            ErrorKind::AlreadyExists | ErrorKind::Conflict => {
                Self::new(StatusCode::CONFLICT, "something else is stored under this name")
            }
            ErrorKind::Changed => Self::new(StatusCode::PRECONDITION_FAILED, "the object has changed"),
            ErrorKind::NoSpace => Self::new(StatusCode::INSUFFICIENT_STORAGE, "the storage is full"),
            kind => {
                tracing::error!(%kind, %error, "serving an object failed");
                let mut refusal = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the storage can't answer right now",
                );
                refusal
                    .headers
                    .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                refusal
            }
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The standard words for the status.
    pub fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// What is wrong, safe to show to anyone.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Headers that belong to the refusal, such as `allow` or `content-range`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The refusal as `application/problem+json`.
    pub fn into_response(self) -> Response<ServeBody> {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let body = ServeBody::full(Bytes::from(body.to_string()));
        let length = body.length();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

impl From<Error> for ServeError {
    fn from(error: Error) -> Self {
        Self::from_storage(&error)
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.title(), self.detail)
    }
}

impl std::error::Error for ServeError {}
