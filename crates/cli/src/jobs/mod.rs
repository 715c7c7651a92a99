//! `zhuji jobs …`: into the queues of a database, whether or not a service runs.

mod args;
mod connect;
mod dead;
mod look;
mod table;

use std::process::ExitCode;

use serde_json::json;
use zhuji_jobs::{Cancellation, ErrorKind, JobsAdmin};

pub(crate) use args::JobsCommand;
use args::{DeadCommand, Ids, Queue};

use crate::failure::Failure;
use crate::storage::say;

impl From<zhuji_jobs::Error> for Failure {
    fn from(error: zhuji_jobs::Error) -> Self {
        if error.is_unavailable() {
            return Self::unavailable(error.to_string());
        }
        // The other kinds say in their own line what is wrong; of the store's only the source knows.
        let source = std::error::Error::source(&error).filter(|_| error.kind() == ErrorKind::Store);
        match source {
            Some(source) => Self::failed(format!("{error}: {source}")),
            None => Self::failed(error.to_string()),
        }
    }
}

pub(crate) async fn run(command: &JobsCommand) -> Result<ExitCode, Failure> {
    let jobs = connect::admin().await?;
    match command {
        JobsCommand::Queues(args) => look::queues(&jobs, args.json).await?,
        JobsCommand::List(args) => {
            look::list(&jobs, &args.filter, args.state.map(Into::into), &args.page).await?
        }
        JobsCommand::Show(args) => look::show(&jobs, args.id, args.json.json).await?,
        JobsCommand::Retry(args) => return Ok(retry(&jobs, args).await),
        JobsCommand::Cancel(args) => return Ok(cancel(&jobs, args).await),
        JobsCommand::Pause(args) => set_paused(&jobs, args, true).await?,
        JobsCommand::Resume(args) => set_paused(&jobs, args, false).await?,
        JobsCommand::Dead(DeadCommand::List(args)) => dead::list(&jobs, args).await?,
        JobsCommand::Dead(DeadCommand::Replay(args)) => dead::replay(&jobs, args).await?,
        JobsCommand::Dead(DeadCommand::Drop(args)) => dead::drop(&jobs, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(jobs: &JobsAdmin, args: &Ids) -> ExitCode {
    let mut all = Outcome::default();
    for id in &args.ids {
        match jobs.retry(*id).await {
            Ok(()) if args.json.json => say(&json!({ "id": id, "retried": true }).to_string()),
            Ok(()) => say(&format!("{id} runs as soon as a worker is free")),
            Err(error) => all.add(error.into()),
        }
    }
    all.code()
}

async fn cancel(jobs: &JobsAdmin, args: &Ids) -> ExitCode {
    let mut all = Outcome::default();
    for id in &args.ids {
        match jobs.cancel(*id).await {
            Ok(cancellation) if args.json.json => {
                say(&json!({ "id": id, "cancellation": cancellation }).to_string());
            }
            Ok(Cancellation::Cancelled) => say(&format!("{id} is cancelled")),
            Ok(_) => say(&format!("{id} is running; its worker is asked to stop it")),
            Err(error) => all.add(error.into()),
        }
    }
    all.code()
}

/// Of several jobs, each is tried; one failure is enough for the exit code.
#[derive(Default)]
struct Outcome(Option<Failure>);

impl Outcome {
    fn add(&mut self, failure: Failure) {
        eprintln!("zhuji: {failure}");
        self.0 = Some(failure);
    }

    fn code(&self) -> ExitCode {
        self.0.as_ref().map_or(ExitCode::SUCCESS, Failure::exit_code)
    }
}

async fn set_paused(jobs: &JobsAdmin, args: &Queue, paused: bool) -> Result<(), Failure> {
    let queue = &args.queue;
    let known = jobs.queues().await?.iter().any(|known| known.queue == *queue);
    if paused {
        jobs.pause(queue).await?;
    } else {
        jobs.resume(queue).await?;
    }
    if args.json.json {
        say(&json!({ "queue": queue, "paused": paused, "known": known }).to_string());
        return Ok(());
    }
    let done = if paused {
        "is paused; what runs goes on"
    } else {
        "runs again"
    };
    let note = if known {
        ""
    } else {
        " (no job, limit or schedule is known of it)"
    };
    say(&table::clean(&format!("{queue} {done}{note}")));
    Ok(())
}
