//! What all pages have in common.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};

use super::markup::{Markup, markup};
use crate::http::Problem;
use crate::server::current_request_id;

const STYLE: &str = include_str!("style.css");

/// No script at all, and nothing from elsewhere. `data:` is the icon that there is none of.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

pub(super) async fn style() -> Response {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    let cache = HeaderValue::from_static("max-age=300");
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], STYLE).into_response()
}

/// The headers of every answer of the pages.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // With `no-referrer` browsers would also hide where a form comes from.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(VARY, HeaderValue::from_static("accept, authorization, cookie"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The frame of the pages of one visit.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) service: &'static str,
    /// Of a browser's session.
    pub(super) form_token: Option<String>,
}

impl Page {
    /// A page for somebody who is logged in.
    pub(super) fn answer(&self, status: StatusCode, title: &str, content: Markup) -> Response {
        self.answer_with(Markup::default(), status, title, content)
    }

    /// The same with something more in its head.
    pub(super) fn answer_with(
        &self,
        head: Markup,
        status: StatusCode,
        title: &str,
        content: Markup,
    ) -> Response {
        let body = markup!(
            "<header><nav><strong>{}</strong><a href=\"/admin\">Status</a>\
             <a href=\"/admin/jobs\">Jobs</a></nav>{}</header><main>{}</main>",
            self.service,
            self.form_token.is_some().then(|| self.button(
                "/admin/logout",
                &[],
                "Log out",
                "quiet",
                "logout"
            )),
            content
        );
        document_with(head, status, self.service, title, body)
    }

    /// A form of one button.
    pub(super) fn button(
        &self,
        action: &str,
        fields: &[(&'static str, &str)],
        label: &str,
        class: &'static str,
        test_id: &str,
    ) -> Markup {
        let fields = fields
            .iter()
            .copied()
            .chain(self.form_token.as_deref().map(|token| ("form", token)));
        let fields: Markup = fields
            .map(|(name, value)| markup!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", name, value))
            .collect();
        markup!(
            "<form method=\"post\" action=\"{}\">{}<button class=\"{}\" data-testid=\"{}\">{}</button></form>",
            action,
            fields,
            class,
            test_id,
            label
        )
    }

    /// A problem as a page, or as machines get it.
    pub(super) fn problem(&self, html: bool, problem: &Problem) -> Response {
        let mut response = problem.clone().into_response();
        if !html {
            return response;
        }
        let status = problem.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let id = current_request_id()
            .filter(|_| status.is_server_error())
            .map(|id| markup!("<p class=\"soft\">Request id: <code>{}</code></p>", id));
        let content = markup!(
            "<h1>{}</h1><p class=\"notice bad\" role=\"alert\" data-testid=\"problem\">{}</p>{}\
             <p><a href=\"/admin/jobs\">To the queues</a></p>",
            title,
            problem.detail(),
            id
        );
        // Its status and its headers (`retry-after`) stay.
        let (parts, body) = self.answer(status, title, content).into_parts();
        *response.body_mut() = body;
        response.headers_mut().extend(parts.headers);
        response
    }
}

/// A whole document.
pub(super) fn document(status: StatusCode, service: &str, title: &str, body: Markup) -> Response {
    document_with(Markup::default(), status, service, title, body)
}

fn document_with(head: Markup, status: StatusCode, service: &str, title: &str, body: Markup) -> Response {
    let html = markup!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{} · {}</title>\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/admin/style.css\">{}</head>\
         <body>{}</body></html>",
        title,
        service,
        head,
        body
    );
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(CONTENT_TYPE, kind)], Body::from(html.into_string())).into_response()
}
