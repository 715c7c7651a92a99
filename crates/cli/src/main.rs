//! `zhuji`, the operator's command.

mod args;
mod backup;
mod deploy;
mod doctor;
mod failure;
mod jobs;
mod location;
mod new_module;
mod plan;
mod restore;
mod storage;

use std::process::ExitCode;
use std::time::Duration;

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
        Command::Doctor(doctor) => block_on(doctor::run(&doctor)),
        Command::New(command) => new_module::run(&command),
        Command::Jobs(command) => block_on(jobs::run(&command)),
        Command::Backup(backup) => block_on(backup::run(&backup)),
        Command::Restore(restore) => block_on(restore::run(&restore)),
        Command::Deploy(command) => deploy::run(&command),
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
    let done = runtime.block_on(work);
    // A name server that does not answer holds a thread for half a minute, and there is nothing more to wait for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
