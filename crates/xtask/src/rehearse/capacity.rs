//! How much one instance of half a core and a gigabyte holds, and how fast the program starts: measured, and written into
//! the documentation with the day and the method.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zhuji_testkit::{DevCluster, free_port};

use super::capacity_limit::Limit;
use super::capacity_load::{self as load, Kind, Outcome, get, post_file};
use super::modes;
use super::page::{self, Taken};
use super::running::{self, Running};
use crate::failure::{Failure, Result};
use crate::machine::{self, POSTGRES};
use crate::workspace::Workspace;

const PAGE: &str = "docs/capacity.md";
const RATE: u32 = 500;
const TIME: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(5);
const GOAL_P99: Duration = Duration::from_millis(100);
const STARTS: usize = 10;
const GOAL_START: Duration = Duration::from_millis(200);
const RECORDS: usize = 975;
const LITERATURES: &str = "/api/v1/asl/literatures";

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    machine::ensure(&POSTGRES)?;
    let program = modes::program()?;
    let taken = Taken::now()?;
    let home = tempfile::tempdir()?;
    // PostgreSQL runs as another user.
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let cluster = DevCluster::start(home.path().join("postgres"), false)
        .map_err(|error| Failure::new(error.to_string()))?;
    let place = Place {
        program,
        home: home.path().to_owned(),
        database: cluster.url().to_owned(),
    };
    let measured = measure(&place);
    cluster.stop();
    let measured = measured?;
    let text = measured.lines(&taken);
    print!("{text}");
    page::replace(&workspace.root().join(PAGE), "figures", &text)?;
    measured.verdict(taken.is_quiet())
}

struct Place {
    program: PathBuf,
    home: PathBuf,
    database: String,
}

impl Place {
    /// Starts the program, all modules in it, and waits until it is well.
    fn start(&self, command: Command) -> Result<Running> {
        let port = free_port();
        let path = |name: &str| self.home.join(name).display().to_string();
        let environment = [
            ("APP_ENV", "production".to_owned()),
            ("DEPLOYMENT_MODE", "private".to_owned()),
            ("HOST", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
            ("BASE_URL", format!("http://127.0.0.1:{port}")),
            ("DATABASE_URL", self.database.clone()),
            ("STORAGE_LOCAL_DIR", path("uploads")),
            ("STORAGE_SIGNING_KEY", "a key for the rehearsal alone".to_owned()),
            ("METRICS_LISTEN", format!("127.0.0.1:{}", free_port())),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        Running::start_by(command, &environment, &self.home)
    }
}

/// Processor time of a process, and of those that it has started and that have ended.
fn cpu_time(pid: u32) -> Duration {
    /// `USER_HZ`, which is the same wherever Linux runs.
    const TICKS: u32 = 100;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let ticks: u32 = fields
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    Duration::from_secs(1) * ticks / TICKS
}

struct Measured {
    /// Of the program alone on this machine, and within the limit.
    start: Duration,
    slowest_start: Duration,
    start_limited: Duration,
    method: &'static str,
    outcome: Outcome,
    /// From the last answer until the text of every PDF was extracted.
    backlog: Duration,
    used: String,
}

fn measure(place: &Place) -> Result<Measured> {
    // The first one finds an empty database, and is not counted.
    drop(place.start(Command::new(&place.program))?);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(place.start(Command::new(&place.program))?.started_after);
    }
    starts.sort_unstable();
    let limit = Limit::new();
    let instance = place.start(limit.command(&place.program))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (port, pid) = (instance.port(), instance.pid());
    let ids = prepare(port)?;
    let kinds = mix(&ids);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let drive = |time| runtime.block_on(load::run(address, RATE, time, &kinds, turn));
    drive(WARM_UP);
    let (before, cpu_before) = (limit.used(), cpu_time(pid));
    let outcome = drive(TIME);
    let (after, cpu) = (limit.used(), cpu_time(pid) - cpu_before);
    let seconds = outcome.elapsed.as_secs_f64();
    let backlog = until_extracted(port, &ids)?;
    let stopped = after
        .throttled
        .zip(before.throttled)
        .map(|(after, before)| after - before);
    let shown = |value: Option<String>| value.unwrap_or_else(|| "not counted here".to_owned());
    let used = format!(
        "{:.2} of a core; told to wait in {} of {:.0} periods of 100 ms; memory at most {}",
        cpu.as_secs_f64() / seconds,
        shown(stopped.map(|count| count.to_string())),
        seconds * 10.0,
        shown(after.memory.map(|bytes| format!("{} MiB", bytes >> 20)))
    );
    let start_limited = instance.started_after;
    // The groups can go when nobody is in them.
    drop(instance);
    Ok(Measured {
        start: starts[starts.len() / 2],
        slowest_start: starts.last().copied().unwrap_or_default(),
        start_limited,
        method: limit.method(),
        outcome,
        backlog,
        used,
    })
}

/// Fills the database, and gives every record that is asked for a PDF. Answers with their ids.
fn prepare(port: u16) -> Result<Vec<String>> {
    let subjects = ["blood lead", "air", "water"];
    let titles: Vec<String> = (0..RECORDS)
        .map(|number| {
            format!(
                "Record {number}: {} and childhood",
                subjects[number % subjects.len()]
            )
        })
        .collect();
    let import = format!("{LITERATURES}/import");
    running::send_file(port, &import, "records.xlsx", &workbook(&titles)?)?.json()?;
    let page = running::get(port, &format!("{LITERATURES}?per_page=100"))?.json()?;
    let items = page["items"].as_array().ok_or("the list has no items")?;
    let ids: Vec<String> = items
        .iter()
        .filter_map(|item| Some(item["id"].as_str()?.to_owned()))
        .collect();
    for id in &ids {
        running::send_file(port, &format!("{LITERATURES}/{id}/pdf"), "a.pdf", &pdf())?.json()?;
    }
    Ok(ids)
}

/// How long it takes until no text waits to be extracted.
fn until_extracted(port: u16, ids: &[String]) -> Result<Duration> {
    let begin = Instant::now();
    for id in ids {
        loop {
            let record = running::get(port, &format!("{LITERATURES}/{id}"))?.json()?;
            match record["extraction"]["state"].as_str() {
                Some("done") => break,
                Some("pending" | "running") if begin.elapsed() < running::PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                state => return Err(format!("the extraction of {id} is {state:?}").into()),
            }
        }
    }
    Ok(begin.elapsed())
}

/// Of a hundred requests: the shares of the kinds of [`mix`], in its order.
const SHARES: [u64; 6] = [30, 20, 25, 12, 11, 2];

/// The kind of a request, so that the kinds come mixed and always in the same order.
fn turn(number: u64) -> usize {
    // 37 and 100 have no common divisor: every hundred requests have each place once.
    let mut place = number * 37 % 100;
    let kind = SHARES.iter().position(|share| {
        let here = place < *share;
        place = place.saturating_sub(*share);
        here
    });
    kind.unwrap_or(0)
}

fn mix(ids: &[String]) -> Vec<Kind> {
    let ids: Arc<[String]> = ids.into();
    let kind = |name, follow, request: load::Request| Kind {
        name,
        request,
        follow,
    };
    let of = |number: u64| usize::try_from(number).unwrap_or(0);
    // Records whose PDF is opened are not those whose PDF is replaced at the same time.
    let (opened, replaced) = (Arc::clone(&ids), Arc::clone(&ids));
    let half = ids.len() / 2;
    let file = pdf();
    vec![
        kind(
            "list",
            false,
            Arc::new(|n| get(&format!("{LITERATURES}?page={}&per_page=20", n % 40 + 1))),
        ),
        kind(
            "search",
            false,
            Arc::new(|n| get(&format!("{LITERATURES}?query=blood%20lead%20{}", n % 97))),
        ),
        kind(
            "get",
            false,
            Arc::new(move |n| get(&format!("{LITERATURES}/{}", ids[of(n) % ids.len()]))),
        ),
        kind("health", false, Arc::new(|_| get("/health"))),
        kind(
            "signed download",
            true,
            Arc::new(move |n| get(&format!("{LITERATURES}/{}/pdf", opened[of(n) % half]))),
        ),
        kind(
            "upload",
            false,
            Arc::new(move |n| {
                post_file(
                    &format!("{LITERATURES}/{}/pdf", replaced[half + of(n / 100) % half]),
                    "a.pdf",
                    &file,
                )
            }),
        ),
    ]
}

impl Measured {
    fn lines(&self, taken: &Taken) -> String {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let outcome = &self.outcome;
        let mut text = format!(
            "{taken}\n\n\
             | start to `/health` 200, all modules, database migrated | |\n| --- | --- |\n\
             | median of {STARTS} starts | {} |\n| slowest | {} |\n| within half a core, once | {} |\n\n",
            ms(self.start),
            ms(self.slowest_start),
            ms(self.start_limited),
        );
        text += &format!(
            "| {RATE} requests a second for {} s | count | p50 | p99 | p99.9 |\n| --- | --- | --- | --- | --- |\n",
            TIME.as_secs()
        );
        let names = ["list", "search", "get", "health", "signed download", "upload"].map(Some);
        for name in names.into_iter().chain([None]) {
            let count = outcome
                .answered
                .iter()
                .filter(|(kind, _)| name.is_none_or(|name| name == *kind))
                .count();
            let at = |share| ms(outcome.per_mille(name, share));
            let name = name.unwrap_or("**all**");
            text += &format!("| {name} | {count} | {} | {} | {} |\n", at(500), at(990), at(999));
        }
        text += &format!(
            "\n{} failed. Limit: {}. Used: {}. The text of every PDF was extracted {:.1} s after the \
             last answer. The generator itself was {} behind its schedule at most.\n",
            outcome.failures.len(),
            self.method,
            self.used,
            self.backlog.as_secs_f64(),
            ms(outcome.behind)
        );
        text
    }

    fn verdict(&self, quiet: bool) -> Result<String> {
        let p99 = self.outcome.per_mille(None, 990);
        let figure = format!(
            "{RATE} requests/s on half a core: p99 {:.1} ms, {} failed; /health 200 after {:.0} ms",
            p99.as_secs_f64() * 1000.0,
            self.outcome.failures.len(),
            self.start.as_secs_f64() * 1000.0
        );
        if let Some(failure) = self.outcome.failures.first() {
            return Err(format!("{figure}; the first failure: {failure}").into());
        }
        let missed = p99 >= GOAL_P99 || self.start >= GOAL_START;
        match (missed, quiet) {
            (false, true) => Ok(figure),
            (false, false) => Ok(format!("{figure}; on a busy machine")),
            (true, false) => Ok(format!(
                "{SKIPPED}: no verdict from a busy machine: {figure}",
                SKIPPED = super::SKIPPED
            )),
            (true, true) => Err(format!(
                "{figure}; the goals are p99 below {} ms and a start below {} ms",
                GOAL_P99.as_millis(),
                GOAL_START.as_millis()
            )
            .into()),
        }
    }
}

/// A correct PDF of one page.
fn pdf() -> Vec<u8> {
    let content = "BT /F1 24 Tf 72 700 Td (A page of the rehearsal) Tj ET";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [4 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R \
         /Resources << /Font << /F1 3 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
    ];
    let mut pdf = "%PDF-1.4\n".to_owned();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", pdf.len());
        pdf += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let at = pdf.len();
    let size = objects.len() + 1;
    pdf += &format!("{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{at}\n%%EOF\n");
    pdf.into_bytes()
}

/// An Excel file with these titles.
fn workbook(titles: &[String]) -> Result<Vec<u8>> {
    let away = |error: rust_xlsxwriter::XlsxError| Failure::new(error.to_string());
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_string(0, 0, "title").map_err(away)?;
    for (row, title) in (1..).zip(titles) {
        sheet.write_string(row, 0, title).map_err(away)?;
    }
    workbook.save_to_buffer().map_err(away)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hundred_requests_have_the_shares() {
        assert_eq!(SHARES.iter().sum::<u64>(), 100);
        for (kind, share) in SHARES.iter().enumerate() {
            let count = (500..600).filter(|number| turn(*number) == kind).count();
            assert_eq!(u64::try_from(count), Ok(*share));
        }
    }
}
