//! The project's own commands: `cargo xtask --help`.
#![allow(clippy::print_stdout, reason = "a command line's output is what it is for")]

mod bench;
mod ci;
mod dev;
mod failure;
mod machine;
mod oss;
mod port;
mod process;
mod publish;
mod rehearse;
mod report;
mod rules;
mod service;
mod skips;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::failure::Result;
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "The project's own commands",
    after_help = "Examples:
  cargo xtask dev      run the reference service, with nothing to set up
  cargo xtask test     run every test
  cargo xtask ci       everything a change must pass"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the reference service on this machine
    Dev(dev::DevArgs),
    /// Run an OSS server alone, for any client to be tried against
    Oss(oss::OssArgs),
    /// Run every test
    Test(test::TestArgs),
    /// Everything a change must pass: format, lints, documentation, licences, tests
    Ci(ci::CiArgs),
    /// Measure the crates side by side with their peers
    Bench(bench::BenchArgs),
    /// Do for real what a release or an operator does, as far as this machine allows
    Rehearse(rehearse::RehearseArgs),
    /// Publish every crate to the internal registry, and nowhere else
    Publish(publish::PublishArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match carry_out(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn carry_out(command: &Command) -> Result<()> {
    let workspace = Workspace::enter()?;
    match command {
        Command::Dev(args) => dev::run(&workspace, args),
        Command::Oss(args) => oss::run(args),
        Command::Test(args) => test::run(&workspace, args).map(drop),
        Command::Ci(args) => ci::run(&workspace, args),
        Command::Bench(args) => bench::run(&workspace, args),
        Command::Rehearse(args) => rehearse::run(&workspace, args),
        Command::Publish(args) => publish::run(&workspace, args),
    }
}

/// The command line as data: pages that name a command are held to it.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let command = super::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            let help = subcommand
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let example = format!("cargo xtask {}", subcommand.get_name());
            assert!(help.contains(&example), "{example}");
        }
    }
}
