//! The endpoints for probes and scrapers. They read memory only and never reach the router.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use super::respond::Endpoints;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The answer, if `path` is one of these endpoints.
pub(crate) fn answer(
    endpoints: &Endpoints,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response> {
    if !path.starts_with("/health") && path != "/api/v1/health" && path != "/metrics" {
        return None;
    }
    let answer = by_path(endpoints, path, headers)?;
    if method == Method::GET || method == Method::HEAD {
        return Some(answer);
    }
    let mut refusal = reply(
        StatusCode::METHOD_NOT_ALLOWED,
        JSON,
        r#"{"status":"method not allowed"}"#.to_owned(),
    );
    refusal
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(refusal)
}

fn by_path(endpoints: &Endpoints, path: &str, headers: &HeaderMap) -> Option<Response> {
    match path {
        "/health" | "/api/v1/health" => Some(health(endpoints, headers)),
        "/health/live" => Some(match endpoints.health.get() {
            Some(health) => probe(health.liveness().status_code(), health.liveness().to_json()),
            None => probe(200, r#"{"status":"ok"}"#.to_owned()),
        }),
        "/health/ready" => Some(match endpoints.health.get() {
            Some(health) => probe(health.readiness().status_code(), health.readiness().to_json()),
            None => starting(),
        }),
        "/health/startup" => Some(match endpoints.health.get() {
            Some(health) => probe(health.startup().status_code(), health.startup().to_json()),
            None => starting(),
        }),
        "/metrics" => {
            let exporter = endpoints.metrics.as_ref()?;
            refresh(endpoints);
            Some(reply(StatusCode::OK, PROMETHEUS, exporter.render()))
        }
        _ => None,
    }
}

/// Values that are kept elsewhere and only looked at when somebody asks.
fn refresh(endpoints: &Endpoints) {
    metrics::counter!("zhuji_panics_total").absolute(zhuji_logging::panic_count());
    if let Some(log) = &endpoints.log {
        metrics::counter!("zhuji_log_lost_lines_total").absolute(log.lost_lines());
    }
    if let Some(health) = endpoints.health.get() {
        metrics::gauge!("zhuji_event_loop_lag_seconds").set(health.event_loop_lag().as_secs_f64());
    }
}

fn health(endpoints: &Endpoints, headers: &HeaderMap) -> Response {
    let now = Timestamp::now();
    let Some(health) = endpoints.health.get() else {
        let body = format!(r#"{{"status":"error","database":"disconnected","timestamp":"{now:.3}"}}"#);
        return probe(503, body);
    };
    let snapshot = health.snapshot();
    let is_admin = endpoints
        .admin_token
        .as_ref()
        .is_some_and(|token| token.is_in(headers));
    let body = if is_admin {
        snapshot.to_detailed_json(now)
    } else {
        snapshot.to_public_json(now)
    };
    probe(snapshot.status_code(), body)
}

fn starting() -> Response {
    probe(503, r#"{"status":"starting"}"#.to_owned())
}

fn probe(status: u16, body: String) -> Response {
    reply(
        StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        JSON,
        body,
    )
}

fn reply(status: StatusCode, content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
