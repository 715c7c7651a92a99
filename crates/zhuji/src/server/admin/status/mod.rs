//! `/admin`: how this process is, at a glance.

mod chart;
mod exposition;
mod gather;
mod history;
mod page;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Uri};
use jiff::Timestamp;

use super::Admin;
use super::guard::Visit;
use super::markup::markup;
use crate::server::Routine;
pub(crate) use history::History;

/// The query of a page that loads itself again.
pub(super) const BY_ITSELF: &str = "by-itself";

const SCRIPT: &str = include_str!("status.js");

/// As the other pages' policy, and the one script that brings this page up to date.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src data:; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    uri: Uri,
) -> Response {
    let status = gather::Status::of(&admin).await;
    if !visit.html {
        return Json(status).into_response();
    }
    let head = markup!(
        "<script src=\"/admin/status.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"10; url=/admin?by-itself\"></noscript>"
    );
    let content = page::page(&visit.page, &status, Timestamp::now());
    let mut response = visit.page.answer_with(head, StatusCode::OK, "Status", content);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    if uri.query() == Some(BY_ITSELF) {
        response.extensions_mut().insert(Routine);
    }
    response
}

pub(super) async fn script() -> Response {
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    let cache = HeaderValue::from_static("max-age=300");
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], SCRIPT).into_response()
}
