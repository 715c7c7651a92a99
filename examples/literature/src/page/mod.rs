//! The web page: three files compiled into the binary, served as they are. No build step.

use zhuji::axum::Router;
use zhuji::axum::body::Body;
use zhuji::axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use zhuji::axum::http::{HeaderMap, Response, StatusCode};
use zhuji::axum::routing::get;

/// Scripts, styles and connections of this origin only; nothing inline, no frame, no plug-in.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The routes at the root of the service.
pub(crate) fn routes() -> Router {
    const HTML: &str = include_str!("index.html");
    const STYLE: &str = include_str!("style.css");
    const SCRIPT: &str = include_str!("app.js");
    const ICON: &str = include_str!("icon.svg");
    Router::new()
        .route(
            "/",
            get(|headers: HeaderMap| async move { serve(&headers, "text/html; charset=utf-8", HTML) }),
        )
        .route(
            "/style.css",
            get(|headers: HeaderMap| async move { serve(&headers, "text/css; charset=utf-8", STYLE) }),
        )
        .route(
            "/app.js",
            get(
                |headers: HeaderMap| async move { serve(&headers, "text/javascript; charset=utf-8", SCRIPT) },
            ),
        )
        .route(
            "/icon.svg",
            get(|headers: HeaderMap| async move { serve(&headers, "image/svg+xml", ICON) }),
        )
        // What a browser asks for where no page names an icon: beside an opened PDF.
        .route(
            "/favicon.ico",
            get(|headers: HeaderMap| async move { serve(&headers, "image/svg+xml", ICON) }),
        )
}

/// The file, or 304 to a browser that has this very version. `no-cache` means "ask first": after a deployment nobody
/// runs an old script against a new service.
fn serve(headers: &HeaderMap, content_type: &str, content: &'static str) -> Response<Body> {
    let tag = format!("\"{:016x}\"", fingerprint(content));
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == tag
    });
    let response = Response::builder()
        .header(ETAG, &tag)
        .header(CACHE_CONTROL, "no-cache")
        .header(CONTENT_SECURITY_POLICY, POLICY)
        .header(REFERRER_POLICY, "no-referrer")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
    let response = if is_known {
        response.status(StatusCode::NOT_MODIFIED).body(Body::empty())
    } else {
        response
            .header(CONTENT_TYPE, content_type)
            .body(Body::from(content))
    };
    response.expect("the status and every header are written here and valid")
}

/// FNV-1a: tells two versions of a file apart, which is all an entity tag has to do.
fn fingerprint(content: &str) -> u64 {
    content.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_the_page_gets_304() {
        let first = serve(&HeaderMap::new(), "text/html", "page");
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(
            serve(&headers, "text/html", "page").status(),
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(serve(&headers, "text/html", "changed").status(), StatusCode::OK);
    }

    #[test]
    fn the_page_obeys_its_own_policy() {
        let html = include_str!("index.html");
        for forbidden in [
            "<style",
            " style=",
            " onclick=",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert!(
            !include_str!("app.js").contains("innerHTML"),
            "records are strangers' text"
        );
    }
}
