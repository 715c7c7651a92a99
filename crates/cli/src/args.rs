//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::backup::Backup;
use crate::deploy::DeployCommand;
use crate::doctor::Doctor;
use crate::jobs::JobsCommand;
use crate::location::Location;
use crate::new_module::NewCommand;
use crate::restore::Restore;

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
    /// Examines what a service stands on: settings, clock, names, database, storage, Redis, disks, language model, certificates.
    ///
    /// Takes the variables from where a service has them: the environment, `NAME_FILE`, `.env`, `zhuji.toml`; what is not
    /// set is not looked at. Each finding has its evidence and, where something is wrong, what to do.
    /// Exit code: 0 nothing is broken, 1 there are warnings (with --strict), 2 something does not work, or wrong usage.
    #[command(
        after_help = "Example: zhuji doctor\n         zhuji doctor --only database,storage --module asl --json --strict"
    )]
    Doctor(Doctor),
    /// Looks into the job queues of a database and sets things right; no service need run.
    ///
    /// Takes DATABASE_URL and the other DB_ variables from where a service has them: the environment, `NAME_FILE`, `.env`,
    /// `zhuji.toml`. Exit code: 0 done, 1 not possible or no such job, 2 wrong usage, 69 the database can't be reached.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Looks at files and moves them, on disk and in OSS.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Writes the beginnings of something new.
    #[command(subcommand)]
    New(NewCommand),
    /// Keeps the rows and the files of a service together in a directory or one archive.
    ///
    /// Takes DATABASE_URL, STORAGE_TYPE and what belongs to them from where a service has them. The service may run. First
    /// the database, in one snapshot, then the files: so every file that a kept row names is there.
    /// Exit code: 0 done, 1 failed, 2 wrong usage, 69 the database can't be reached.
    #[command(
        after_help = "Example: zhuji backup --to /backup/2026-01-31\n         \
                            zhuji backup --to /backup/2026-01-31.tar\n         \
                            zhuji backup verify /backup/2026-01-31",
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true
    )]
    Backup(Backup),
    /// Brings the rows and files of a backup back, into the database and the store that the variables name.
    ///
    /// The service must not run. First the files, then all rows in one transaction; what is there afterwards is compared with
    /// what the backup wrote down. Then start the service: it brings the schemas up to date.
    /// Exit code: 0 done and equal, 1 failed or different, 2 wrong usage or a target that is not empty, 69 no database.
    #[command(after_help = "Example: zhuji restore --from /backup/2026-01-31\n         \
                            zhuji restore --from /backup/2026-01-31.tar --force")]
    Restore(Restore),
    /// What a release needs.
    #[command(subcommand)]
    Deploy(DeployCommand),
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
    /// Copies objects from one place to another, checks what arrives, and goes on where an earlier try ended.
    #[command(
        after_help = "Example: zhuji storage cp local:./uploads/asl oss://aiclinical-prod/asl --recursive"
    )]
    Cp(Cp),
    /// Makes one place like another: copies what is new or different, and with --delete removes what is no longer there.
    #[command(
        after_help = "Example: zhuji storage sync local:./uploads oss://aiclinical-prod --dry-run\n         \
                            zhuji storage sync oss://aiclinical-prod local:/data/uploads --verify"
    )]
    Sync(Sync),
    /// Reads objects whole and compares them with the checksums that were kept, or with another place.
    #[command(after_help = "Example: zhuji storage verify local:/data/uploads\n         \
                            zhuji storage verify local:/data/uploads --against oss://aiclinical-prod\n\
                            Exit code: 0 all intact, 1 something is damaged, missing or different.")]
    Verify(Verify),
    /// Gives a store the rules of a file: when objects expire or move, which pages may use it, whether old versions are kept.
    #[command(
        after_help = "Example: zhuji storage apply deploy/storage-rules.json oss://aiclinical-prod --dry-run\n\
                            Without a place: the store that STORAGE_TYPE and its variables name."
    )]
    Apply(Apply),
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
    /// Everything below the place, not one object. What is already there is not copied again.
    #[arg(long, short)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) how: Transfer,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Sync {
    /// From where.
    pub(crate) from: Location,
    /// To where.
    pub(crate) to: Location,
    /// Deletes from the target what the source does not have, once everything else is there.
    #[arg(long)]
    pub(crate) delete: bool,
    #[command(flatten)]
    pub(crate) how: Transfer,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Transfer {
    /// Only says what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Copies also what is already there.
    #[arg(long)]
    pub(crate) force: bool,
    /// Reads each copied object back and compares its checksum.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Objects under way at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// Where half-done transfers of large objects are remembered. Default: zhuji/transfers in the state directory of the user.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// For machines: the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Verify {
    /// Where.
    pub(crate) at: Location,
    /// Compares with the objects of the same names below this place too.
    #[arg(long, value_name = "PLACE")]
    pub(crate) against: Option<Location>,
    /// Objects read at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// For machines: one JSON object a line, the totals last.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Apply {
    /// The file with the rules, as JSON.
    pub(crate) rules: PathBuf,
    /// The store: `local:DIR` or `oss://BUCKET`.
    pub(crate) at: Option<Location>,
    /// Only shows the difference.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// For machines: the difference as JSON.
    #[arg(long)]
    pub(crate) json: bool,
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
    /// One JSON object instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
}
