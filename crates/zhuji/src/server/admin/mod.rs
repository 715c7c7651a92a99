//! What an operator may see and change while the service runs, with the admin token: pages for people, JSON for
//! machines.
//!
//! A machine sends the token with every request. A browser gives it once, at the form of [`guard`], and holds a
//! [`session`] from then on. Pages are made of [`markup`], which escapes everything that is not written in this source.

mod guard;
mod jobs;
mod log_filter;
mod markup;
mod page;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{get, post, put};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use url::Url;
use zhuji_config::Secret;
use zhuji_jobs::JobsAdmin;
use zhuji_logging::LogHandle;

use self::session::Sessions;

/// What the pages are about.
pub(crate) struct Administered {
    /// The name of the service, in titles.
    pub(crate) name: &'static str,
    /// Where users reach it. Over https the session's cookie is sent over nothing else.
    pub(crate) base_url: Option<Url>,
    pub(crate) log: LogHandle,
    /// None where no module uses jobs.
    pub(crate) jobs: Option<JobsAdmin>,
}

struct Admin {
    token: Secret,
    sessions: Sessions,
    of: Administered,
}

/// The routes under `/admin`. Without a token there are none.
pub(crate) fn admin(token: Option<Secret>, of: Administered) -> Router {
    let Some(token) = token else { return Router::new() };
    let admin = Arc::new(Admin {
        sessions: Sessions::new(&token),
        token,
        of,
    });
    let pages = Router::new()
        .route("/admin", get(|| async { Redirect::to("/admin/jobs") }))
        .route("/admin/logout", post(guard::logout))
        .merge(jobs::routes())
        .layer(from_fn_with_state(admin.clone(), guard::guard));
    let door = Router::new()
        .route("/admin/login", get(guard::login_page).post(guard::login))
        .route("/admin/style.css", get(page::style));
    Router::new()
        .merge(pages)
        .merge(door)
        .layer(from_fn(page::harden))
        .route("/admin/log-filter", put(log_filter::set))
        .with_state(admin)
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
