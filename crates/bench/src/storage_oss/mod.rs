//! Suite `storage-oss`: our client of OSS against other people's, and against none at all.

mod clients;
mod contender;
mod driver;
mod relay;
mod scripts;
mod server;

use std::path::PathBuf;

use anyhow::Context;

use self::contender::{Task, Took};
use self::driver::{Contender, Server};
use self::scripts::Scripts;
use crate::field::{Field, turns};
use crate::report::{Better, Row};
use crate::suite::{Options, Suite};
use crate::versions;

/// The first argument of the processes that this suite starts.
pub(crate) const SERVER_COMMAND: &str = "__oss-server";
pub(crate) const CONTENDER_COMMAND: &str = "__oss-contender";

const OURS: &str = "ours";
const SDK: &str = "aliyun-oss-rust-sdk";
const FLOOR: &str = "reqwest";
const COMPILED: [&str; 5] = [OURS, SDK, "opendal", "ossify", FLOOR];
const SCRIPTS: [&str; 2] = ["oss2", "ali-oss"];

const SMALL: u64 = 4096;
const LARGE: u64 = 64 << 20;

pub(crate) fn run_server(folder: &str) -> anyhow::Result<()> {
    server::run(folder)
}

pub(crate) fn run_contender(name: &str, endpoint: &str) -> anyhow::Result<()> {
    contender::run(name, endpoint)
}

/// What a peer is called in the table.
fn told(name: &str) -> String {
    match name {
        OURS => name.to_owned(),
        "ossify" => format!("{name} {} (V4)", versions::of(name)),
        // The lock file has two.
        FLOOR => format!("{name} 0.13, unsigned"),
        "oss2" => format!("{} (V4)", scripts::OSS2.replace("==", " ")),
        "ali-oss" => format!("{} (V4)", scripts::ALI_OSS.replace('@', " ")),
        _ => format!("{name} {} (V1)", versions::of(name)),
    }
}

/// How many times better ours is wanted to be, in operations per second and where the network takes no time.
fn goal(peer: &str) -> Option<f64> {
    let name = peer.split(' ').next().unwrap_or_default();
    match name {
        SDK => Some(300.0),
        "opendal" | "ossify" => Some(1.1),
        FLOOR => Some(0.85),
        _ => Some(5.0),
    }
}

/// The address of the server that a case goes to.
struct Wire {
    name: &'static str,
    endpoint: String,
    slow: bool,
}

struct Bench {
    suite: Suite,
    options: Options,
    wires: Vec<Wire>,
    ca: PathBuf,
    scripts: Scripts,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut suite = Suite::begin("storage-oss", options)?;
    let folder = suite.workspace.peers();
    std::fs::create_dir_all(&folder)?;
    let mut notes = Vec::new();
    let scripts = Scripts::ensure(&folder, &mut notes);
    for note in notes {
        suite.note(note);
    }
    let server = Server::start(&folder).await.context("the server")?;
    let ports = server.ports;
    let wire = |name, scheme: &str, port: u16, slow| Wire {
        name,
        endpoint: format!("{scheme}://127.0.0.1:{port}"),
        slow,
    };
    let mut bench = Bench {
        suite,
        options: options.clone(),
        wires: vec![
            wire("HTTP", "http", ports.plain, false),
            wire("TLS", "https", ports.tls, false),
            wire("HTTP, +20 ms", "http", ports.plain_slow, true),
            wire("TLS, +20 ms", "https", ports.tls_slow, true),
        ],
        ca: folder.join("ca.pem"),
        scripts,
    };
    for wire in 0..bench.wires.len() {
        bench.small(wire).await?;
    }
    for wire in 0..bench.wires.len() {
        bench.streams(wire).await?;
    }
    bench.endless().await?;
    bench.many().await?;
    bench.suite.end()
}

impl Bench {
    fn start(&self, name: &str, wire: usize) -> anyhow::Result<Contender> {
        let endpoint = &self.wires[wire].endpoint;
        if SCRIPTS.contains(&name) {
            return self.scripts.start(name, endpoint);
        }
        Contender::start(name, endpoint, &self.ca)
    }

    /// Seconds of one contender in one round.
    fn seconds(&self) -> f64 {
        if self.options.quick { 0.25 } else { 0.5 }
    }

    /// Objects of 4 KiB, put and got, by one caller and by 32.
    async fn small(&mut self, wire: usize) -> anyhow::Result<()> {
        let Wire {
            name: wire_name,
            slow,
            ..
        } = self.wires[wire];
        let mut cases = Vec::new();
        for (operation, callers) in [("put", 1), ("get", 1), ("put", 32), ("get", 32)] {
            let case = format!("{operation} 4 KiB, {callers} in flight, {wire_name}");
            // In a minute there is no time for everything.
            let kept = !self.options.quick
                || wire == 0
                || (wire == 1 && callers == 32)
                || (wire == 2 && operation == "put");
            if kept && self.options.wants(&case) {
                cases.push((operation, callers, case));
            }
        }
        if cases.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = COMPILED.to_vec();
        if wire == 0 {
            names.extend(self.scripts.oss2.is_some().then_some("oss2"));
            names.extend(self.scripts.ali_oss.is_some().then_some("ali-oss"));
        }
        let mut contenders = Vec::new();
        for name in &names {
            contenders.push(self.start(name, wire)?);
        }
        let field = || Field::new(names.iter().map(|name| told(name)));
        let seconds = self.seconds();
        for (operation, callers, case) in cases {
            let task = |seconds| match operation {
                "put" => Task::Put {
                    size: SMALL,
                    callers,
                    seconds,
                },
                _ => Task::Get {
                    size: SMALL,
                    callers,
                    seconds,
                },
            };
            for (name, contender) in names.iter().zip(&mut contenders) {
                // Connections and what else is made once; the SDK keeps nothing.
                if *name != SDK {
                    contender.perform(task(0.1)).await?;
                }
            }
            let (mut rates, mut cpu) = (field(), field());
            for round in 0..self.options.rounds() {
                for index in turns(round, contenders.len()) {
                    let took = contenders[index].perform(task(seconds)).await?;
                    rates.add(index, took.count as f64 / took.seconds);
                    if [OURS, FLOOR].contains(&names[index]) {
                        cpu.add(index, took.cpu * 1e6 / took.count as f64);
                    }
                }
            }
            let goal = |peer: &str| if slow { None } else { goal(peer) };
            self.suite
                .rows
                .extend(rates.rows(&case, "ops/s", Better::More, goal));
            if !slow {
                let case = format!("{case}: CPU");
                let goal = |_: &str| (operation == "put").then_some(1.0 / 1.1);
                self.suite.rows.extend(cpu.rows(&case, "µs", Better::Less, goal));
            }
        }
        Ok(())
    }

    /// One object of 64 MiB, from and to a stream; each time in a new process, so that its memory is its own.
    async fn streams(&mut self, wire: usize) -> anyhow::Result<()> {
        let wire_name = self.wires[wire].name;
        if self.options.quick && wire != 0 {
            return Ok(());
        }
        for put in [true, false] {
            let case = format!(
                "{} 64 MiB as a stream, {wire_name}",
                if put { "put" } else { "get" }
            );
            if !self.options.wants(&case) {
                continue;
            }
            let names = [OURS, "opendal", "ossify", FLOOR];
            let field = || Field::new(names.iter().map(|name| told(name)));
            let (mut rates, mut cpu, mut peaks) = (field(), field(), field());
            for round in 0..self.options.rounds() {
                for index in turns(round, names.len()) {
                    let took = self.stream(names[index], wire, put, LARGE).await?;
                    rates.add(index, (LARGE >> 20) as f64 / took.seconds);
                    peaks.add(index, took.peak / f64::from(1 << 20));
                    if [OURS, FLOOR].contains(&names[index]) {
                        cpu.add(index, took.cpu * 1e3);
                    }
                }
            }
            let peer_goal = |peer: &str| (!peer.starts_with(FLOOR)).then_some(1.0);
            let rows = &mut self.suite.rows;
            rows.extend(rates.rows(&case, "MiB/s", Better::More, peer_goal));
            let cpu_goal = |_: &str| put.then_some(1.0 / 1.1);
            rows.extend(cpu.rows(&format!("{case}: CPU"), "ms", Better::Less, cpu_goal));
            let memory = format!("{case}: memory");
            rows.extend(peaks.rows(&memory, "MiB", Better::Less, |_| None));
            rows.push(Row::against_target(
                memory,
                "MiB",
                Better::Less,
                most_memory(put),
                peaks.of(0),
            ));
        }
        Ok(())
    }

    /// Ours with an object that fits into no memory.
    async fn endless(&mut self) -> anyhow::Result<()> {
        let (size, told) = if self.options.quick {
            (1 << 30, "1 GiB")
        } else {
            (4 << 30, "4 GiB")
        };
        for put in [true, false] {
            let case = format!("{} {told} as a stream: memory", if put { "put" } else { "get" });
            if self.options.wants(&case) {
                let took = self.stream(OURS, 0, put, size).await?;
                let peak = [took.peak / f64::from(1 << 20)];
                self.suite.rows.push(Row::against_target(
                    case,
                    "MiB",
                    Better::Less,
                    most_memory(put),
                    &peak,
                ));
            }
        }
        Ok(())
    }

    async fn stream(&self, name: &str, wire: usize, put: bool, size: u64) -> anyhow::Result<Took> {
        let mut contender = self.start(name, wire)?;
        // The connection, the code and the allocator are there before the memory is read.
        let (callers, seconds) = (1, 0.02);
        contender
            .perform(Task::Put {
                size: SMALL,
                callers,
                seconds,
            })
            .await?;
        contender
            .perform(Task::Get {
                size: SMALL,
                callers,
                seconds,
            })
            .await?;
        let task = if put {
            Task::PutStream { size }
        } else {
            Task::GetStream { size }
        };
        contender.perform(task).await
    }

    /// A window against batches: both are ours, on a server whose answers take 5 ms on average and seldom much more.
    async fn many(&mut self) -> anyhow::Result<()> {
        let case = "upload_many of 1,000 objects, uneven latency";
        if !self.options.wants(case) {
            return Ok(());
        }
        let mut contender = self.start(OURS, 0)?;
        let mut field = Field::new(["ours", "batches of ten"]);
        for round in 0..self.options.rounds() {
            for index in turns(round, 2) {
                let took = contender
                    .perform(Task::PutMany {
                        count: 1000,
                        in_batches: index == 1,
                    })
                    .await?;
                field.add(index, took.seconds * 1e3);
            }
        }
        self.suite
            .rows
            .extend(field.rows(case, "ms", Better::Less, |_| Some(1.5)));
        Ok(())
    }
}

/// In MiB over what was resident before: a stream is put in parts, some of them at once.
fn most_memory(put: bool) -> f64 {
    if put { 24.0 } else { 16.0 }
}
