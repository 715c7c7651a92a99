//! Errors on the wire: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde_json::{Map, Value};

use crate::server::current_request_id;

/// What a handler returns.
pub type HttpResult<T> = Result<T, Problem>;

/// An error for the client. It says what is wrong and what to do, and never carries a panic text, SQL, a path of the
/// server's disk or a secret; what the log should know besides goes into [`Problem::caused_by`].
///
/// Answers with `type`, `title`, `status`, `detail` and `request_id`, plus the fields given by [`Problem::with`].
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

/// Behind a box: every handler's `Result` has room for a problem, and hardly any has one.
#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    fields: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            status,
            detail: detail.into(),
            retry_after: None,
            fields: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// 400: the request can't be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: a valid token is needed.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail);
        problem
            .0
            .headers
            .push((http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        problem
    }

    /// 403: not allowed.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404: no such thing.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409: in the way of what is there already.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413: larger than the limit.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 415: not a kind of file that is taken here.
    pub fn unsupported_media(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422: understood, but the content is wrong.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 503 with `retry-after`: a dependency is down.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// 500, with nothing but the request id for the client.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The service could not answer this request. The log holds the cause under the request id.",
        )
    }

    /// Adds a field to the answer.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.into(), value.into());
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Writes the cause to the log (not to the answer): an error for a 5xx, a debug line otherwise.
    pub fn caused_by(self, cause: &dyn std::error::Error) -> Self {
        let chain = ErrorChain(cause);
        if self.0.status.is_server_error() {
            tracing::error!(status = self.0.status.as_u16(), error = %chain, "request failed");
        } else {
            tracing::debug!(status = self.0.status.as_u16(), error = %chain, "request refused");
        }
        self
    }

    /// The problem among an error's causes, if there is one: what a request's own stream raised (too slow, too large, cut
    /// off) comes back out of whatever was reading it.
    pub fn within(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(problem) = error.downcast_ref::<Self>() {
                return Some(problem.clone());
            }
            next = error.source();
        }
        None
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        body.insert(
            "title".into(),
            self.0.status.canonical_reason().unwrap_or("Error").into(),
        );
        body.insert("status".into(), self.0.status.as_u16().into());
        body.insert("detail".into(), self.0.detail.into());
        if let Some(id) = current_request_id() {
            body.insert("request_id".into(), id.into());
        }
        // The standard members can't be overwritten by accident.
        for (name, value) in self.0.fields {
            body.entry(name).or_insert(value);
        }
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        headers.extend(self.0.headers);
        response
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.status, self.0.detail)
    }
}

/// So that a stream of a request's bytes can be handed to `Storage::upload_stream`.
impl std::error::Error for Problem {}

/// An error with its sources on one line.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
