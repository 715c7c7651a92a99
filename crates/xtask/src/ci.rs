//! `cargo xtask ci`: everything a change must pass, cheapest first, the tests last.

use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::process::{self, cargo};
use crate::report::{self, Row, Verdict};
use crate::workspace::{Package, Workspace};
use crate::{machine, rehearse, rules, test, tools};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask ci                     everything, as a submission runs it
  cargo xtask ci --list              the steps and what each one checks
  cargo xtask ci --only clippy       one step alone
  cargo xtask ci --skip test         everything but the tests

Every step runs even when an earlier one failed, so that one run shows every problem.
The table of steps is printed before the tests and written to target/ci/steps.json.")]
pub(crate) struct CiArgs {
    /// Run only this step (may be given again)
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Leave this step out (may be given again)
    #[arg(long, value_name = "STEP")]
    skip: Vec<String>,
    /// Print the steps and stop
    #[arg(long)]
    list: bool,
}

/// What a step came to, when it did not fail.
enum Done {
    /// With a figure worth reading, or nothing.
    Passed(String),
    /// With the reason, and what was therefore not checked.
    Skipped(String),
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Done>,
}

/// In this order: what ends within seconds comes first, and the tests come last because the output of a run ends with
/// their summary.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "every file as rustfmt writes it",
        run: format,
    },
    Step {
        name: "rules",
        about: "floors, manifests, file lengths, nobody's home directory",
        run: house_rules,
    },
    Step {
        name: "spelling",
        about: "typos, with the word list of typos.toml",
        run: spelling,
    },
    Step {
        name: "deny",
        about: "licences, banned crates and sources, as deny.toml says",
        run: deny,
    },
    Step {
        name: "advisories",
        about: "known vulnerabilities (needs the network)",
        run: advisories,
    },
    Step {
        name: "clippy",
        about: "no warning in any target of any crate",
        run: clippy,
    },
    Step {
        name: "features",
        about: "each crate without, and with each one, of its features; and the tests that only a feature has",
        run: features,
    },
    Step {
        name: "doc",
        about: "the documentation builds without a warning",
        run: doc,
    },
    Step {
        name: "rehearse",
        about: "what a release or an operator does, as far as this machine allows: `cargo xtask rehearse` lists it",
        run: rehearsals,
    },
    Step {
        name: "test",
        about: "every test, as `cargo xtask test` runs them",
        run: tests,
    },
];

pub(crate) fn run(workspace: &Workspace, args: &CiArgs) -> Result<()> {
    if args.list {
        for step in STEPS {
            println!("{:<11} {}", step.name, step.about);
        }
        return Ok(());
    }
    let file = workspace.target().join("ci").join("steps.json");
    let mut rows = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for step in chosen(&args.only, &args.skip)? {
        if step.name == "test" && !rows.is_empty() {
            println!("\n{}", report::table(&rows));
        }
        println!("\n== {}: {}", step.name, step.about);
        let started = Instant::now();
        let (verdict, note) = match (step.run)(workspace) {
            Ok(Done::Passed(figure)) => (Verdict::Passed, figure),
            Ok(Done::Skipped(reason)) => {
                println!("SKIPPED: {reason}");
                (Verdict::Skipped, reason)
            }
            Err(failure) => {
                eprintln!(
                    "FAILED: {failure}\nto run this step alone: cargo xtask ci --only {}",
                    step.name
                );
                let note = failure.to_string();
                failures.push(failure.while_doing(step.name));
                (Verdict::Failed, note)
            }
        };
        rows.push(Row::new(step.name, verdict, started.elapsed(), note));
        report::write(&rows, &file)?;
    }
    let ended_with_tests = rows.last().is_some_and(|row| row.step == "test");
    if !ended_with_tests {
        println!("\n{}", report::table(&rows));
    }
    let Some(first) = failures.first() else {
        return Ok(());
    };
    let names: Vec<&str> = rows
        .iter()
        .filter(|row| row.verdict == Verdict::Failed)
        .map(|row| row.step.as_str())
        .collect();
    Err(Failure::with_code(
        format!("these steps failed: {}", names.join(", ")),
        first.code(),
    ))
}

/// The steps to run, in their order, whatever the order they were asked for in.
fn chosen(only: &[String], skip: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = only
        .iter()
        .chain(skip)
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!("there is no step `{unknown}`; there are: {}", known.join(", ")).into());
    }
    let is_in = |names: &[String], step: &Step| names.iter().any(|name| name == step.name);
    Ok(STEPS
        .iter()
        .filter(|step| (only.is_empty() || is_in(only, step)) && !is_in(skip, step))
        .collect())
}

fn format(workspace: &Workspace) -> Result<Done> {
    // The benchmarks are a workspace of their own; the rest of the checks leaves their peers unbuilt.
    let bench = workspace.root().join("crates/bench/Cargo.toml");
    for manifest in [workspace.root().join("Cargo.toml"), bench]
        .into_iter()
        .filter(|manifest| manifest.exists())
    {
        process::run(
            cargo()
                .args(["fmt", "--all", "--check", "--manifest-path"])
                .arg(&manifest),
        )
        .map_err(|failure| Failure::new(format!("{failure}; the same without `--check` mends it")))?;
    }
    Ok(Done::Passed(String::new()))
}

fn house_rules(workspace: &Workspace) -> Result<Done> {
    // The benchmarks have a lock file of their own, which a new dependency of ours makes stale.
    let mut bench = cargo();
    bench.args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--manifest-path",
        "crates/bench/Cargo.toml",
    ]);
    process::run_quietly(&mut bench).map_err(|failure| {
        let mend = "cargo update --workspace --manifest-path crates/bench/Cargo.toml";
        Failure::new(format!(
            "{failure}; the lock file of the benchmarks is stale: {mend}"
        ))
    })?;
    let breaches = rules::check(workspace)?;
    if breaches.is_empty() {
        return Ok(Done::Passed(String::new()));
    }
    let lines = breaches
        .iter()
        .map(|breach| format!("\n    {breach}"))
        .collect::<String>();
    Err(format!("{} breaches of the house rules:{lines}", breaches.len()).into())
}

fn spelling(workspace: &Workspace) -> Result<Done> {
    let typos = match tools::TYPOS.ensure(workspace) {
        Ok(program) => program,
        Err(failure) => return Ok(Done::Skipped(format!("typos is not to be had: {failure}"))),
    };
    process::run(Command::new(typos).args(["--config", "typos.toml", "--format", "brief"])).map_err(
        |failure| {
            Failure::new(format!(
                "{failure}; a right word that it does not know belongs into typos.toml"
            ))
        },
    )?;
    Ok(Done::Passed(String::new()))
}

fn deny(workspace: &Workspace) -> Result<Done> {
    let deny = match tools::CARGO_DENY.ensure(workspace) {
        Ok(program) => program,
        Err(failure) => return Ok(Done::Skipped(format!("cargo-deny is not to be had: {failure}"))),
    };
    process::run(Command::new(deny).args(["--all-features", "check", "licenses", "bans", "sources"]))?;
    Ok(Done::Passed(String::new()))
}

/// The database of advisories is a repository elsewhere: a build that may not fetch it must not look green.
fn advisories(_: &Workspace) -> Result<Done> {
    let reason = "known vulnerabilities are NOT checked here, because that needs the network; the release pipeline runs \
                  `cargo deny check advisories`";
    Ok(Done::Skipped(reason.to_owned()))
}

fn clippy(_: &Workspace) -> Result<Done> {
    process::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Done::Passed(String::new()))
}

/// Building the whole workspace at once turns on the sum of the features that its members ask of one another, so that
/// a crate which forgot one still compiles. Here each one has to compile alone.
fn features(workspace: &Workspace) -> Result<Done> {
    // The feature that brings openssl.
    machine::ensure_openssl_headers()?;
    let mut checks = 0;
    for package in workspace.members()? {
        for selection in selections(&package) {
            let mut check = cargo();
            check
                .args(["check", "--quiet", "--locked", "--package", &package.name])
                .args(&selection);
            process::run(&mut check)?;
            checks += 1;
        }
    }
    let mut conformance = cargo();
    conformance.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "zhuji-storage",
        "--features",
        "oss-sdk",
    ]);
    process::run(conformance.args(["--test", "conformance", "sdk"]))?;
    Ok(Done::Passed(format!(
        "{checks} builds, and the conformance of the SDK's adapter"
    )))
}

/// The command lines that try a package without its features, and with each of them.
fn selections(package: &Package) -> Vec<Vec<String>> {
    let names: Vec<&String> = package
        .features
        .keys()
        .filter(|name| *name != "default")
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let none = "--no-default-features".to_owned();
    let each = names
        .iter()
        .map(|name| vec![none.clone(), "--features".to_owned(), (*name).clone()]);
    std::iter::once(vec![none.clone()]).chain(each).collect()
}

fn doc(_: &Workspace) -> Result<Done> {
    let mut doc = cargo();
    // Libraries only: the operator's program has the name of the facade, and their pages would overwrite each other.
    doc.args(["doc", "--workspace", "--lib", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut doc)?;
    Ok(Done::Passed(String::new()))
}

fn rehearsals(workspace: &Workspace) -> Result<Done> {
    rehearse::in_ci(workspace).map(Done::Passed)
}

fn tests(workspace: &Workspace) -> Result<Done> {
    let skipped = test::run(
        workspace,
        &test::TestArgs {
            retries: 1,
            ..test::TestArgs::default()
        },
    )?;
    Ok(Done::Passed(match skipped.len() {
        0 => String::new(),
        count => format!("{count} kinds of check were SKIPPED: see above the summary of the tests"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        chosen(&owned(only), &owned(skip))
            .expect("known steps")
            .iter()
            .map(|step| step.name)
            .collect()
    }

    #[test]
    fn the_tests_come_last() {
        assert_eq!(STEPS.last().expect("a step").name, "test");
        assert_eq!(names(&["test", "format"], &[]), ["format", "test"]);
    }

    #[test]
    fn steps_can_be_chosen_and_left_out() {
        assert_eq!(names(&[], &["test"]).len(), STEPS.len() - 1);
        assert_eq!(names(&["doc"], &["doc"]), [""; 0]);
        let refusal = chosen(&["clipy".to_owned()], &[])
            .err()
            .expect("unknown")
            .to_string();
        assert!(refusal.contains("clippy"), "{refusal}");
    }

    #[test]
    fn each_feature_is_tried_alone() {
        let package = |features: &[&str]| -> Package {
            let features: std::collections::BTreeMap<_, Vec<String>> =
                features.iter().map(|name| (*name, Vec::new())).collect();
            serde_json::from_value(
                serde_json::json!({"name": "a", "publish": null, "dependencies": [], "features": features}),
            )
            .expect("a package")
        };
        assert!(selections(&package(&[])).is_empty());
        let lines: Vec<String> = selections(&package(&["default", "otel", "oss-sdk"]))
            .iter()
            .map(|words| words.join(" "))
            .collect();
        let none = "--no-default-features";
        assert_eq!(
            lines,
            [
                none.to_owned(),
                format!("{none} --features oss-sdk"),
                format!("{none} --features otel")
            ]
        );
    }
}
