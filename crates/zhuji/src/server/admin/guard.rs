//! Who comes in, and what comes from elsewhere and only looks as if it came from a page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{ACCEPT, AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use url::{Url, form_urlencoded};

use super::markup::markup;
use super::page::{self, Page};
use super::session::{Session, Sessions};
use super::token::Shown;
use super::{Admin, status};
use crate::http::Problem;

/// Room for the fields of our largest form.
const LONGEST_FORM: usize = 64 << 10;

/// Who asks, and for what. There is one for every request that the guard let in.
#[derive(Clone)]
pub(super) struct Visit {
    /// The session of a browser; `None` for a machine with the token.
    session: Option<Session>,
    /// A page, not JSON.
    pub(super) html: bool,
    pub(super) page: Page,
}

impl Visit {
    /// Whom it is by, for the log.
    pub(super) fn by(&self) -> &'static str {
        if self.session.is_some() {
            "browser"
        } else {
            "token"
        }
    }
}

/// Lets in whoever has the token or a session, and a change only from our own pages.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let (html, now, https) = (wants_html(headers), Timestamp::now(), is_https(&admin, headers));
    let session = admin.sessions.read(headers, now);
    let session = match (admin.token.in_headers(headers), session) {
        (Shown::Right, _) => None,
        (Shown::Nothing, Some(session)) if !headers.contains_key(AUTHORIZATION) => Some(session),
        (Shown::TooMany(wait), _) => return throttled(wait),
        _ if html => {
            // Back to what was asked for, if it can be asked for again.
            let asked = request
                .uri()
                .path_and_query()
                .filter(|_| request.method() == Method::GET);
            let next = asked.map_or("/admin", |asked| asked.as_str());
            return door(&admin, StatusCode::UNAUTHORIZED, next, None);
        }
        _ => {
            let detail = "Send the admin token as `authorization: Bearer …`, or log in with a browser.";
            return Problem::unauthorized(detail).into_response();
        }
    };
    let page = Page {
        service: admin.of.name,
        form_token: session.as_ref().map(|session| admin.sessions.form_token(session)),
    };
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    if session.is_some() && is_change && !is_from_here(&admin, headers) {
        tracing::warn!("a form of another site was refused");
        return page.problem(
            html,
            &Problem::forbidden("This form does not come from this service's pages."),
        );
    }
    // A page that loads itself again is no sign of a person.
    let by_itself = request.uri().query() == Some(status::BY_ITSELF);
    let renewed = session
        .as_ref()
        .filter(|_| !by_itself)
        .and_then(|session| session.renewed(now));
    request.extensions_mut().insert(Visit { session, html, page });
    let mut response = next.run(request).await;
    if let Some(renewed) = renewed.filter(|_| !response.headers().contains_key(SET_COOKIE)) {
        let cookie = admin.sessions.cookie(&renewed, https);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

pub(super) async fn login_page(State(admin): State<Arc<Admin>>) -> Response {
    door(&admin, StatusCode::OK, "/admin", None)
}

pub(super) async fn login(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_from_here(&admin, &parts.headers) {
        return door(
            &admin,
            StatusCode::FORBIDDEN,
            "/admin",
            Some("Log in here, please."),
        );
    }
    let fields = match fields(body).await {
        Ok(fields) => fields,
        Err(problem) => return door(&admin, problem.status(), "/admin", Some(problem.detail())),
    };
    let next = fields
        .get("next")
        .map(String::as_str)
        .filter(|next| is_ours(next))
        .unwrap_or("/admin");
    let given = fields.get("token").map(String::as_str).unwrap_or_default();
    match admin.token.show(given) {
        Shown::Right => {}
        Shown::TooMany(wait) => {
            let complaint = format!("Too many wrong tokens. Try again in {} s.", seconds(wait));
            let page = door(&admin, StatusCode::TOO_MANY_REQUESTS, next, Some(&complaint));
            return ([(RETRY_AFTER, seconds(wait).to_string())], page).into_response();
        }
        _ => {
            let complaint = Some("That is not the token.");
            return door(&admin, StatusCode::UNAUTHORIZED, next, complaint);
        }
    }
    tracing::info!("an operator logged in");
    let cookie = admin
        .sessions
        .cookie(&Session::new(Timestamp::now()), is_https(&admin, &parts.headers));
    ([(SET_COOKIE, cookie)], Redirect::to(next)).into_response()
}

pub(super) async fn logout(State(admin): State<Arc<Admin>>, headers: HeaderMap, _: Posted) -> Response {
    let cookie = Sessions::no_cookie(is_https(&admin, &headers));
    ([(SET_COOKIE, cookie)], Redirect::to("/admin/login")).into_response()
}

fn throttled(wait: Duration) -> Response {
    let detail =
        "There were too many wrong tokens in the last minute; none is looked at until `retry-after`.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .header(RETRY_AFTER, seconds(wait).into())
        .into_response()
}

/// Whole ones, and enough of them.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

/// The login form.
fn door(admin: &Admin, status: StatusCode, next: &str, complaint: Option<&str>) -> Response {
    let complaint = complaint.map(|text| {
        markup!(
            "<p class=\"notice bad\" role=\"alert\" data-testid=\"complaint\">{}</p>",
            text
        )
    });
    let body = markup!(
        "<main class=\"door\"><h1>{}</h1>{}<form method=\"post\" action=\"/admin/login\">\
         <input type=\"hidden\" name=\"next\" value=\"{}\">\
         <input name=\"username\" value=\"admin\" autocomplete=\"username\" hidden>\
         <label for=\"token\">Admin token</label>\
         <input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"current-password\" required autofocus \
         data-testid=\"token\"><button class=\"primary\" data-testid=\"login\">Log in</button></form>\
         <p class=\"soft\">The value of <code>ADMIN_TOKEN</code>. You stay logged in for an hour after the last click.</p>\
         </main>",
        admin.of.name,
        complaint,
        next
    );
    page::document(status, admin.of.name, "Log in", body)
}

/// The fields of a form of one of our pages, or of a machine's request.
pub(super) struct Posted(BTreeMap<String, String>);

impl Posted {
    /// A field, if it is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

impl FromRequest<Arc<Admin>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        // The guard put it there; without it nobody gets in.
        let visit = parts
            .extensions
            .get::<Visit>()
            .ok_or_else(|| Problem::internal().into_response())?;
        let refuse = |problem: Problem| visit.page.problem(visit.html, &problem);
        let fields = fields(body).await.map_err(refuse)?;
        if let Some(session) = &visit.session {
            let given = fields.get("form").map(String::as_str).unwrap_or_default();
            if !admin.sessions.is_form_token(session, given) {
                let detail = "This page is from an older login. Go back, load it again and repeat the step.";
                return Err(refuse(Problem::forbidden(detail)));
            }
        }
        Ok(Self(fields))
    }
}

async fn fields(body: Body) -> Result<BTreeMap<String, String>, Problem> {
    let body = to_bytes(body, LONGEST_FORM).await;
    let body = body.map_err(|_| Problem::bad_request("The form could not be read."))?;
    Ok(form_urlencoded::parse(&body).into_owned().collect())
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Whether the browser says that one of our own pages sent this. Scripts of other sites can't set these headers.
fn is_from_here(admin: &Admin, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Not sent over plain http to another machine; the origin of a form always is.
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text(ORIGIN.as_str()).and_then(|origin| origin.parse::<Url>().ok()) else {
        return false;
    };
    let public = admin
        .of
        .base_url
        .as_ref()
        .is_some_and(|base| base.origin() == origin.origin());
    let authority = &origin[url::Position::BeforeHost..url::Position::AfterPort];
    public || text(HOST.as_str()).is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// Whether users come over TLS, which may end before us.
fn is_https(admin: &Admin, headers: &HeaderMap) -> bool {
    let forwarded = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto == "https");
    forwarded
        || admin
            .of
            .base_url
            .as_ref()
            .is_some_and(|base| base.scheme() == "https")
}

/// Whether an address leads to our own pages: after the login nobody is sent anywhere else.
fn is_ours(next: &str) -> bool {
    let below = next
        .strip_prefix("/admin")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    below && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_leads_to_our_own_pages_only() {
        for ours in ["/admin", "/admin/jobs/list?state=dead&queue=a%20b", "/admin?x"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "",
            "/",
            "//evil.example/admin",
            "https://evil.example/admin",
            "/administrator",
            "/admin/\r\nset-cookie: x",
            "/admin\\@evil.example",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
