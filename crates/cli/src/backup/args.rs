//! What can be typed after `zhuji backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(crate) struct Backup {
    #[command(subcommand)]
    pub(super) command: Option<BackupCommand>,
    /// A directory that does not exist yet or is empty, or a file whose name ends with `.tar`.
    #[arg(long, value_name = "DIR|FILE.tar", required = true)]
    pub(super) to: Option<PathBuf>,
    /// Without the rows.
    #[arg(long, conflicts_with = "no_files")]
    pub(super) no_database: bool,
    /// Without the files.
    #[arg(long)]
    pub(super) no_files: bool,
    #[command(flatten)]
    pub(super) how: How,
}

#[derive(Subcommand, Debug)]
pub(super) enum BackupCommand {
    /// Reads a backup whole and compares it with the checksums that were written down.
    #[command(after_help = "Example: zhuji backup verify /backup/2026-01-31\n\
                            Exit code: 0 all intact, 1 something is damaged or missing.")]
    Verify(VerifyBackup),
}

#[derive(Args, Debug)]
pub(super) struct VerifyBackup {
    /// The directory or the archive.
    pub(super) backup: PathBuf,
    #[command(flatten)]
    pub(super) how: How,
}

#[derive(Args, Debug)]
pub(crate) struct How {
    /// Files under way at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// For machines: the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
