//! The reference service against the least that behaves the same.

mod contender;
mod peer;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use zhuji_testkit::TestPostgres;

use self::contender::{Contender, Role};
use crate::load::{self, Load, Pdf};
use crate::machine;
use crate::process::Process;
use crate::report::{self, Better, Row};
use crate::rounds::{Samples, Side, order};
use crate::workspace::Workspace;

/// The argument with which this program is the peer.
pub(crate) const PEER_COMMAND: &str = "service-peer";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const START_TARGET_MS: f64 = 150.0;
const IDLE_TARGET_MB: f64 = 40.0;
const PEAK_TARGET_MB: f64 = 100.0;
/// Of the peer's throughput.
const THROUGHPUT_GOAL: f64 = 0.9;

/// How much of everything.
struct Plan {
    rounds: usize,
    health: Duration,
    settle: Duration,
    small_uploads: usize,
    large_uploads: usize,
}

impl Plan {
    fn new(quick: bool) -> Self {
        if quick {
            let (health, settle) = (Duration::from_millis(1200), Duration::from_secs(1));
            Self {
                rounds: 3,
                health,
                settle,
                small_uploads: 400,
                large_uploads: 32,
            }
        } else {
            let (health, settle) = (Duration::from_secs(3), Duration::from_secs(3));
            Self {
                rounds: 7,
                health,
                settle,
                small_uploads: 1000,
                large_uploads: 64,
            }
        }
    }

    /// Records that all rounds together use, the warm-up included.
    fn records(&self) -> usize {
        let a_round = self.small_uploads + self.large_uploads + HUGE_UPLOADS;
        (self.rounds + 1) * a_round
    }
}

const HUGE_UPLOADS: usize = 8;

/// Runs the peer; the other side of [`PEER_COMMAND`].
pub(crate) fn run_peer() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(peer::run())
}

/// Runs the suite, prints its table and writes `service.json`.
pub(crate) async fn run(quick: bool, binary: Option<&Path>) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let binary = match binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| binary.display().to_string())?,
        None => workspace.build("literature")?,
    };
    let begin = Instant::now();
    let load_before = machine::load_average();
    std::fs::create_dir_all(workspace.results())?;
    // On the checkout's own disk, because /tmp may be memory.
    let folder = tempfile::tempdir_in(workspace.results())?;
    let postgres = TestPostgres::start_own().await;
    let plan = Plan::new(quick);
    let mut pair = Pair {
        ours: Contender::ours(&postgres, folder.path(), &binary, plan.records()).await?,
        theirs: Contender::theirs(&postgres, folder.path(), plan.records()).await?,
    };
    let mut rows = Vec::new();
    rows.extend(throughput(&mut pair, &plan).await?);
    rows.extend(starts(&pair, &plan).await?);
    rows.extend(peaks(&mut pair, &plan).await?);

    println!("\n{}", report::table(&rows));
    report::write(&workspace.results(), "service", &rows)?;
    let load = |load: Option<f64>| load.map_or("?".to_owned(), |load| format!("{load:.2}"));
    println!(
        "Machine: {}; load average {} before, {} after. Medians of {} interleaved rounds, {:.0} s in all.",
        machine::description(),
        load(load_before),
        load(machine::load_average()),
        plan.rounds,
        begin.elapsed().as_secs_f64(),
    );
    println!(
        "Peer: axum::serve, deadpool + tokio-postgres, tokio::fs; no log, metrics, request ids or deadlines. Both: release build,\n\
         one PostgreSQL server, durability `rename`. Uploads: ROLE=web, so that jobs are stored and not run, on both sides;\n\
         each to a record without a PDF. The load generator shares the cores; `CPU` is the service's own time per request.\n\
         MB: 10⁶ bytes resident. Written to {}.",
        workspace.results().join("service.json").display()
    );
    Ok(())
}

struct Pair {
    ours: Contender,
    theirs: Contender,
}

impl Pair {
    fn side(&mut self, side: Side) -> &mut Contender {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

/// Work done and the processor time that the service spent on each piece of it.
#[derive(Default)]
struct Rates {
    per_second: Samples,
    cpu_seconds: Samples,
}

impl Rates {
    fn add(&mut self, side: Side, load: Load, cpu_seconds: f64) {
        self.per_second.add(side, load.per_second());
        self.cpu_seconds.add(side, cpu_seconds / load.count as f64);
    }

    fn rows(self, case: &str, unit: &'static str, cpu_unit: &'static str, scale: f64) -> [Row; 2] {
        let Samples { ours, theirs } = self.cpu_seconds;
        let scaled = |values: Vec<f64>| values.into_iter().map(|value| value * scale).collect();
        let cpu = Samples {
            ours: scaled(ours),
            theirs: scaled(theirs),
        };
        [
            Row::against_peer(case, unit, Better::More, peer::NAME, &self.per_second).goal(THROUGHPUT_GOAL),
            Row::against_peer(format!("{case}: CPU"), cpu_unit, Better::Less, peer::NAME, &cpu),
        ]
    }
}

async fn throughput(pair: &mut Pair, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (ours, theirs) = (
        pair.ours.start(Role::Web).await?,
        pair.theirs.start(Role::Web).await?,
    );
    let process = |side| if side == Side::Ours { &ours } else { &theirs };
    let mut rows = Vec::new();

    let mut health = Rates::default();
    for round in 0..=plan.rounds {
        for side in order(round) {
            let address = pair.side(side).address;
            let before = process(side).cpu_time()?;
            let load = load::requests(address, "/health", 64, plan.health).await?;
            let cpu = process(side).cpu_time()? - before;
            // The first round warms up: caches, branch predictors, the allocator.
            if round > 0 {
                health.add(side, load, cpu);
            }
        }
    }
    rows.extend(health.rows("/health, 64 connections", "req/s", "µs/req", 1e6));

    for (name, size, count, in_flight, scale, cpu_unit) in [
        (
            "PDF upload 64 KiB, 8 in flight",
            64 * KIB,
            plan.small_uploads,
            8,
            1e6,
            "µs/upload",
        ),
        (
            "PDF upload 8 MiB, 4 in flight",
            8 * MIB,
            plan.large_uploads,
            4,
            1e3,
            "ms/upload",
        ),
    ] {
        let pdf = Pdf::new(size);
        let mut rates = Rates::default();
        for round in 0..=plan.rounds {
            for side in order(round) {
                let (load, cpu) = upload(pair.side(side), process(side), &pdf, size, count, in_flight)
                    .await
                    .context(name)?;
                if round > 0 {
                    rates.add(side, load, cpu);
                }
            }
        }
        rows.extend(rates.rows(name, "uploads/s", cpu_unit, scale));
    }
    Ok(rows)
}

/// Uploads so many PDFs, checks that all of them are on the disk, and removes them.
async fn upload(
    contender: &mut Contender,
    process: &Process,
    pdf: &Pdf,
    size: usize,
    count: usize,
    in_flight: usize,
) -> anyhow::Result<(Load, f64)> {
    let targets = contender.targets(count)?;
    let before = process.cpu_time()?;
    let load = load::uploads(contender.address, targets, pdf, in_flight)
        .await
        .with_context(|| format!("the service's last words:\n{}", process.last_words()))?;
    let cpu = process.cpu_time()? - before;
    let stored = contender.clear()?;
    ensure!(
        stored == (count, (count * size) as u64),
        "{count} uploads left {stored:?} (files, bytes) on the disk"
    );
    Ok((load, cpu))
}

/// How long a start takes, and what an idle service holds.
async fn starts(pair: &Pair, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (mut start, mut idle) = (Samples::default(), Samples::default());
    for round in 0..=plan.rounds {
        for side in order(round) {
            let contender = if side == Side::Ours {
                &pair.ours
            } else {
                &pair.theirs
            };
            let process = contender.start(Role::All).await?;
            if round > 0 {
                start.add(side, process.start.as_secs_f64() * 1e3);
                tokio::time::sleep(plan.settle).await;
                idle.add(side, process.memory()?);
            }
        }
    }
    let name = "start to first /health 200";
    Ok(vec![
        Row::against_target(name, "ms", Better::Less, START_TARGET_MS, &start.ours),
        Row::against_peer(name, "ms", Better::Less, peer::NAME, &start),
        Row::against_target("idle memory", "MB", Better::Less, IDLE_TARGET_MB, &idle.ours),
        Row::against_peer("idle memory", "MB", Better::Less, peer::NAME, &idle),
    ])
}

/// The most memory that a service holds while huge files stream through it.
async fn peaks(pair: &mut Pair, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    const SIZE: usize = 256 * MIB;
    let name = format!("peak memory, {HUGE_UPLOADS} uploads of 256 MiB at once");
    let pdf = Pdf::new(SIZE);
    let mut peak = Samples::default();
    for round in 0..plan.rounds {
        for side in order(round) {
            let contender = pair.side(side);
            let process = contender.start(Role::Web).await?;
            process.forget_peak();
            upload(contender, &process, &pdf, SIZE, HUGE_UPLOADS, HUGE_UPLOADS)
                .await
                .context(name.clone())?;
            peak.add(side, process.peak_memory()?);
        }
    }
    Ok(vec![
        Row::against_target(name.clone(), "MB", Better::Less, PEAK_TARGET_MB, &peak.ours),
        Row::against_peer(name, "MB", Better::Less, peer::NAME, &peak),
    ])
}
