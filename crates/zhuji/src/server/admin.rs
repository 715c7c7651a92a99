//! What an operator may change while the service runs, with the admin token.

use std::time::Duration;

use axum::extract::State;
use axum::routing::put;
use axum::{Json, Router};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::{Value, json};
use zhuji_config::{ConfigValue, Secret};
use zhuji_logging::LogHandle;

use crate::http::{HttpResult, Problem};

/// How long a changed filter stays when the request does not say; nobody remembers to turn it back.
const DEFAULT_FILTER_TIME: Duration = Duration::from_secs(600);

#[derive(Clone)]
struct Admin {
    token: Secret,
    log: LogHandle,
}

/// The routes under `/admin`. Without a token there are none.
pub(crate) fn admin(token: Option<Secret>, log: LogHandle) -> Router {
    let Some(token) = token else { return Router::new() };
    Router::new()
        .route("/admin/log-filter", put(set_filter))
        .with_state(Admin { token, log })
}

#[derive(Deserialize)]
struct FilterRequest {
    filter: String,
    #[serde(rename = "for")]
    duration: Option<String>,
}

async fn set_filter(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Json(request): Json<FilterRequest>,
) -> HttpResult<Json<Value>> {
    if !is_admin(Some(&admin.token), &headers) {
        return Err(Problem::unauthorized(
            "Send the admin token as `authorization: Bearer …`.",
        ));
    }
    let duration = match request.duration.as_deref() {
        None => DEFAULT_FILTER_TIME,
        Some(text) => <Duration as ConfigValue>::parse(text)
            .map_err(|why| Problem::bad_request(format!("`for` is not a duration: {why}")))?,
    };
    admin
        .log
        .set_filter(&request.filter, Some(duration))
        .map_err(|error| Problem::bad_request(format!("`filter` is not a log filter: {error}")))?;
    tracing::info!(
        filter = request.filter,
        seconds = duration.as_secs(),
        "the log filter was changed"
    );
    Ok(Json(
        json!({ "filter": request.filter, "for_seconds": duration.as_secs() }),
    ))
}

/// Whether the request carries the admin token. Without one configured, nobody is admin.
pub(crate) fn is_admin(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return false };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| equal_in_constant_time(given.trim().as_bytes(), token.expose().as_bytes()))
}

/// Takes as long for a wrong first byte as for a wrong last one, so that the time tells nothing of the token.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Secret::new("s3cret-token");
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            is_admin(Some(&token), &headers)
        };
        assert!(with("Bearer s3cret-token"));
        for wrong in [
            "Bearer ",
            "Bearer s3cret",
            "Bearer s3cret-tokem",
            "s3cret-token",
            "Basic s3cret-token",
        ] {
            assert!(!with(wrong), "{wrong}");
        }
        assert!(!is_admin(Some(&token), &HeaderMap::new()));
        assert!(!is_admin(None, &HeaderMap::new()));
    }
}
