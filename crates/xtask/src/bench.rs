//! `cargo xtask bench`: the crates side by side with their peers.

use clap::Args;

use crate::failure::Result;
use crate::process::{self, cargo};
use crate::workspace::Workspace;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench                  every suite
  cargo xtask bench service --quick  one suite, within a minute

The benchmarks are a workspace of their own (crates/bench), built into target/bench-build, so that the peers they
measure never enter the product's tree. Each suite prints a table and writes target/bench/SUITE.json.")]
pub(crate) struct BenchArgs {
    /// The suites to run; without a name: all of them
    suites: Vec<String>,
    /// Fewer rounds: each suite ends within a minute
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    let manifest = workspace.root().join("crates/bench/Cargo.toml");
    if !manifest.exists() {
        return Err(format!(
            "there are no benchmarks in this checkout: {} is missing",
            manifest.display()
        )
        .into());
    }
    let mut bench = cargo();
    bench
        .args(["run", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--")
        .args(&args.suites);
    if args.quick {
        bench.arg("--quick");
    }
    bench.env("CARGO_TARGET_DIR", workspace.target().join("bench-build"));
    // Unknown suites are refused by the program itself, which alone knows what it can measure.
    process::run(&mut bench)
}
