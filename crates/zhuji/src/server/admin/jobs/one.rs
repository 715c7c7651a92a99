//! One job: what it is, what became of it, and what can be done about it.

use std::time::Duration;

use jiff::Timestamp;
use zhuji_jobs::{AttemptRecord, JobDetail, JobState};

use super::{address, words};
use crate::server::admin::markup::{Markup, Part, markup};
use crate::server::admin::page::Page;

pub(super) fn page(page: &Page, job: &JobDetail, notice: Option<Markup>, now: Timestamp) -> Markup {
    let record = &job.record;
    let error = record
        .error
        .as_ref()
        .map(|error| markup!("<h2>Error</h2><pre data-testid=\"error\">{}</pre>", error));
    let result = job.result.as_ref().map(|result| {
        markup!(
            "<h2>Result</h2><pre data-testid=\"result\">{}</pre>",
            words::pretty(result)
        )
    });
    markup!(
        "<h1>{} {}</h1>{}{}{}{}{}<h2>Data</h2><pre data-testid=\"payload\">{}</pre>{}",
        record.kind,
        words::state(record.state),
        notice,
        actions(page, job),
        facts(job, now),
        error,
        result,
        words::pretty(&record.payload),
        history(&job.history, now)
    )
}

fn actions(page: &Page, job: &JobDetail) -> Markup {
    let (id, state) = (job.record.id, job.record.state);
    let retry = match state {
        JobState::Dead | JobState::Cancelled => Some("Retry"),
        JobState::Scheduled => Some("Run now"),
        _ => None,
    };
    let retry =
        retry.map(|label| page.button(&format!("/admin/jobs/{id}/retry"), &[], label, "primary", "retry"));
    let cancel = (!state.is_final() && !job.cancel_requested).then(|| {
        page.button(
            &format!("/admin/jobs/{id}/cancel"),
            &[],
            "Cancel",
            "danger",
            "cancel",
        )
    });
    markup!("<div class=\"actions\">{}{}</div>", retry, cancel)
}

fn facts(job: &JobDetail, now: Timestamp) -> Markup {
    let record = &job.record;
    let in_queue = address("/admin/jobs/list", &[("queue", Some(&record.queue))]);
    let progress = job.progress.map(|progress| {
        markup!(
            "<progress max=\"{}\" value=\"{}\"></progress> {} of {}",
            progress.total,
            progress.done,
            progress.done,
            progress.total
        )
    });
    let code = |text: &String| markup!("<code>{}</code>", text);
    let all = [
        fact("Id", Some(markup!("<code>{}</code>", record.id))),
        fact(
            "Queue",
            Some(markup!("<a href=\"{}\">{}</a>", in_queue, record.queue)),
        ),
        fact("Progress", progress),
        fact(
            "Attempts",
            Some(format!("{} of {}", record.attempt, record.max_attempts)),
        ),
        fact("Priority", Some(record.priority)),
        fact("Enqueued", Some(words::time(record.created_at, now))),
        fact(
            "Due",
            (!record.state.is_final()).then(|| words::time(record.run_at, now)),
        ),
        fact("Started", record.started_at.map(|at| words::time(at, now))),
        fact("Ended", record.finished_at.map(|at| words::time(at, now))),
        fact(
            "Cancellation",
            job.cancel_requested
                .then_some("its worker has been asked to stop it"),
        ),
        fact("Unique key", record.unique_key.as_ref().map(code)),
        fact("Batch", record.batch.map(|batch| code(&batch.to_string()))),
        fact("Request id", record.request_id.as_ref().map(code)),
        fact("Trace", record.traceparent.as_ref().map(code)),
    ];
    let all: Markup = all.into_iter().flatten().collect();
    markup!("<dl data-testid=\"facts\">{}</dl>", all)
}

fn fact(name: &str, value: Option<impl Part>) -> Option<Markup> {
    value.map(|value| markup!("<dt>{}</dt><dd>{}</dd>", name, value))
}

fn history(attempts: &[AttemptRecord], now: Timestamp) -> Markup {
    if attempts.is_empty() {
        return markup!("<h2>Attempts</h2><p class=\"soft\">None yet.</p>");
    }
    let rows: Markup = attempts
        .iter()
        .map(|attempt| {
            let took = attempt.started.zip(attempt.ended).map(|(started, ended)| {
                words::span(Duration::try_from(ended.duration_since(started)).unwrap_or_default())
            });
            let outcome = attempt.outcome.as_str();
            markup!(
                "<tr><td data-label=\"Attempt\">{}</td><td data-label=\"Outcome\"><span><span class=\"badge {}\">{}</span>\
                 </span></td><td data-label=\"Started\">{}</td><td data-label=\"Took\">{}</td>\
                 <td data-label=\"Worker\">{}</td><td class=\"error\" data-label=\"Error\">{}</td></tr>",
                attempt.attempt,
                outcome,
                outcome,
                attempt.started.map(|at| words::time(at, now)),
                took,
                // The first digits tell workers apart.
                attempt.worker.map(|worker| worker.to_string().chars().take(8).collect::<String>()),
                attempt.error
            )
        })
        .collect();
    markup!(
        "<h2>Attempts</h2><table data-testid=\"history\"><thead><tr><th>Attempt</th><th>Outcome</th><th>Started</th>\
         <th>Took</th><th>Worker</th><th>Error</th></tr></thead><tbody>{}</tbody></table>",
        rows
    )
}
