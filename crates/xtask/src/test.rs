//! `cargo xtask test`: every test of the workspace, against real servers.

use std::process::Command;

use clap::Args;
use zhuji_testkit::TestPostgres;

use crate::failure::Result;
use crate::machine::{self, CHROMIUM, OPENSSL, PGBOUNCER, POSTGRES, PYTHON, REDIS};
use crate::process::{self, cargo};
use crate::skips;
use crate::tools::PROMTOOL;
use crate::workspace::Workspace;

#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  cargo xtask test                            every test and every documentation example
  cargo xtask test -- -p zhuji-storage        one crate (what follows `--` goes to `cargo nextest run`)
  cargo xtask test -- -E 'test(signed_url)'   the tests whose name contains `signed_url`

PostgreSQL, Redis and Chromium are found, or installed where that takes no password. One throw-away PostgreSQL serves
the whole run; each test has its own database in it. Set TEST_DATABASE_URL to use a server of yours instead.
What a test had to leave out, it says in a line `SKIPPED …`; these lines stand above the summary.")]
pub(crate) struct TestArgs {
    /// Handed to `cargo nextest run`; documentation examples are then left out
    #[arg(last = true, value_name = "NEXTEST ARGUMENTS")]
    pub(crate) nextest: Vec<String>,
    /// On a machine shared with others a process can be starved for seconds: a test that passes at the second try is
    /// named FLAKY, above the summary.
    #[arg(skip)]
    pub(crate) retries: u32,
    /// Besides those that say where the servers are.
    #[arg(skip)]
    pub(crate) variables: Vec<(&'static str, &'static str)>,
}

/// Answers with what was left out, one line each.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    for tool in [&POSTGRES, &REDIS, &OPENSSL] {
        machine::ensure(tool)?;
    }
    for (tool, without) in [
        (
            &CHROMIUM,
            "the reference service's page is not tried in a browser",
        ),
        (
            &PYTHON,
            "the OSS server is not tried with the official Python client",
        ),
        (
            &PGBOUNCER,
            "the pool is not tried behind a transaction-mode pooler",
        ),
    ] {
        if let Err(failure) = machine::ensure(tool) {
            skipped.push(format!("SKIPPED: {without}: {failure}"));
        }
    }

    let promtool = PROMTOOL.ensure(workspace);
    if let Err(failure) = &promtool {
        skipped.push(format!(
            "SKIPPED: the form of the metrics is not checked by promtool: {failure}"
        ));
    }

    // A cluster for the whole run, unless the caller brings one: a test then only creates a database.
    let given = std::env::var("TEST_DATABASE_URL")
        .ok()
        .filter(|url| !url.is_empty());
    let cluster = given.is_none().then(start_postgres).transpose()?;
    let url = given.or_else(|| cluster.as_ref().map(|cluster| cluster.postgres.url()));
    let prepared = |mut command: Command| {
        command.envs(url.as_deref().map(|url| ("TEST_DATABASE_URL", url)));
        command.envs(promtool.as_ref().ok().map(|path| ("PROMTOOL", path)));
        command.envs(args.variables.iter().copied());
        command
    };

    // Documentation examples first, because a run's output has to end with the summary of the tests. Their failure
    // does not keep the tests from running.
    let examples = if args.nextest.is_empty() {
        process::run(prepared(cargo()).args(["test", "--doc", "--workspace", "--locked"]))
    } else {
        Ok(())
    };
    let mut tests = prepared(cargo());
    let outcome = if has_nextest() {
        // Without `--workspace`, so that `-p` builds that one package; without `-p` cargo takes every member.
        tests.args(["nextest", "run", "--locked"]).args(&args.nextest);
        if args.retries > 0 {
            tests.args(["--retries", &args.retries.to_string()]);
        }
        skips::run(workspace, &mut tests, skipped)
    } else if args.nextest.is_empty() {
        skipped.iter().for_each(|line| println!("{line}"));
        println!(
            "cargo-nextest is not installed: `cargo test` runs the tests instead, more slowly, and does not show what \
             passing tests say they have left out"
        );
        tests.args(["test", "--workspace", "--tests", "--locked"]);
        process::run(&mut tests).map(|()| skipped)
    } else {
        return Err("cargo-nextest is not installed: cargo install --locked cargo-nextest".into());
    };
    drop(cluster);
    let skipped = outcome?;
    examples.map_err(|failure| {
        failure.while_doing(format!(
            "documentation examples of {}",
            workspace.root().display()
        ))
    })?;
    Ok(skipped)
}

fn has_nextest() -> bool {
    process::run_quietly(cargo().args(["nextest", "--version"])).is_ok()
}

/// A throw-away server, and the runtime that its handle needs to be stopped in.
struct Cluster {
    postgres: TestPostgres,
    _runtime: tokio::runtime::Runtime,
}

fn start_postgres() -> Result<Cluster> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Many test processes at once, each with pools of its own.
    let postgres = runtime.block_on(TestPostgres::options().max_connections(500).start());
    Ok(Cluster {
        postgres,
        _runtime: runtime,
    })
}
