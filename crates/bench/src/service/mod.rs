//! The reference service against the least that behaves the same.

mod cases;
mod contender;
mod peer;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use zhuji_testkit::TestPostgres;

use self::cases::{Pair, Plan};
use self::contender::Contender;
use crate::machine;
use crate::report;
use crate::workspace::Workspace;

/// The argument with which this program is the peer.
pub(crate) const PEER_COMMAND: &str = "service-peer";

/// Runs the peer; the other side of [`PEER_COMMAND`].
pub(crate) fn run_peer() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(peer::run())
}

/// How the suite is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Only the cases whose name contains this.
    pub(crate) only: String,
    /// Where the services keep what they store; none: on the checkout's own disk, because /tmp may be memory.
    pub(crate) folder: Option<PathBuf>,
    /// The `literature` binary; none: it is built.
    pub(crate) binary: Option<PathBuf>,
}

/// Runs the suite, prints its table and writes `service.json`.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let binary = match &options.binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| binary.display().to_string())?,
        None => workspace.build("literature")?,
    };
    let begin = Instant::now();
    let load_before = machine::load_average();
    let results = workspace.results();
    std::fs::create_dir_all(&results)?;
    let folder = tempfile::tempdir_in(options.folder.as_ref().unwrap_or(&results))?;
    let postgres = TestPostgres::start_own().await;
    let plan = Plan::new(options.quick);
    let mut pair = Pair {
        ours: Contender::ours(&postgres, folder.path(), &binary, plan.records()).await?,
        theirs: Contender::theirs(&postgres, folder.path(), plan.records()).await?,
    };
    let rows = cases::measure(&mut pair, &plan, &options.only).await?;

    println!("\n{}", report::table(&rows));
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
         MB: 10⁶ bytes resident."
    );
    if options.only.is_empty() {
        println!(
            "Written to {}.",
            report::write(&results, "service", &rows)?.display()
        );
    }
    Ok(())
}
