//! `zhuji jobs queues`, `list` and `show`.

use serde_json::json;
use zhuji_jobs::{JobDetail, JobFilter, JobId, JobPage, JobState, JobsAdmin, Limit, QueueRecord};

use super::args::{Filter, PageOf};
use super::table::{clean, lines};
use crate::failure::Failure;
use crate::storage::say;

/// Characters of an error in a list.
const EXCERPT: usize = 80;

pub(super) async fn queues(jobs: &JobsAdmin, as_json: bool) -> Result<(), Failure> {
    let (queues, schedules) = (jobs.queues().await?, jobs.schedules().await?);
    if as_json {
        say(&json!({ "queues": queues, "schedules": schedules }).to_string());
        return Ok(());
    }
    let head = [
        "QUEUE",
        "READY",
        "SCHEDULED",
        "RUNNING",
        "DEAD",
        "OLDEST READY",
        "STATE",
        "LIMITS",
    ];
    let rows: Vec<_> = queues.iter().map(of_queue).collect();
    lines(head, &rows).iter().for_each(|line| say(line));
    if !schedules.is_empty() {
        say("");
        let rows: Vec<_> = schedules
            .into_iter()
            .map(|entry| {
                let next = format!("{:.0}", entry.next);
                [entry.name, entry.queue, entry.cron, entry.zone, entry.kind, next]
            })
            .collect();
        lines(["SCHEDULE", "QUEUE", "WHEN", "ZONE", "KIND", "NEXT"], &rows)
            .iter()
            .for_each(|line| say(line));
    }
    Ok(())
}

fn of_queue(queue: &QueueRecord) -> [String; 8] {
    let counts = &queue.counts;
    let kinds = queue
        .kinds
        .iter()
        .map(|(kind, limit)| format!("{kind}: {}", of_limit(limit)));
    let own = (!queue.limit.is_none()).then(|| of_limit(&queue.limit));
    [
        queue.queue.clone(),
        counts.ready.to_string(),
        counts.scheduled.to_string(),
        counts.running.to_string(),
        counts.dead.to_string(),
        format!("{} s", counts.oldest_ready.as_secs()),
        if queue.paused { "paused" } else { "runs" }.to_owned(),
        own.into_iter().chain(kinds).collect::<Vec<_>>().join("; "),
    ]
}

fn of_limit(limit: &Limit) -> String {
    let running = limit.running.map(|jobs| format!("{jobs} at once"));
    let rate = limit
        .rate
        .map(|rate| format!("{} in {} s", rate.count, rate.per.as_secs_f64()));
    running.into_iter().chain(rate).collect::<Vec<_>>().join(", ")
}

pub(super) async fn list(
    jobs: &JobsAdmin,
    filter: &Filter,
    state: Option<JobState>,
    page: &PageOf,
) -> Result<(), Failure> {
    let filter = JobFilter {
        queue: filter.queue.clone(),
        kind: filter.kind.clone(),
        state,
        after: page.after,
        limit: page.limit.into(),
    };
    let found = jobs.list(filter).await?;
    if page.json.json {
        say(&json!(found).to_string());
    } else {
        table(&found);
        if let Some(next) = found.next {
            eprintln!("older ones: --after {next}");
        }
    }
    Ok(())
}

fn table(page: &JobPage) {
    let rows: Vec<_> = page
        .jobs
        .iter()
        .map(|job| {
            let time = match job.state {
                JobState::Running => job.started_at,
                state if state.is_final() => job.finished_at,
                _ => None,
            };
            [
                job.id.to_string(),
                job.state.as_str().to_owned(),
                job.queue.clone(),
                job.kind.clone(),
                format!("{}/{}", job.attempt, job.max_attempts),
                format!("{:.0}", time.unwrap_or(job.run_at)),
                job.error
                    .as_deref()
                    .unwrap_or_default()
                    .chars()
                    .take(EXCERPT)
                    .collect(),
            ]
        })
        .collect();
    let head = [
        "ID",
        "STATE",
        "QUEUE",
        "KIND",
        "ATTEMPTS",
        "DUE/SINCE/ENDED",
        "ERROR",
    ];
    lines(head, &rows).iter().for_each(|line| say(line));
}

pub(super) async fn show(jobs: &JobsAdmin, id: JobId, as_json: bool) -> Result<(), Failure> {
    let Some(job) = jobs.show(id).await? else {
        return Err(Failure::failed(format!(
            "there is no job {id} (any more): finished jobs are kept for a while only"
        )));
    };
    if as_json {
        say(&json!(job).to_string());
    } else {
        whole(&job);
    }
    Ok(())
}

fn whole(job: &JobDetail) {
    let record = &job.record;
    let time = |time: Option<_>| time.map(|time| format!("{time:.3}"));
    let facts = [
        ("id", Some(record.id.to_string())),
        ("kind", Some(record.kind.clone())),
        ("queue", Some(record.queue.clone())),
        ("state", Some(record.state.as_str().to_owned())),
        (
            "cancellation",
            job.cancel_requested
                .then(|| "its worker has been asked to stop it".to_owned()),
        ),
        (
            "progress",
            job.progress
                .map(|progress| format!("{} of {}", progress.done, progress.total)),
        ),
        (
            "attempts",
            Some(format!("{} of {}", record.attempt, record.max_attempts)),
        ),
        ("priority", Some(record.priority.to_string())),
        ("enqueued", time(Some(record.created_at))),
        ("due", time((!record.state.is_final()).then_some(record.run_at))),
        ("started", time(record.started_at)),
        ("ended", time(record.finished_at)),
        ("unique key", record.unique_key.clone()),
        ("batch", record.batch.map(|batch| batch.to_string())),
        ("request id", record.request_id.clone()),
        ("trace", record.traceparent.clone()),
        ("error", record.error.clone()),
        ("result", job.result.clone()),
        ("data", Some(record.payload.clone())),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            say(&format!("{name:<12}  {}", clean(&value)));
        }
    }
    let attempts: Vec<_> = job
        .history
        .iter()
        .map(|attempt| {
            [
                attempt.attempt.to_string(),
                attempt.outcome.as_str().to_owned(),
                time(attempt.started).unwrap_or_default(),
                time(attempt.ended).unwrap_or_default(),
                attempt
                    .worker
                    .map(|worker| worker.to_string())
                    .unwrap_or_default(),
                attempt.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    if !attempts.is_empty() {
        say("");
        let head = ["ATTEMPT", "OUTCOME", "STARTED", "ENDED", "WORKER", "ERROR"];
        lines(head, &attempts).iter().for_each(|line| say(line));
    }
}
