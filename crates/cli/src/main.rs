//! `zhuji`, the operator's command.

mod args;
mod failure;
mod jobs;
mod location;
mod plan;
mod storage;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, StorageCommand};
use failure::Failure;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("zhuji: {failure}");
            failure.exit_code()
        }
    }
}

fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Plan(plan) => plan::run(&plan),
        Command::Jobs(command) => block_on(jobs::run(&command)),
        Command::Storage(command) => block_on(async {
            match command {
                StorageCommand::Ls(ls) => storage::ls(&ls).await,
                StorageCommand::Cp(cp) => storage::cp(&cp).await,
                StorageCommand::Sync(sync) => storage::sync(&sync).await,
                StorageCommand::Verify(verify) => storage::verify(&verify).await,
                StorageCommand::Apply(apply) => storage::apply(&apply).await,
                StorageCommand::Rm(rm) => storage::rm(&rm).await,
            }
        }),
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the async runtime could not be started: {error}")))?;
    runtime.block_on(work)
}
