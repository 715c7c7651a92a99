//! `/admin/jobs`: the queues, their jobs, and what sets them right.

mod list;
mod one;
mod overview;
pub(super) mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, OriginalUri, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use url::form_urlencoded;
use zhuji_jobs::{Cancellation, DeadFilter, ErrorKind, JobFilter, JobId, JobState, JobsAdmin};

use super::Admin;
use super::guard::{Posted, Visit};
use super::markup::{Markup, markup};
use crate::http::Problem;

const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/admin/jobs", get(overview))
        .route("/admin/jobs/list", get(list))
        .route("/admin/jobs/pause", post(pause))
        .route("/admin/jobs/resume", post(resume))
        .route("/admin/jobs/dead/replay", post(replay))
        .route("/admin/jobs/{id}", get(one))
        .route("/admin/jobs/{id}/retry", post(retry))
        .route("/admin/jobs/{id}/cancel", post(cancel))
}

/// What a handler has found out: the same for machines and for people.
struct Found {
    json: Value,
    title: String,
    html: Markup,
}

fn answer(visit: &Visit, found: Result<Found, Problem>) -> Response {
    match found {
        Ok(found) if visit.html => visit.page.answer(StatusCode::OK, &found.title, found.html),
        Ok(found) => Json(found.json).into_response(),
        Err(problem) => visit.page.problem(visit.html, &problem),
    }
}

/// After a change: back to a page that says what was done, so that loading it again does nothing again.
fn done(visit: &Visit, changed: Result<(String, Value), Problem>) -> Response {
    match changed {
        Ok((next, _)) if visit.html => Redirect::to(&next).into_response(),
        Ok((_, json)) => Json(json).into_response(),
        Err(problem) => visit.page.problem(visit.html, &problem),
    }
}

/// What the address of a page says was just done. Words of our own only: an address can be anybody's.
fn notice(query: &Query) -> Option<Markup> {
    let text = match query.get("done")? {
        "paused" => "The queue is paused. What runs goes on.".to_owned(),
        "resumed" => "The queue runs again.".to_owned(),
        "retried" => "The job runs as soon as a worker is free.".to_owned(),
        "cancelled" => "The job is cancelled.".to_owned(),
        "requested" => {
            "Its worker is asked to stop it. Load this page again to see whether it has.".to_owned()
        }
        "replayed" => format!(
            "{} dead jobs are back in the queue.",
            query.get("count")?.parse::<u64>().ok()?
        ),
        _ => return None,
    };
    Some(markup!(
        "<p class=\"notice\" role=\"status\" data-testid=\"notice\">{}</p>",
        text
    ))
}

/// The query of an address.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &OriginalUri) -> Self {
        let query = uri.0.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// A part, if it is there and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// An address with these parts, of which those without a value are left out.
fn address(path: &str, parts: &[(&str, Option<&str>)]) -> String {
    let given = parts.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(given)
        .finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

fn address_of(id: JobId, done: &str) -> String {
    address(&format!("/admin/jobs/{id}"), &[("done", Some(done))])
}

impl Admin {
    fn jobs(&self) -> Result<&JobsAdmin, Problem> {
        let missing = || Problem::not_found("This service has no jobs: none of its modules uses them.");
        self.of.jobs.as_ref().ok_or_else(missing)
    }
}

fn problem(error: zhuji_jobs::Error) -> Problem {
    let told = || error.to_string();
    match error.kind() {
        ErrorKind::NotFound => Problem::not_found(told()),
        ErrorKind::State => Problem::conflict(told()),
        ErrorKind::InvalidInput => Problem::bad_request(told()),
        ErrorKind::Unsupported => Problem::new(StatusCode::NOT_IMPLEMENTED, told()),
        _ if error.is_retryable() => {
            let detail = "The store of the jobs can't be reached at the moment. Please try again shortly.";
            Problem::unavailable(detail, RETRY_AFTER).caused_by(&error)
        }
        _ => Problem::internal().caused_by(&error),
    }
}

fn id(text: &str) -> Result<JobId, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found("There is no such job: its id is not one."))
}

async fn overview(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    uri: OriginalUri,
) -> Response {
    let found = async {
        let jobs = admin.jobs()?;
        let queues = jobs.queues().await.map_err(problem)?;
        let schedules = jobs.schedules().await.map_err(problem)?;
        let page = overview::page(&visit.page, &queues, &schedules, Timestamp::now());
        Ok(Found {
            json: json!({ "queues": queues, "schedules": schedules }),
            title: "Jobs".to_owned(),
            html: markup!("<h1>Jobs</h1>{}{}", notice(&Query::of(&uri)), page),
        })
    };
    answer(&visit, found.await)
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    uri: OriginalUri,
) -> Response {
    let found = async {
        let query = Query::of(&uri);
        let refuse = |what: &str| Problem::bad_request(format!("`{what}` can't be read."));
        let filter = JobFilter {
            queue: query.get("queue").map(str::to_owned),
            kind: query.get("kind").map(str::to_owned),
            state: match query.get("state") {
                None => None,
                Some(state) => Some(JobState::parse(state).ok_or_else(|| refuse("state"))?),
            },
            after: query
                .get("after")
                .map(str::parse)
                .transpose()
                .map_err(|_| refuse("after"))?,
            limit: query
                .get("limit")
                .map(str::parse)
                .transpose()
                .map_err(|_| refuse("limit"))?
                .unwrap_or_default(),
        };
        let jobs = admin.jobs()?.list(filter.clone()).await.map_err(problem)?;
        let page = list::page(&visit.page, &filter, &jobs, Timestamp::now());
        Ok(Found {
            json: json!(jobs),
            title: "List of jobs".to_owned(),
            html: markup!("<h1>List of jobs</h1>{}{}", notice(&query), page),
        })
    };
    answer(&visit, found.await)
}

async fn one(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    Path(text): Path<String>,
    uri: OriginalUri,
) -> Response {
    let found = async {
        let missing = || {
            Problem::not_found("There is no such job (any more): finished jobs are kept for a while only.")
        };
        let job = admin
            .jobs()?
            .show(id(&text)?)
            .await
            .map_err(problem)?
            .ok_or_else(missing)?;
        Ok(Found {
            json: json!(job),
            title: format!("Job {}", job.record.kind),
            html: one::page(&visit.page, &job, notice(&Query::of(&uri)), Timestamp::now()),
        })
    };
    answer(&visit, found.await)
}

async fn pause(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    form: Posted,
) -> Response {
    done(&visit, set_paused(&admin, &visit, &form, true).await)
}

async fn resume(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    form: Posted,
) -> Response {
    done(&visit, set_paused(&admin, &visit, &form, false).await)
}

async fn set_paused(
    admin: &Admin,
    visit: &Visit,
    form: &Posted,
    paused: bool,
) -> Result<(String, Value), Problem> {
    let queue = form
        .get("queue")
        .ok_or_else(|| Problem::bad_request("Say which queue: `queue=…`."))?;
    let jobs = admin.jobs()?;
    if paused {
        jobs.pause(queue).await.map_err(problem)?;
    } else {
        jobs.resume(queue).await.map_err(problem)?;
    }
    tracing::info!(queue, paused, by = visit.by(), "a queue was paused or resumed");
    let done = if paused { "paused" } else { "resumed" };
    let next = address("/admin/jobs", &[("done", Some(done))]);
    Ok((next, json!({ "queue": queue, "paused": paused })))
}

async fn retry(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    Path(text): Path<String>,
    _: Posted,
) -> Response {
    let changed = async {
        let id = id(&text)?;
        admin.jobs()?.retry(id).await.map_err(problem)?;
        tracing::info!(job = %id, by = visit.by(), "a job is retried");
        Ok((address_of(id, "retried"), json!({ "id": id, "retried": true })))
    };
    done(&visit, changed.await)
}

async fn cancel(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    Path(text): Path<String>,
    _: Posted,
) -> Response {
    let changed = async {
        let id = id(&text)?;
        let cancellation = admin.jobs()?.cancel(id).await.map_err(problem)?;
        tracing::info!(job = %id, by = visit.by(), "a job is cancelled");
        let word = match cancellation {
            Cancellation::Cancelled => "cancelled",
            _ => "requested",
        };
        Ok((
            address_of(id, word),
            json!({ "id": id, "cancellation": cancellation }),
        ))
    };
    done(&visit, changed.await)
}

async fn replay(
    State(admin): State<Arc<Admin>>,
    Extension(visit): Extension<Visit>,
    form: Posted,
) -> Response {
    let changed = async {
        let (queue, kind) = (form.get("queue"), form.get("kind"));
        let filter = DeadFilter {
            queue: queue.map(str::to_owned),
            kind: kind.map(str::to_owned),
        };
        let replayed = admin.jobs()?.replay_dead(filter).await.map_err(problem)?;
        tracing::info!(queue, kind, replayed, by = visit.by(), "dead jobs were replayed");
        let count = replayed.to_string();
        let parts = [
            ("state", Some("dead")),
            ("queue", queue),
            ("kind", kind),
            ("done", Some("replayed")),
            ("count", Some(count.as_str())),
        ];
        Ok((
            address("/admin/jobs/list", &parts),
            json!({ "replayed": replayed }),
        ))
    };
    done(&visit, changed.await)
}
