//! All queues at a glance, and the timetable.

use std::time::Duration;

use jiff::Timestamp;
use zhuji_jobs::{JobState, QueueRecord, ScheduleRecord};

use super::{address, words};
use crate::server::admin::markup::{Markup, markup};
use crate::server::admin::page::Page;

pub(super) fn page(
    page: &Page,
    queues: &[QueueRecord],
    schedules: &[ScheduleRecord],
    now: Timestamp,
) -> Markup {
    let cards: Markup = queues.iter().map(|queue| card(page, queue)).collect();
    let queues = if queues.is_empty() {
        markup!("<p class=\"soft\" data-testid=\"empty\">No queue has jobs, limits or a schedule.</p>")
    } else {
        markup!("<div class=\"queues\">{}</div>", cards)
    };
    let rows: Markup = schedules.iter().map(|schedule| row(schedule, now)).collect();
    let timetable = (!schedules.is_empty()).then(|| {
        markup!(
            "<h2>Timetable</h2><table data-testid=\"timetable\"><thead><tr><th>Name</th><th>Queue</th><th>When</th>\
             <th>Kind</th><th>Next</th><th>Last</th></tr></thead><tbody>{}</tbody></table>",
            rows
        )
    });
    let states: Markup = JobState::ALL
        .into_iter()
        .map(|state| state_link(None, state, None))
        .collect();
    markup!(
        "{}<h2>All jobs</h2><ul class=\"counts\"><li><a href=\"/admin/jobs/list\">every state</a></li>{}</ul>{}",
        queues,
        states,
        timetable
    )
}

fn card(page: &Page, queue: &QueueRecord) -> Markup {
    let counts = &queue.counts;
    let counted: Markup = [
        (JobState::Ready, counts.ready),
        (JobState::Scheduled, counts.scheduled),
        (JobState::Running, counts.running),
        (JobState::Dead, counts.dead),
    ]
    .into_iter()
    .map(|(state, count)| state_link(Some(&queue.queue), state, Some(count)))
    .collect();
    let mut facts = Vec::new();
    if counts.oldest_ready > Duration::ZERO {
        facts.push(format!(
            "the oldest ready job waits for {}",
            words::span(counts.oldest_ready)
        ));
    }
    if counts.stuck > 0 {
        facts.push(format!("{} stuck", counts.stuck));
    }
    if counts.dead_lately > 0 {
        facts.push(format!("{} died in the last hour", counts.dead_lately));
    }
    if !queue.limit.is_none() {
        facts.push(words::limit(&queue.limit));
    }
    let kinds = queue
        .kinds
        .iter()
        .map(|(kind, limit)| format!("{kind}: {}", words::limit(limit)));
    facts.extend(kinds);
    let facts: Markup = facts
        .iter()
        .map(|fact| markup!("<p class=\"soft\">{}</p>", fact))
        .collect();
    let (action, label, verb) = if queue.paused {
        ("/admin/jobs/resume", "Resume", "resume")
    } else {
        ("/admin/jobs/pause", "Pause", "pause")
    };
    let test_id = format!("{verb}-{}", queue.queue);
    markup!(
        "<section class=\"card\" data-testid=\"queue-{}\"><div class=\"top\"><h3><a href=\"{}\">{}</a> {}</h3>{}</div>\
         <ul class=\"counts\">{}</ul>{}</section>",
        queue.queue,
        address("/admin/jobs/list", &[("queue", Some(&queue.queue))]),
        queue.queue,
        queue
            .paused
            .then(|| markup!("<span class=\"badge paused\">paused</span>")),
        page.button(action, &[("queue", &queue.queue)], label, "", &test_id),
        counted,
        facts
    )
}

fn state_link(queue: Option<&str>, state: JobState, count: Option<u64>) -> Markup {
    let alarming = state == JobState::Dead && count.is_some_and(|count| count > 0);
    markup!(
        "<li class=\"{}\"><a href=\"{}\" data-testid=\"{}\">{}{}</a></li>",
        if alarming { "alarm" } else { "" },
        address(
            "/admin/jobs/list",
            &[("state", Some(state.as_str())), ("queue", queue)]
        ),
        queue.map_or_else(
            || format!("all-{}", state.as_str()),
            |queue| format!("{queue}-{}", state.as_str())
        ),
        count.map(|count| markup!("<b>{}</b>", count)),
        state.as_str()
    )
}

fn row(schedule: &ScheduleRecord, now: Timestamp) -> Markup {
    let last = schedule.last.map(|last| match schedule.last_job {
        Some(id) => markup!(
            "<a href=\"{}\">{}</a>",
            format!("/admin/jobs/{id}"),
            words::time(last, now)
        ),
        None => words::time(last, now),
    });
    markup!(
        "<tr><td data-label=\"Name\">{}</td><td data-label=\"Queue\">{}</td><td data-label=\"When\"><code>{}</code> {}</td>\
         <td data-label=\"Kind\">{}</td><td data-label=\"Next\">{}</td><td data-label=\"Last\">{}</td></tr>",
        schedule.name,
        schedule.queue,
        schedule.cron,
        schedule.zone,
        schedule.kind,
        words::time(schedule.next, now),
        last
    )
}
