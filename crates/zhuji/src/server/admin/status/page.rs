//! The same for people.

use std::time::Duration;

use jiff::Timestamp;
use zhuji_health::CheckState;
use zhuji_jobs::QueueRecord;
use zhuji_logging::RecentError;

use super::chart;
use super::gather::{Cache, Jobs, Operation, Pool, Status, Storage};
use super::history::Sample;
use crate::server::admin::jobs::words;
use crate::server::admin::markup::{Markup, markup};
use crate::server::admin::page::Page;

pub(super) fn page(page: &Page, status: &Status, now: Timestamp) -> Markup {
    markup!(
        "<p class=\"notice bad\" role=\"alert\" data-stale hidden>This page is not up to date: the service did not answer.</p>\
         <div data-live>{}{}<div class=\"panels\">{}{}{}{}{}</div>{}</div>{}",
        head(status),
        charts(status),
        panel("Health", "health", &checks(&status.checks, now)),
        status
            .pool
            .as_ref()
            .map(|found| panel("Database connections", "pool", &pool(found))),
        status
            .cache
            .as_ref()
            .map(|found| panel("Cache", "cache", &cache(found))),
        status
            .jobs
            .as_ref()
            .map(|found| panel("Jobs", "jobs", &jobs(found))),
        status
            .storage
            .as_ref()
            .map(|found| panel("Storage", "storage", &storage(found))),
        panel("Recent errors", "errors", &errors(&status.errors, now)),
        log(page, status)
    )
}

fn panel(title: &str, test_id: &str, content: &Markup) -> Markup {
    markup!(
        "<section class=\"panel\" aria-labelledby=\"{}-title\" data-testid=\"{}\"><h2 id=\"{}-title\">{}</h2>{}</section>",
        test_id,
        test_id,
        test_id,
        title,
        content
    )
}

/// A short table: what it is, and the value.
fn facts(rows: impl IntoIterator<Item = (&'static str, Markup)>) -> Markup {
    let rows: Markup = rows
        .into_iter()
        .map(|(name, value)| markup!("<dt>{}</dt><dd>{}</dd>", name, value))
        .collect();
    markup!("<dl class=\"facts\">{}</dl>", rows)
}

fn text(text: impl Into<String>) -> Markup {
    markup!("{}", text.into())
}

fn badge(class: &str, word: &str) -> Markup {
    markup!("<span class=\"badge {}\">{}</span>", class, word)
}

fn head(status: &Status) -> Markup {
    let class = match status.status {
        "ok" => "up",
        "degraded" => "degraded",
        _ => "down",
    };
    let facts: Markup = status
        .facts
        .iter()
        .map(|(name, value)| markup!("<li><span>{}</span> {}</li>", *name, value))
        .collect();
    let memory = status.memory.map(bytes).unwrap_or_default();
    markup!(
        "<h1 data-testid=\"status\">{} {}</h1><ul class=\"known\" data-testid=\"facts\">{}<li><span>up for</span> {}</li>\
         <li><span>memory</span> {}</li><li><span>event loop lag</span> {}</li></ul>",
        status.service,
        badge(class, status.status),
        facts,
        words::span(status.uptime),
        memory,
        duration(status.lag.as_secs_f64())
    )
}

fn charts(status: &Status) -> Markup {
    let of = |value: fn(&Sample) -> Option<f64>| status.samples.iter().map(value).collect::<Vec<_>>();
    let rate = |value| format!("{}/s", figure(value));
    let pool = status.pool.as_ref().map(|_| {
        chart::card(
            "Pool in use",
            "chart-pool",
            &of(|sample| sample.pool_in_use),
            figure,
        )
    });
    let requests = &status.requests;
    markup!(
        "<div class=\"charts\">{}{}{}{}</div><p class=\"soft\" data-testid=\"totals\">{} requests and {} answers of 500 and \
         above since the start; {} open connections. These pages are not counted.</p>",
        chart::card(
            "Requests",
            "chart-requests",
            &of(|sample| Some(sample.requests_per_second)),
            rate
        ),
        chart::card(
            "Errors",
            "chart-errors",
            &of(|sample| Some(sample.errors_per_second)),
            rate
        ),
        chart::card(
            "Slowest 1 %",
            "chart-latency",
            &of(|sample| sample.p99_seconds),
            duration
        ),
        pool,
        requests.total,
        requests.errors,
        requests.connections
    )
}

fn checks(checks: &[CheckState], now: Timestamp) -> Markup {
    let rows: Markup = checks
        .iter()
        .map(|check| {
            let word = check.status.as_str();
            let why = check.error_kind.as_deref();
            markup!(
                "<tr><td data-label=\"Check\">{}</td><td data-label=\"State\"><span>{} {}</span></td><td data-label=\"Critical\">{}</td>\
                 <td data-label=\"Took\">{}</td><td data-label=\"Checked\">{}</td></tr>",
                &*check.name,
                badge(word, word),
                why.map(|why| markup!("<span class=\"soft\">{}</span>", why)),
                if check.critical { "yes" } else { "no" },
                check.latency.map(|latency| duration(latency.as_secs_f64())),
                check.checked_at.map(|at| words::time(at, now))
            )
        })
        .collect();
    table(&["Check", "State", "Critical", "Took", "Checked"], &rows)
}

fn table(columns: &[&str], rows: &Markup) -> Markup {
    let columns: Markup = columns
        .iter()
        .map(|column| markup!("<th scope=\"col\">{}</th>", *column))
        .collect();
    markup!(
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>",
        columns,
        rows
    )
}

fn pool(pool: &Pool) -> Markup {
    let waiting = match pool.waiting {
        0 => text("0"),
        waiting => badge("down", &waiting.to_string()),
    };
    let verdict = pool.plan.as_deref().map(|verdict| {
        let class = match verdict {
            "OK" => "up",
            "TIGHT" => "degraded",
            _ => "down",
        };
        ("plan", badge(class, verdict))
    });
    let rows = [
        ("in use", text(format!("{} of {}", pool.in_use, pool.max))),
        ("open", text(format!("{} ({} idle)", pool.size, pool.idle))),
        ("waiting for one", waiting),
    ];
    let advice: Markup = pool
        .advice
        .iter()
        .map(|advice| markup!("<p class=\"soft\">{}</p>", advice))
        .collect();
    markup!("{}{}", facts(rows.into_iter().chain(verdict)), advice)
}

fn cache(cache: &Cache) -> Markup {
    let reads = cache.hits + cache.misses;
    let share = if reads > 0 {
        format!(" ({:.1} %)", cache.hits as f64 / reads as f64 * 100.0)
    } else {
        String::new()
    };
    facts([
        ("kind", text(cache.adapter)),
        ("hits", text(format!("{}{share}", cache.hits))),
        ("misses", text(cache.misses.to_string())),
        ("errors", text(cache.errors.to_string())),
        (
            "in this process",
            text(format!("{} entries, {}", cache.entries, bytes(cache.bytes))),
        ),
        (
            "breaker",
            if cache.breaker_open {
                badge("down", "open")
            } else {
                badge("up", "closed")
            },
        ),
    ])
}

fn jobs(jobs: &Jobs) -> Markup {
    let queues = match jobs {
        Jobs::Queues(queues) if queues.is_empty() => {
            return markup!("<p class=\"soft\">No queue has jobs, limits or a schedule.</p>");
        }
        Jobs::Queues(queues) => queues,
        Jobs::Unknown(why) => {
            return markup!(
                "<p class=\"notice bad\">The queues can't be read now: {}</p>",
                why
            );
        }
    };
    let rows: Markup = queues.iter().map(queue).collect();
    table(
        &["Queue", "Ready", "Scheduled", "Running", "Dead", "Oldest"],
        &rows,
    )
}

fn queue(queue: &QueueRecord) -> Markup {
    let counts = &queue.counts;
    let dead = if counts.dead > 0 {
        badge("dead", &counts.dead.to_string())
    } else {
        text("0")
    };
    let oldest = (counts.oldest_ready > Duration::ZERO).then(|| words::span(counts.oldest_ready));
    markup!(
        "<tr><td data-label=\"Queue\"><span><a href=\"/admin/jobs\">{}</a> {}</span></td><td data-label=\"Ready\">{}</td>\
         <td data-label=\"Scheduled\">{}</td><td data-label=\"Running\">{}</td><td data-label=\"Dead\"><span>{}</span></td>\
         <td data-label=\"Oldest\">{}</td></tr>",
        queue.queue,
        queue.paused.then(|| badge("paused", "paused")),
        counts.ready,
        counts.scheduled,
        counts.running,
        dead,
        oldest
    )
}

fn storage(storage: &Storage) -> Markup {
    let rows: Markup = storage.operations.iter().map(operation).collect();
    let outbox: Markup = storage
        .outbox
        .iter()
        .map(|(name, value)| markup!("<dt>outbox: {}</dt><dd>{}</dd>", name, figure(*value)))
        .collect();
    markup!(
        "{}<dl class=\"facts\"><dt>under way</dt><dd>{}</dd>{}</dl>",
        table(&["Operation", "Count", "Errors", "Mean time"], &rows),
        storage.in_flight,
        outbox
    )
}

fn operation(operation: &Operation) -> Markup {
    let errors = if operation.errors > 0 {
        badge("failed", &operation.errors.to_string())
    } else {
        text("0")
    };
    markup!(
        "<tr><td data-label=\"Operation\"><span>{} <span class=\"soft\">{}</span></span></td><td data-label=\"Count\">{}</td>\
         <td data-label=\"Errors\"><span>{}</span></td><td data-label=\"Mean time\">{}</td></tr>",
        operation.operation,
        operation.adapter,
        operation.count,
        errors,
        operation.mean_seconds.map(duration)
    )
}

fn errors(errors: &[RecentError], now: Timestamp) -> Markup {
    if errors.is_empty() {
        return markup!("<p class=\"soft\">None since the start.</p>");
    }
    let rows: Markup = errors
        .iter()
        .map(|error| {
            markup!(
                "<tr><td data-label=\"When\">{}</td><td data-label=\"What\"><span>{} {}</span></td><td data-label=\"Module\">{}</td>\
                 <td data-label=\"Request\">{}</td></tr>",
                words::time(error.time, now),
                badge("failed", &error.kind),
                error.message,
                error.module,
                error.request_id.as_ref().map(|id| markup!("<code>{}</code>", id))
            )
        })
        .collect();
    table(&["When", "What", "Module", "Request"], &rows)
}

/// Outside of what the script replaces: somebody may be typing here.
fn log(page: &Page, status: &Status) -> Markup {
    let word = |name: &str| status.log[name].as_str().unwrap_or_default().to_owned();
    let (filter, configured) = (word("filter"), word("configured"));
    let left = status.log["returns_in_seconds"].as_u64();
    let until = left.map(|left| {
        let left = words::span(Duration::from_secs(left));
        markup!(" In {} it is <code>{}</code> again.", left, configured)
    });
    let reset = (filter != configured)
        .then(|| page.button("/admin/log-filter", &[], "Back at once", "", "log-reset"));
    let form_token = page
        .form_token
        .as_deref()
        .map(|token| markup!("<input type=\"hidden\" name=\"form\" value=\"{}\">", token));
    markup!(
        "<section class=\"panel\" aria-labelledby=\"log-title\"><h2 id=\"log-title\">Log filter</h2>\
         <p data-testid=\"log-filter\">In force: <code>{}</code>.{}</p>\
         <form method=\"post\" action=\"/admin/log-filter\" class=\"filter log\">{}\
         <label>Filter<input name=\"filter\" placeholder=\"info,asl=debug\" required data-testid=\"log-input\"></label>\
         <label>For<input name=\"for\" value=\"10m\" required></label>\
         <button data-testid=\"log-change\">Change</button></form>{}</section>",
        filter,
        until,
        form_token,
        reset
    )
}

/// Three digits, or what is whole.
fn figure(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => trimmed(format!("{value:.1}")),
        value => trimmed(format!("{value:.2}")),
    }
}

fn trimmed(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", figure((seconds * 10_000.0).round() / 10.0))
    } else {
        format!("{} s", figure(seconds))
    }
}

fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return format!("{} {unit}", figure(value));
        }
        value /= 1024.0;
    }
    format!("{} GiB", figure(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> = [0.0, 3.0, 0.256, 12.34, 123.4].into_iter().map(figure).collect();
        assert_eq!(shown, ["0", "3", "0.26", "12.3", "123"]);
        let shown: Vec<String> = [0.0, 0.00034, 0.0121, 0.25, 1.5]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(shown, ["0 ms", "0.3 ms", "12.1 ms", "250 ms", "1.5 s"]);
        let shown: Vec<String> = [12, 2048, 5_500_000, 3 << 30].into_iter().map(bytes).collect();
        assert_eq!(shown, ["12 B", "2 KiB", "5.25 MiB", "3 GiB"]);
    }
}
