//! The log filter, changed for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use zhuji_config::ConfigValue;
use zhuji_logging::LogHandle;

use super::Admin;
use super::guard::{Posted, Visit};
use crate::http::{HttpResult, Problem};

/// How long a changed filter stays when the request does not say; nobody remembers to turn it back.
const DEFAULT_FILTER_TIME: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct FilterRequest {
    filter: String,
    #[serde(rename = "for")]
    duration: Option<String>,
}

/// `GET`: the filter in force, and when the one of the settings comes back.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(current(&admin.of.log))
}

/// `PUT`, as JSON.
pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    request: Result<Json<FilterRequest>, JsonRejection>,
) -> HttpResult<Json<Value>> {
    let wanted = r#"Send JSON: {"filter": "info,asl=debug", "for": "10m"}."#;
    let Json(request) = request
        .map_err(|refusal| Problem::new(refusal.status(), format!("{} {wanted}", refusal.body_text())))?;
    change(
        &admin.of.log,
        &visit,
        &request.filter,
        request.duration.as_deref(),
    )?;
    Ok(Json(current(&admin.of.log)))
}

/// `POST`, from the page.
pub(super) async fn form(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    form: Posted,
) -> Response {
    let log = &admin.of.log;
    let changed = match form.get("filter") {
        Some(filter) => change(log, &visit, filter, form.get("for")),
        None => back(log, &visit),
    };
    match changed {
        Ok(()) if visit.html => Redirect::to("/admin").into_response(),
        Ok(()) => Json(current(log)).into_response(),
        Err(problem) => visit.page.problem(visit.html, &problem),
    }
}

/// `DELETE`: back to the filter of the settings.
pub(super) async fn reset(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
) -> HttpResult<Json<Value>> {
    back(&admin.of.log, &visit)?;
    Ok(Json(current(&admin.of.log)))
}

pub(super) fn current(log: &LogHandle) -> Value {
    json!({
        "filter": log.filter(),
        "configured": log.configured_filter(),
        "returns_in_seconds": log.returns_in().map(|left| left.as_secs()),
    })
}

fn change(log: &LogHandle, visit: &Visit, filter: &str, duration: Option<&str>) -> Result<(), Problem> {
    let duration = match duration {
        None => DEFAULT_FILTER_TIME,
        Some(text) => <Duration as ConfigValue>::parse(text)
            .map_err(|why| Problem::bad_request(format!("`for` is not a duration: {why}")))?,
    };
    if duration.is_zero() {
        return Err(Problem::bad_request(
            "`for` is 0: the filter would be back at once.",
        ));
    }
    log.set_filter(filter, Some(duration))
        .map_err(|error| Problem::bad_request(format!("`filter` is not a log filter: {error}")))?;
    tracing::info!(by = visit.by(), "an operator changed the log filter");
    Ok(())
}

fn back(log: &LogHandle, visit: &Visit) -> Result<(), Problem> {
    log.reset_filter()
        .map_err(|error| Problem::internal().caused_by(&error))?;
    tracing::info!(by = visit.by(), "an operator put the configured log filter back");
    Ok(())
}
