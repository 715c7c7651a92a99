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
    let states = JobState::ALL.into_iter().map(|state| {
        let list = address("/admin/jobs/list", &[("state", Some(state.as_str()))]);
        markup!("<a href=\"{}\">{}</a>", list, state.as_str())
    });
    let states: Markup = states.collect();
    markup!(
        "{}<h2>All jobs</h2><p class=\"states\"><a href=\"/admin/jobs/list\">every state</a>{}</p>{}",
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
    .map(|(state, count)| counted(&queue.queue, state, count))
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

fn counted(queue: &str, state: JobState, count: u64) -> Markup {
    let state_name = state.as_str();
    markup!(
        "<li class=\"{}\"><a href=\"{}\" data-testid=\"{}\"><b>{}</b>{}</a></li>",
        if state == JobState::Dead && count > 0 {
            "alarm"
        } else {
            ""
        },
        address(
            "/admin/jobs/list",
            &[("state", Some(state_name)), ("queue", Some(queue))]
        ),
        format!("{queue}-{state_name}"),
        count,
        state_name
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
        "<tr><td data-label=\"Name\">{}</td><td data-label=\"Queue\">{}</td><td data-label=\"When\"><span><code>{}</code> {}</span></td>\
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
