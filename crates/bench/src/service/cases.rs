//! What is measured.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::contender::{Contender, Role};
use super::peer;
use crate::load::{self, Load, Pdf};
use crate::process::Process;
use crate::report::{Better, Row};
use crate::rounds::{Samples, Side, order};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

const START_TARGET_MS: f64 = 150.0;
const IDLE_TARGET_MB: f64 = 40.0;
const PEAK_TARGET_MB: f64 = 100.0;
/// Of the peer's throughput.
const THROUGHPUT_GOAL: f64 = 0.9;

const CONNECTIONS: usize = 64;
const HUGE_UPLOADS: usize = 8;

/// How much of everything.
pub(super) struct Plan {
    pub(super) rounds: usize,
    health: Duration,
    settle: Duration,
    small_uploads: usize,
    large_uploads: usize,
}

impl Plan {
    pub(super) fn new(quick: bool) -> Self {
        if quick {
            Self {
                rounds: 3,
                health: Duration::from_millis(1200),
                settle: Duration::from_secs(1),
                small_uploads: 800,
                large_uploads: 32,
            }
        } else {
            Self {
                rounds: 7,
                health: Duration::from_secs(3),
                settle: Duration::from_secs(3),
                small_uploads: 2000,
                large_uploads: 64,
            }
        }
    }

    /// Records that all rounds together use, the warm-up included.
    pub(super) fn records(&self) -> usize {
        (self.rounds + 1) * (self.small_uploads + self.large_uploads + HUGE_UPLOADS)
    }

    fn uploads(&self) -> [Uploads; 2] {
        [
            Uploads {
                case: "PDF upload 64 KiB, 8 in flight",
                size: 64 * KIB,
                count: self.small_uploads,
                in_flight: 8,
                cpu: ("µs/upload", 1e6),
            },
            Uploads {
                case: "PDF upload 8 MiB, 4 in flight",
                size: 8 * MIB,
                count: self.large_uploads,
                in_flight: 4,
                cpu: ("ms/upload", 1e3),
            },
        ]
    }
}

struct Uploads {
    case: &'static str,
    size: usize,
    count: usize,
    in_flight: usize,
    /// The unit of processor time, and how many of them a second has.
    cpu: (&'static str, f64),
}

/// Both services, ready to be started.
pub(super) struct Pair {
    pub(super) ours: Contender,
    pub(super) theirs: Contender,
}

impl Pair {
    fn side(&mut self, side: Side) -> &mut Contender {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

/// Both services, running.
struct Processes {
    ours: Process,
    theirs: Process,
}

impl Processes {
    async fn start(pair: &Pair, role: Role) -> anyhow::Result<Self> {
        Ok(Self {
            ours: pair.ours.start(role).await?,
            theirs: pair.theirs.start(role).await?,
        })
    }

    fn side(&self, side: Side) -> &Process {
        match side {
            Side::Ours => &self.ours,
            Side::Theirs => &self.theirs,
        }
    }
}

/// Takes the measures of the cases whose name contains `only`; of all for an empty one.
pub(super) async fn measure(pair: &mut Pair, plan: &Plan, only: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let processes = Processes::start(pair, Role::Web).await?;
    let case = format!("/health, {CONNECTIONS} connections");
    if case.contains(only) {
        rows.extend(health(pair, &processes, plan, &case).await?);
    }
    for uploads in plan.uploads() {
        if uploads.case.contains(only) {
            rows.extend(upload_rate(pair, &processes, plan, &uploads).await?);
        }
    }
    drop(processes);
    if START.contains(only) || IDLE.contains(only) {
        rows.extend(starts(pair, plan).await?);
    }
    let case = format!("peak memory, {HUGE_UPLOADS} uploads of 256 MiB at once");
    if case.contains(only) {
        rows.extend(peaks(pair, plan, &case).await?);
    }
    ensure!(!rows.is_empty(), "no case's name contains `{only}`");
    Ok(rows)
}

/// Work done, and the processor time that the service spent on each piece of it.
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

    fn rows(self, case: &str, unit: &'static str, (cpu_unit, scale): (&'static str, f64)) -> [Row; 2] {
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

async fn health(pair: &mut Pair, processes: &Processes, plan: &Plan, case: &str) -> anyhow::Result<[Row; 2]> {
    let mut rates = Rates::default();
    for round in 0..=plan.rounds {
        for side in order(round) {
            let process = processes.side(side);
            let before = process.cpu_time()?;
            let load = load::requests(pair.side(side).address, "/health", CONNECTIONS, plan.health).await?;
            let cpu = process.cpu_time()? - before;
            // The first round warms up: caches, branch predictors, the allocator.
            if round > 0 {
                rates.add(side, load, cpu);
            }
        }
    }
    Ok(rates.rows(case, "req/s", ("µs/req", 1e6)))
}

async fn upload_rate(
    pair: &mut Pair,
    processes: &Processes,
    plan: &Plan,
    uploads: &Uploads,
) -> anyhow::Result<[Row; 2]> {
    let mut rates = Rates::default();
    for round in 0..=plan.rounds {
        for side in order(round) {
            let (load, cpu) = upload(pair.side(side), processes.side(side), uploads).await?;
            if round > 0 {
                rates.add(side, load, cpu);
            }
        }
    }
    Ok(rates.rows(uploads.case, "uploads/s", uploads.cpu))
}

/// Uploads so many PDFs, and checks that all of them are on the disk.
async fn upload(
    contender: &mut Contender,
    process: &Process,
    uploads: &Uploads,
) -> anyhow::Result<(Load, f64)> {
    let Uploads {
        case,
        size,
        count,
        in_flight,
        ..
    } = *uploads;
    let targets = contender.targets(count)?;
    let pdf = Pdf::new(size);
    let (files, bytes) = contender.stored()?;
    let before = process.cpu_time()?;
    let load = load::uploads(contender.address, targets, &pdf, in_flight)
        .await
        .with_context(|| format!("{case}; the service's last words:\n{}", process.last_words()))?;
    let cpu = process.cpu_time()? - before;
    let stored = contender.stored()?;
    ensure!(
        stored == (files + count, bytes + (count * size) as u64),
        "{case}: {count} uploads on top of {files} files and {bytes} bytes left {stored:?}"
    );
    // The disk must not fill. Many small files stay to the end: for half a minute ext4 looks at every inode that was
    // deleted before it makes a file, and both sides would be measured by that.
    if size >= MIB {
        contender.clear()?;
    }
    Ok((load, cpu))
}

const START: &str = "start to first /health 200";
const IDLE: &str = "idle memory";

/// How long a start takes, and what an idle service holds.
async fn starts(pair: &mut Pair, plan: &Plan) -> anyhow::Result<[Row; 4]> {
    let (mut start, mut idle) = (Samples::default(), Samples::default());
    for round in 0..=plan.rounds {
        for side in order(round) {
            let process = pair.side(side).start(Role::All).await?;
            if round > 0 {
                start.add(side, process.start.as_secs_f64() * 1e3);
                tokio::time::sleep(plan.settle).await;
                idle.add(side, process.memory()?);
            }
        }
    }
    Ok([
        Row::against_target(START, "ms", Better::Less, START_TARGET_MS, &start.ours),
        Row::against_peer(START, "ms", Better::Less, peer::NAME, &start),
        Row::against_target(IDLE, "MB", Better::Less, IDLE_TARGET_MB, &idle.ours),
        Row::against_peer(IDLE, "MB", Better::Less, peer::NAME, &idle),
    ])
}

/// The most memory that a service holds while huge files stream through it.
async fn peaks(pair: &mut Pair, plan: &Plan, case: &str) -> anyhow::Result<[Row; 2]> {
    let uploads = Uploads {
        case: "peak memory",
        size: 256 * MIB,
        count: HUGE_UPLOADS,
        in_flight: HUGE_UPLOADS,
        cpu: ("s/upload", 1.0),
    };
    let mut peak = Samples::default();
    for round in 0..plan.rounds {
        for side in order(round) {
            let process = pair.side(side).start(Role::Web).await?;
            process.forget_peak();
            upload(pair.side(side), &process, &uploads).await?;
            peak.add(side, process.peak_memory()?);
        }
    }
    Ok([
        Row::against_target(case, "MB", Better::Less, PEAK_TARGET_MB, &peak.ours),
        Row::against_peer(case, "MB", Better::Less, peer::NAME, &peak),
    ])
}
