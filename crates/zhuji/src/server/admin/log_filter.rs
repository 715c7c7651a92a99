//! The log filter, changed for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use zhuji_config::ConfigValue;

use super::{Admin, is_admin};
use crate::http::{HttpResult, Problem};

/// How long a changed filter stays when the request does not say; nobody remembers to turn it back.
const DEFAULT_FILTER_TIME: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct FilterRequest {
    filter: String,
    #[serde(rename = "for")]
    duration: Option<String>,
}

pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
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
        .of
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
