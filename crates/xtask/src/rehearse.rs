//! `cargo xtask rehearse`: what a release or an operator does, done for real as far as this machine allows.

mod alerts;
mod backup;
mod bundle;
mod capacity;
mod capacity_limit;
mod capacity_load;
mod compose;
mod container;
mod container_bases;
mod container_run;
mod documents;
mod markdown;
mod modes;
mod names;
mod page;
mod proofs;
mod registry;
mod registry_server;
mod registry_users;
mod running;
mod sae;
mod sae_policy;
mod twins;
mod yaml;

use std::time::Instant;

use clap::Args;

use crate::failure::Result;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask rehearse               the names there are, and what each one proves
  cargo xtask rehearse container     one of them
  cargo xtask rehearse all           every one")]
pub(crate) struct RehearseArgs {
    /// Which one, or `all`; without a name: print the names
    name: Option<String>,
}

struct Rehearsal {
    name: &'static str,
    about: &'static str,
    /// Answers with the figure that says how much was rehearsed; one that begins with `SKIPPED` says why nothing was.
    run: fn(&Workspace) -> Result<String>,
}

/// What a submission's checks leave out of `all`, and why.
const NOT_IN_CI: &[(&str, &str)] = &[
    ("modes", "the tests run the same scenario in all four modes"),
    (
        "proofs",
        "the tests run them with smaller counts: `cargo xtask rehearse proofs`",
    ),
    (
        "registry",
        "builds every crate once more; its first half is `release`",
    ),
    (
        "capacity",
        "its figures mean something on a quiet machine alone: `cargo xtask rehearse capacity`",
    ),
];

/// What a figure begins with that is none.
const SKIPPED: &str = "SKIPPED";

const REHEARSALS: &[Rehearsal] = &[
    Rehearsal {
        name: "documents",
        about: "every link leads somewhere; every command, setting and metric that a page names exists",
        run: documents::rehearse,
    },
    Rehearsal {
        name: "compose",
        about: "the composition for a site follows the specification, and the service takes its settings",
        run: compose::rehearse,
    },
    Rehearsal {
        name: "alerts",
        about: "each alert fires, is silent and has a runbook; the service emits what rules and dashboard name",
        run: alerts::rehearse,
    },
    Rehearsal {
        name: "sae",
        about: "the policies allow what the service does and no more; the release script, against a fake docker",
        run: sae::rehearse,
    },
    Rehearsal {
        name: "release",
        about: "a release to a registry on this machine: refused, broken off, taken up again, and complete",
        run: registry::rehearse_release,
    },
    Rehearsal {
        name: "registry",
        about: "the same, and what is built from it: the quickstart, the operator's command, a fresh module",
        run: registry::rehearse,
    },
    Rehearsal {
        name: "modes",
        about: "one scenario in the four modes with the real back ends of each, two of them without a network",
        run: modes::rehearse,
    },
    Rehearsal {
        name: "proofs",
        about: "the long proofs at full size: killed writers, hostile keys, faults, 100,000 jobs (ten minutes)",
        run: proofs::rehearse,
    },
    Rehearsal {
        name: "capacity",
        about: "what an instance of half a core holds, how fast the program starts; needs a quiet machine",
        run: capacity::rehearse,
    },
    Rehearsal {
        name: "container",
        about: "the image is built, runs as nobody on a read-only root, answers and ends in order",
        run: container::rehearse,
    },
    Rehearsal {
        name: "backup",
        about: "backup, loss and restore of a site; an upgrade and the way back; from disk to OSS",
        run: backup::rehearse,
    },
    Rehearsal {
        name: "bundle",
        about: "the bundle for a site without a network is made, installed and started without one",
        run: bundle::rehearse,
    },
];

pub(crate) fn run(workspace: &Workspace, args: &RehearseArgs) -> Result<()> {
    match args.name.as_deref() {
        None => {
            for rehearsal in REHEARSALS {
                println!("{:<12} {}", rehearsal.name, rehearsal.about);
            }
            Ok(())
        }
        Some("all") => each(REHEARSALS, &[], |rehearsal| one(workspace, rehearsal)).map(drop),
        Some(name) => {
            let found = REHEARSALS
                .iter()
                .find(|rehearsal| rehearsal.name == name)
                .ok_or_else(|| {
                    let known: Vec<&str> = REHEARSALS.iter().map(|rehearsal| rehearsal.name).collect();
                    format!(
                        "there is no rehearsal `{name}`; there are: all, {}",
                        known.join(", ")
                    )
                })?;
            one(workspace, found).map(drop)
        }
    }
}

/// Runs every rehearsal that a submission's checks have the time for.
pub(crate) fn in_ci(workspace: &Workspace) -> Result<String> {
    each(REHEARSALS, NOT_IN_CI, |rehearsal| one(workspace, rehearsal))
}

/// Runs every rehearsal, also after one has failed; prints one line each at the end, and answers with how many there
/// were.
fn each(
    rehearsals: &[Rehearsal],
    left_out: &[(&str, &str)],
    mut run: impl FnMut(&Rehearsal) -> Result<String>,
) -> Result<String> {
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for rehearsal in rehearsals {
        let reason = left_out.iter().find(|(name, _)| *name == rehearsal.name);
        let outcome = match reason {
            Some((name, reason)) => Ok(format!("{name}: {SKIPPED}: {reason}")),
            None => run(rehearsal),
        };
        lines.push(outcome.unwrap_or_else(|failure| {
            failures.push(failure.to_string());
            format!("{}: FAILED", rehearsal.name)
        }));
    }
    // Once more, and together: in between, each of them has said much.
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    if failures.is_empty() {
        return Ok(summary(&lines));
    }
    Err(failures.join("\n").into())
}

/// `5 rehearsed, 2 SKIPPED`: what was left out is never counted as done.
fn summary(lines: &[String]) -> String {
    let skipped = lines
        .iter()
        .filter(|line| line.contains(&format!(": {SKIPPED}")))
        .count();
    match skipped {
        0 => format!("{} rehearsed", lines.len()),
        _ => format!("{} rehearsed, {skipped} {SKIPPED}", lines.len() - skipped),
    }
}

/// Runs one, and answers with its line.
fn one(workspace: &Workspace, rehearsal: &Rehearsal) -> Result<String> {
    let started = Instant::now();
    let figure = (rehearsal.run)(workspace).map_err(|failure| failure.while_doing(rehearsal.name))?;
    let line = format!(
        "{}: {figure} ({:.1} s)",
        rehearsal.name,
        started.elapsed().as_secs_f64()
    );
    println!("{line}");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_not_counted_as_done() {
        let lines = ["a: 3 links (0.1 s)", "b: SKIPPED: no engine (0.0 s)"].map(ToOwned::to_owned);
        assert_eq!(summary(&lines[..1]), "1 rehearsed");
        assert_eq!(summary(&lines), "1 rehearsed, 1 SKIPPED");
    }

    #[test]
    fn one_that_fails_is_named_and_keeps_nobody_from_running() {
        let mut ran = Vec::new();
        let mut fail = |failing: &str| {
            each(REHEARSALS, &[("modes", "no time")], |rehearsal| {
                ran.push(rehearsal.name);
                match rehearsal.name == failing {
                    true => Err(format!("{failing}: why").into()),
                    false => Ok(format!("{}: 1 figure (0.1 s)", rehearsal.name)),
                }
            })
        };
        let failure = fail("documents").expect_err("one fails");
        assert_eq!(failure.to_string(), "documents: why");
        let count = REHEARSALS.len() - 1;
        assert_eq!(
            fail("").expect("none fails"),
            format!("{count} rehearsed, 1 SKIPPED")
        );
        assert_eq!(ran.len(), 2 * count);
        assert!(!ran.contains(&"modes"));
    }

    #[test]
    fn what_ci_leaves_out_exists() {
        for (name, _) in NOT_IN_CI {
            assert!(
                REHEARSALS.iter().any(|rehearsal| rehearsal.name == *name),
                "{name}"
            );
        }
    }
}
