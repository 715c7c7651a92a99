//! What can be typed.

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::location::Location;

/// The operator's command for Zhuji services.
#[derive(Parser, Debug)]
#[command(name = "zhuji", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Plans the sizes of a fleet's connection pools.
    #[command(
        after_help = "Example: zhuji plan --max-connections 400 --instances 10\n         \
                            zhuji plan --rds 4C8G --instances 10 --per-second 500 --hold 20ms\n\
                            Exit code: 0 OK, 3 TIGHT, 4 IMPOSSIBLE."
    )]
    Plan(Plan),
    /// Looks at files and moves them, on disk and in OSS.
    #[command(subcommand)]
    Storage(StorageCommand),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Plan {
    /// The server's `max_connections`.
    #[arg(long, required_unless_present = "rds")]
    pub(crate) max_connections: Option<u32>,
    /// A size of RDS instead, such as `2C4G`: its connections and cores by the deployment guide.
    #[arg(long, value_parser = crate::plan::Rds::parse)]
    pub(crate) rds: Option<&'static crate::plan::Rds>,
    /// Cores of the server; with them the plan says how many queries at a time it is best at.
    #[arg(long)]
    pub(crate) cores: Option<u32>,
    /// The largest number of instances.
    #[arg(long, default_value_t = 1)]
    pub(crate) instances: u32,
    /// Instances of the old version that still run during a release. Default: as many again.
    #[arg(long)]
    pub(crate) surge: Option<u32>,
    /// Slots that the server and its vendor keep for themselves.
    #[arg(long)]
    pub(crate) reserved: Option<u32>,
    /// Slots of other services, people and tools.
    #[arg(long)]
    pub(crate) others: Option<u32>,
    /// Weight of requests in each pool, against --jobs-weight.
    #[arg(long, default_value_t = 3)]
    pub(crate) web_weight: u32,
    /// Weight of background jobs in each pool.
    #[arg(long, default_value_t = 1)]
    pub(crate) jobs_weight: u32,
    /// Database operations per second of one instance at its peak; with --hold the plan says whether they fit.
    #[arg(long, requires = "hold")]
    pub(crate) per_second: Option<f64>,
    /// For how long each of them holds its connection (95th percentile), such as `20ms`.
    #[arg(long, requires = "per_second", value_parser = zhuji_config::parse_duration)]
    pub(crate) hold: Option<Duration>,
    /// For machines.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum StorageCommand {
    /// Lists objects: size, time, key.
    #[command(
        after_help = "Example: zhuji storage ls local:./uploads/asl\n         zhuji storage ls oss://aiclinical-prod/asl/pdfs/"
    )]
    Ls(Ls),
    /// Copies objects from one place to another, with a progress bar.
    #[command(
        after_help = "Example: zhuji storage cp local:./uploads/asl oss://aiclinical-prod/asl --recursive"
    )]
    Cp(Cp),
    /// Deletes objects.
    #[command(after_help = "Example: zhuji storage rm oss://aiclinical-prod/temp/ --recursive --dry-run")]
    Rm(Rm),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Ls {
    /// `local:DIR[/PREFIX]` or `oss://BUCKET[/PREFIX]`; region and keys of OSS come from OSS_REGION and so on.
    pub(crate) at: Location,
    /// For machines: one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Cp {
    /// From where.
    pub(crate) from: Location,
    /// To where.
    pub(crate) to: Location,
    /// Everything below the place, not one object.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Only says what would be copied.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Rm {
    /// Where.
    pub(crate) at: Location,
    /// Everything below the place, not one object.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Only says what would be deleted.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
