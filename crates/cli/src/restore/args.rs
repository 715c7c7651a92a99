//! What can be typed after `zhuji restore`.

use std::path::PathBuf;

use clap::Args;

use crate::backup::How;

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The directory or archive that `zhuji backup` wrote.
    #[arg(long, value_name = "DIR|FILE.tar")]
    pub(super) from: PathBuf,
    /// Replaces what is there: the database loses every schema, the store every file that the backup does not have.
    #[arg(long)]
    pub(super) force: bool,
    /// Leaves the database alone.
    #[arg(long, conflicts_with = "no_files")]
    pub(super) no_database: bool,
    /// Leaves the files alone.
    #[arg(long)]
    pub(super) no_files: bool,
    /// Reads each file back once all are there.
    #[arg(long)]
    pub(super) verify: bool,
    #[command(flatten)]
    pub(super) how: How,
}
