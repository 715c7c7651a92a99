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
mod status;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use url::Url;
use zhuji_cache::Cache;
use zhuji_db_pool::DbPool;
use zhuji_health::HealthMonitor;
use zhuji_jobs::JobsAdmin;
use zhuji_logging::LogHandle;
use zhuji_metrics::MetricsExporter;

use self::session::Sessions;
use self::status::History;
pub(crate) use self::token::AdminToken;

/// What the pages are about.
pub(crate) struct Administered {
    /// The name of the service, in titles.
    pub(crate) name: &'static str,
    /// What else is known of this process: `version`, `mode` and so on, in the order in which they are shown.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Where users reach it. Over https the session's cookie is sent over nothing else.
    pub(crate) base_url: Option<Url>,
    pub(crate) log: LogHandle,
    pub(crate) health: HealthMonitor,
    pub(crate) metrics: MetricsExporter,
    /// None where no module needs it; so with the next ones.
    pub(crate) db: Option<DbPool>,
    pub(crate) cache: Option<Cache>,
    pub(crate) jobs: Option<JobsAdmin>,
}

struct Admin {
    token: Arc<AdminToken>,
    sessions: Sessions,
    history: Arc<History>,
    of: Administered,
}

/// The routes under `/admin`. Without a token there are none.
pub(crate) fn admin(token: Option<Arc<AdminToken>>, of: impl FnOnce() -> Administered) -> Router {
    let Some(token) = token else { return Router::new() };
    let of = of();
    let admin = Arc::new(Admin {
        sessions: Sessions::new(token.secret()),
        token,
        history: History::start(of.metrics.clone()),
        of,
    });
    let log_filter = get(log_filter::show)
        .put(log_filter::set)
        .post(log_filter::form)
        .delete(log_filter::reset);
    let pages = Router::new()
        .route("/admin", get(status::show))
        .route("/admin/log-filter", log_filter)
        .route("/admin/logout", post(guard::logout))
        .merge(jobs::routes())
        .layer(from_fn_with_state(admin.clone(), guard::guard));
    let door = Router::new()
        .route("/admin/login", get(guard::login_page).post(guard::login))
        .route("/admin/style.css", get(page::style))
        .route("/admin/status.js", get(status::script));
    Router::new()
        .merge(pages)
        .merge(door)
        .layer(from_fn(page::harden))
        .with_state(admin)
}
