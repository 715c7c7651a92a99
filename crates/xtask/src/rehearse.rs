//! `cargo xtask rehearse`: what a release or an operator does, done for real as far as this machine allows.

mod compose;
mod container;
mod container_bases;
mod container_run;
mod documents;
mod markdown;
mod names;
mod sae;

use std::time::Instant;

use clap::Args;

use crate::failure::{Failure, Result};
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
    /// Answers with the figure that says how much was rehearsed.
    run: fn(&Workspace) -> Result<String>,
}

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
        name: "sae",
        about: "the policies allow what the service does and no more; the release script, against a fake docker",
        run: sae::rehearse,
    },
    Rehearsal {
        name: "container",
        about: "the image is built, runs as nobody on a read-only root, answers and ends in order",
        run: container::rehearse,
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
        Some("all") => all(workspace).map(drop),
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
            one(workspace, found)
        }
    }
}

/// Runs every rehearsal, also after one has failed, and answers with how many there were.
pub(crate) fn all(workspace: &Workspace) -> Result<String> {
    let failures: Vec<Failure> = REHEARSALS
        .iter()
        .filter_map(|rehearsal| one(workspace, rehearsal).err())
        .collect();
    if failures.is_empty() {
        return Ok(format!("{} rehearsed", REHEARSALS.len()));
    }
    let lines: Vec<String> = failures.iter().map(Failure::to_string).collect();
    Err(lines.join("\n").into())
}

fn one(workspace: &Workspace, rehearsal: &Rehearsal) -> Result<()> {
    let started = Instant::now();
    let figure = (rehearsal.run)(workspace).map_err(|failure| failure.while_doing(rehearsal.name))?;
    println!(
        "{}: {figure} ({:.1} s)",
        rehearsal.name,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
