//! The jobs that fit a filter, page by page.

use jiff::Timestamp;
use zhuji_jobs::{JobFilter, JobPage, JobRecord, JobState};

use super::{address, words};
use crate::server::admin::markup::{Markup, markup};
use crate::server::admin::page::Page;

/// Characters of an error in the list.
const EXCERPT: usize = 160;

pub(super) fn page(page: &Page, filter: &JobFilter, jobs: &JobPage, now: Timestamp) -> Markup {
    let rows: Markup = jobs.jobs.iter().map(|job| row(job, now)).collect();
    let table = if jobs.jobs.is_empty() {
        markup!("<p class=\"soft\" data-testid=\"empty\">No job fits.</p>")
    } else {
        markup!(
            "<table><thead><tr><th>Job</th><th>State</th><th>Queue</th><th>Attempts</th><th>Time</th><th>Error</th>\
             </tr></thead><tbody>{}</tbody></table>",
            rows
        )
    };
    let (queue, kind, state) = (
        filter.queue.as_deref(),
        filter.kind.as_deref(),
        filter.state.map(JobState::as_str),
    );
    let turn = |after: Option<&str>| {
        let limit = (filter.limit > 0).then(|| filter.limit.to_string());
        let parts = [
            ("state", state),
            ("queue", queue),
            ("kind", kind),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        address("/admin/jobs/list", &parts)
    };
    let first = filter
        .after
        .map(|_| markup!("<a class=\"button\" href=\"{}\">Newest</a>", turn(None)));
    let older = jobs.next.map(|next| {
        let address = turn(Some(&next.to_string()));
        markup!(
            "<a class=\"button\" href=\"{}\" data-testid=\"older\">Older</a>",
            address
        )
    });
    markup!(
        "{}{}{}<div class=\"actions\">{}{}</div>",
        form(filter),
        replay(page, filter, jobs),
        table,
        first,
        older
    )
}

/// Works without a script: it only loads another address.
fn form(filter: &JobFilter) -> Markup {
    let states: Markup = JobState::ALL
        .into_iter()
        .map(|state| {
            let selected = (filter.state == Some(state)).then(|| markup!(" selected"));
            markup!(
                "<option value=\"{}\"{}>{}</option>",
                state.as_str(),
                selected,
                state.as_str()
            )
        })
        .collect();
    markup!(
        "<form class=\"filter\" method=\"get\" action=\"/admin/jobs/list\"><label>State<select name=\"state\">\
         <option value=\"\">every state</option>{}</select></label>\
         <label>Queue<input name=\"queue\" value=\"{}\" autocomplete=\"off\"></label>\
         <label>Kind<input name=\"kind\" value=\"{}\" autocomplete=\"off\"></label>\
         <button data-testid=\"filter\">Show</button></form>",
        states,
        filter.queue,
        filter.kind
    )
}

/// All dead jobs of this list, not only those of this page.
fn replay(page: &Page, filter: &JobFilter, jobs: &JobPage) -> Option<Markup> {
    if filter.state != Some(JobState::Dead) || jobs.jobs.is_empty() {
        return None;
    }
    let of = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(" of {name} “{value}”"));
    let which = [of("queue", &filter.queue), of("kind", &filter.kind)]
        .into_iter()
        .flatten()
        .collect::<String>();
    let fields = [
        ("queue", filter.queue.as_deref()),
        ("kind", filter.kind.as_deref()),
    ];
    let fields: Vec<(&str, &str)> = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let label = "Replay all of them";
    Some(markup!(
        "<details><summary data-testid=\"replay-open\">Replay the dead jobs{}</summary>\
         <p class=\"soft\">Every dead job{} goes back into its queue with all its attempts, also those that this page \
         does not show.</p>{}</details>",
        which,
        which,
        page.button("/admin/jobs/dead/replay", &fields, label, "danger", "replay")
    ))
}

fn row(job: &JobRecord, now: Timestamp) -> Markup {
    let (word, time) = match job.state {
        JobState::Ready | JobState::Scheduled => ("due", job.run_at),
        JobState::Running => ("since", job.started_at.unwrap_or(job.run_at)),
        _ => ("ended", job.finished_at.unwrap_or(job.run_at)),
    };
    let error = job.error.as_deref().unwrap_or_default();
    let excerpt: String = error.chars().take(EXCERPT).collect();
    let more = if excerpt.len() < error.len() { "…" } else { "" };
    markup!(
        "<tr data-testid=\"job\"><td data-label=\"Job\"><a href=\"/admin/jobs/{}\" data-testid=\"open\">{}</a></td>\
         <td data-label=\"State\"><span>{}</span></td><td data-label=\"Queue\">{}</td>\
         <td data-label=\"Attempts\"><span class=\"short\">{} of {}</span></td>\
         <td data-label=\"Time\"><span>{} {}</span></td><td class=\"error\" data-label=\"Error\">{}{}</td></tr>",
        job.id,
        job.kind,
        words::state(job.state),
        job.queue,
        job.attempt,
        job.max_attempts,
        word,
        words::time(time, now),
        excerpt,
        more
    )
}
