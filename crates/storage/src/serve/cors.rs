//! Pages of other origins, by the rules that are also OSS's.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header, request::Parts};

use super::{ServeBody, ServeError};
use crate::{
    ErrorKind, StorageAdapter,
    rules::{CorsAnswer, CorsQuestion},
};

/// What the page that asks may do; `None` if nothing, or if it is no page of another origin.
pub(super) async fn find(adapter: &dyn StorageAdapter, parts: &Parts) -> Option<CorsAnswer> {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN)?;
    let preflight = parts.method == Method::OPTIONS;
    let method = match preflight {
        true => text(header::ACCESS_CONTROL_REQUEST_METHOD)?,
        false => parts.method.as_str(),
    };
    let headers = text(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|_| preflight)
        .unwrap_or_default();
    let rules = match adapter.served_cors().await {
        Ok(rules) => rules,
        Err(error) if error.kind() == ErrorKind::Unsupported => return None,
        Err(error) => {
            tracing::warn!(%error, "the CORS rules can't be read; pages of other origins are refused");
            return None;
        }
    };
    let question = CorsQuestion {
        origin,
        method,
        headers,
    };
    CorsAnswer::find(&rules, question)
}

/// The answer to the browser's question before the real request.
pub(super) fn preflight(answer: Option<&CorsAnswer>) -> Result<Response<ServeBody>, ServeError> {
    let answer = answer.ok_or_else(ServeError::other_origin)?;
    let mut response = Response::new(ServeBody::full(Bytes::new()));
    let headers = response.headers_mut();
    permit(answer, headers);
    set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &answer.methods);
    set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &answer.headers);
    if let Some(seconds) = answer.max_age {
        set(headers, header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    headers.insert(
        header::VARY,
        HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    Ok(response)
}

/// Lets the page read an answer; a refusal too, else it could not tell why.
pub(super) fn permit(answer: &CorsAnswer, headers: &mut HeaderMap) {
    set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, &answer.origin);
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &answer.expose);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Some(value) = HeaderValue::from_str(value)
        .ok()
        .filter(|value| !value.is_empty())
    {
        headers.insert(name, value);
    }
}
