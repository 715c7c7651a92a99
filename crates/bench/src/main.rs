//! The crates side by side with their peers: `cargo xtask bench [SUITE] [--quick]`.

mod cache;
mod callers;
mod db;
mod field;
mod jobs;
mod load;
mod machine;
mod outage;
mod process;
mod report;
mod rounds;
mod service;
mod storage_local;
mod storage_oss;
mod suite;
mod versions;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};

/// The crates side by side with their peers, in one run on one machine.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "Example:
  cargo xtask bench service --quick

Rounds of both sides are interleaved and the medians compared. A ratio above 1 says that ours is better, whatever the
unit. Each suite prints a table and writes target/bench/SUITE.json."
)]
struct Args {
    /// The suites to run; without a name: all of them
    suites: Vec<Suite>,
    /// Fewer rounds: each suite ends within a minute
    #[arg(long)]
    quick: bool,
    /// Only the cases whose name contains this, to look closer at one of them; no JSON is written
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Keeps what is stored below this folder, in place of target/bench
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Measures this `literature` binary, in place of the one that is built from the checkout
    #[arg(long, value_name = "PATH")]
    service_binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The reference service against a minimal one on plain axum, tokio-postgres and tokio::fs
    Service,
    /// The connection pool against deadpool, sqlx and bb8
    Db,
    /// The cache against moka, redis and deadpool-redis
    Cache,
    /// The jobs against riverqueue, graphile_worker, apalis and pg-boss
    Jobs,
    /// The OSS client against aliyun-oss-rust-sdk, opendal, ossify, oss2, ali-oss and plain reqwest
    StorageOss,
    /// Files on disk against the system calls, object_store and opendal
    StorageLocal,
}

fn main() -> ExitCode {
    // The peers are processes of their own, started from this program.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [service::PEER_COMMAND, ..] => return told(service::run_peer()),
        [storage_oss::SERVER_COMMAND, folder] => return told(storage_oss::run_server(folder)),
        [storage_oss::CONTENDER_COMMAND, name, endpoint] => {
            return told(storage_oss::run_contender(name, endpoint));
        }
        _ => {}
    }
    let args = Args::parse();
    let suites = if args.suites.is_empty() {
        Suite::value_variants().to_vec()
    } else {
        args.suites.clone()
    };
    told(run(&suites, &args))
}

fn run(suites: &[Suite], args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let plain = suite::Options {
        quick: args.quick,
        only: args.only.clone().unwrap_or_default(),
    };
    for suite in suites {
        match suite {
            Suite::Service => {
                let options = service::Options {
                    quick: args.quick,
                    only: args.only.clone().unwrap_or_default(),
                    folder: args.folder.clone(),
                    binary: args.service_binary.clone(),
                };
                runtime
                    .block_on(service::run(&options))
                    .context("suite service")?;
            }
            Suite::Db => runtime.block_on(db::run(&plain)).context("suite db")?,
            Suite::Cache => runtime.block_on(cache::run(&plain)).context("suite cache")?,
            Suite::Jobs => runtime.block_on(jobs::run(&plain)).context("suite jobs")?,
            Suite::StorageOss => runtime
                .block_on(storage_oss::run(&plain))
                .context("suite storage-oss")?,
            Suite::StorageLocal => runtime
                .block_on(storage_local::run(&plain))
                .context("suite storage-local")?,
        }
    }
    Ok(())
}

/// Goals that are missed do not fail a run, measures that could not be taken do.
fn told(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
