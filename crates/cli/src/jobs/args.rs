//! What can be typed after `zhuji jobs`.

use clap::{Args, Subcommand, ValueEnum};
use zhuji_jobs::{JobId, JobState};

#[derive(Subcommand, Debug)]
pub(crate) enum JobsCommand {
    /// Lists the queues: what is in them, whether they are paused, their limits, and the timetable.
    #[command(after_help = "Example: zhuji jobs queues\n         \
                            zhuji jobs queues --json | jq '.queues[] | select(.counts.dead > 0)'")]
    Queues(Json),
    /// Lists jobs, the newest first.
    #[command(after_help = "Example: zhuji jobs list --state dead --queue asl\n         \
                            zhuji jobs list --kind extract_pdf --limit 200 --json | jq -r '.jobs[].id'")]
    List(List),
    /// Shows one job: its data, its attempts, its progress, its result.
    #[command(after_help = "Example: zhuji jobs show 01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c")]
    Show(Show),
    /// Makes jobs run now, with all their attempts before them: dead and cancelled ones, and those that wait for their time.
    #[command(after_help = "Example: zhuji jobs retry 01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c")]
    Retry(Ids),
    /// Cancels jobs: at once if they wait; the worker of one that runs is asked to stop it.
    #[command(after_help = "Example: zhuji jobs cancel 01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c")]
    Cancel(Ids),
    /// Holds the jobs of a queue back, in the whole fleet. What runs goes on.
    #[command(after_help = "Example: zhuji jobs pause asl")]
    Pause(Queue),
    /// Lets the jobs of a queue run again.
    #[command(after_help = "Example: zhuji jobs resume asl")]
    Resume(Queue),
    /// Looks at the dead jobs, and puts them back or forgets them.
    #[command(subcommand)]
    Dead(DeadCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum DeadCommand {
    /// Lists dead jobs, the newest first.
    #[command(after_help = "Example: zhuji jobs dead list --kind extract_pdf")]
    List(DeadList),
    /// Puts dead jobs back into their queues, with all their attempts.
    #[command(
        after_help = "Example: zhuji jobs dead replay --queue asl --dry-run\n         \
                            zhuji jobs dead replay --kind extract_pdf"
    )]
    Replay(Replay),
    /// Forgets dead jobs for good.
    #[command(
        after_help = "Example: zhuji jobs dead drop --kind old_report --dry-run\n         \
                            zhuji jobs dead drop --all"
    )]
    Drop(Drop),
}

#[derive(Args, Debug)]
pub(crate) struct Json {
    /// For machines.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// Of this queue.
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Of this kind.
    #[arg(long)]
    pub(crate) kind: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PageOf {
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Older than this one: what the page before ended with.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<JobId>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// In this state.
    #[arg(long)]
    pub(crate) state: Option<State>,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) page: PageOf,
}

#[derive(Args, Debug)]
pub(crate) struct DeadList {
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) page: PageOf,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The job.
    pub(crate) id: JobId,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Ids {
    /// The jobs.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<JobId>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Queue {
    /// The queue: the name of a module.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) queue: String,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Only says which.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").args(["queue", "kind", "all"]).required(true).multiple(true))]
pub(crate) struct Drop {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Of every queue and kind.
    #[arg(long, conflicts_with_all = ["queue", "kind"])]
    pub(crate) all: bool,
    /// Only says which.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum State {
    Ready,
    Scheduled,
    Running,
    Done,
    Dead,
    Cancelled,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::Scheduled => Self::Scheduled,
            State::Running => Self::Running,
            State::Done => Self::Done,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }
}
