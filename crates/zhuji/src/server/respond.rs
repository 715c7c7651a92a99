//! One request, from its head to its answer: identity, trace, log line, metrics, and what happens to a panic.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use tower::ServiceExt;
use tracing::{Instrument, Span, field};
use zhuji_health::HealthMonitor;
use zhuji_logging::{LogHandle, RequestId, TraceContext};
use zhuji_metrics::MetricsExporter;

use super::admin::AdminToken;
use super::body::GuardedBody;
use super::context::RequestContext;
use super::operator;
use crate::http::Problem;
use crate::otel::{self, Answered};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When to come back while the modules are coming up.
const START_RETRY: Duration = Duration::from_secs(1);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the probes read. The health monitor comes when the service has been composed; until then it is starting.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) health: OnceLock<HealthMonitor>,
    pub(crate) metrics: Option<MetricsExporter>,
    pub(crate) log: Option<LogHandle>,
    pub(crate) admin_token: Option<Arc<AdminToken>>,
}

/// Everything that answers on one listener. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    endpoints: Arc<Endpoints>,
    // Set when the modules are up. The listener is there before them, so that probes get an answer.
    router: OnceLock<Router>,
    draining: AtomicBool,
    body_idle: Duration,
}

impl App {
    pub(crate) fn new(endpoints: Arc<Endpoints>, body_idle: Duration) -> Self {
        let draining = AtomicBool::new(false);
        Self(Arc::new(Shared {
            endpoints,
            router: OnceLock::new(),
            draining,
            body_idle,
        }))
    }

    /// Opens the service's own routes.
    pub(crate) fn open(&self, router: Router) {
        // A second call would be a mistake of `Platform`; the first router stays.
        let _ = self.0.router.set(router);
    }

    /// From now on every answer asks its client to go elsewhere.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn respond(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let shared = &*self.0;
        let (parts, body) = request.into_parts();
        let request_id = RequestId::accept(parts.headers.get(&REQUEST_ID))
            .as_str()
            .to_owned();
        let answer = operator::answer(&shared.endpoints, &parts.method, parts.uri.path(), &parts.headers);
        let mut response = match (answer, shared.router.get()) {
            (Some(response), _) => response,
            (None, None) => {
                let starting =
                    async { Problem::unavailable("The service is starting.", START_RETRY).into_response() };
                let trace = TraceContext::accept(parts.headers.get(&TRACEPARENT));
                RequestContext {
                    request_id: request_id.clone(),
                    trace,
                }
                .scope(starting)
                .await
            }
            (None, Some(router)) => {
                let waits = parts.headers.contains_key(EXPECT);
                let body = GuardedBody::new(body, shared.body_idle, waits);
                let request = Request::from_parts(parts, Body::new(body));
                route(router.clone(), request, request_id.clone()).await
            }
        };
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if shared.draining.load(Ordering::Relaxed) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

async fn route(router: Router, request: Request, request_id: String) -> Response {
    let started = Instant::now();
    let caller = request.headers().get(&TRACEPARENT).and_then(TraceContext::parse);
    let trace = caller.map_or_else(TraceContext::new, |caller| caller.child());
    let span = tracing::info_span!(
        "request",
        module = field::Empty,
        trace_id = %trace.trace_id(),
        span_id = %trace.span_id(),
        request_id = %request_id,
        traceparent = caller.map(field::display),
    );
    let trace = otel::decided(&span, trace);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let answered = async {
        let answered = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
        let response = match answered {
            Ok(Ok(response)) => as_problem(response),
            // The panic hook has written the text to the log, in this span.
            Err(_) => Problem::internal().into_response(),
        };
        report(&method, &path, &response, started.elapsed());
        response
    };
    RequestContext { request_id, trace }
        .scope(answered.instrument(span))
        .await
}

/// Errors that axum makes itself (no such route, a body that is not JSON) get the shape of all others.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let made_by_axum = response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !made_by_axum {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => "There is nothing at this address.",
        StatusCode::METHOD_NOT_ALLOWED => "This address does not take this method; see the `allow` header.",
        StatusCode::PAYLOAD_TOO_LARGE => "The body is larger than the limit.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "Send the body as application/json.",
        status if status.is_client_error() => "The request could not be understood.",
        _ => return Problem::internal().into_response(),
    };
    let allow = response.headers().get(http::header::ALLOW).cloned();
    let mut response = Problem::new(status, detail).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(http::header::ALLOW, allow);
    }
    response
}

/// Marks an answer that nobody asked for by hand: its line is for those who look closely.
#[derive(Clone)]
pub(crate) struct Routine;

/// Where the request went, left by the router for the log and the metrics.
#[derive(Clone)]
struct Routed {
    module: &'static str,
    route: Option<MatchedPath>,
}

/// Marks the routes of one module, so that its log lines and metrics carry its name.
pub(crate) fn tag_module(router: Router, module: &'static str) -> Router {
    router.layer(axum::middleware::from_fn(
        move |request: Request, next: Next| async move {
            Span::current().record("module", module);
            let routed = Routed {
                module,
                route: request.extensions().get().cloned(),
            };
            let mut response = next.run(request).await;
            response.extensions_mut().insert(routed);
            response
        },
    ))
}

fn report(method: &Method, path: &str, response: &Response, elapsed: Duration) {
    let status = response.status();
    let routed = response.extensions().get::<Routed>();
    let module = routed.map_or("none", |routed| routed.module);
    // The template, never the path: a label with ids in it would grow without end.
    let route = routed
        .and_then(|routed| routed.route.as_ref())
        .map_or("none", MatchedPath::as_str);
    let method = known(method);
    let labels = [
        ("module", module.to_owned()),
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    metrics::histogram!("zhuji_http_request_seconds", &labels[..3]).record(elapsed.as_secs_f64());
    metrics::counter!("zhuji_http_requests_total", &labels[..]).increment(1);
    // Microseconds are as fine as anybody reads.
    let duration_ms = elapsed.as_micros() as f64 / 1000.0;
    let status = status.as_u16();
    otel::answered(
        &Span::current(),
        Answered {
            method,
            path,
            route: routed
                .and_then(|routed| routed.route.as_ref())
                .map(MatchedPath::as_str),
            status: response.status(),
        },
    );
    if status >= 500 {
        tracing::warn!(method, path, route, status, duration_ms, "request");
    } else if response.extensions().get::<Routine>().is_some() {
        tracing::debug!(method, path, route, status, duration_ms, "request");
    } else {
        tracing::info!(method, path, route, status, duration_ms, "request");
    }
}

/// A client can invent methods; a label can't hold them all.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
