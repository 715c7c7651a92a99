//! `zhuji storage rm`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;

use super::{say, selected};
use crate::args::Rm;
use crate::failure::Failure;

pub(crate) async fn rm(args: &Rm) -> Result<ExitCode, Failure> {
    let place = args.at.open().await?;
    let mut entries = pin!(selected(&place, args.recursive));
    let mut keys = Vec::new();
    while let Some(entry) = entries.next().await {
        keys.push(entry?.key);
    }
    if keys.is_empty() {
        return Err(Failure::failed(format!(
            "there is no object at {}; for everything below it, add --recursive",
            args.at
        )));
    }
    if args.dry_run {
        keys.iter().for_each(|key| say(&format!("would delete {key}")));
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for (key, result) in keys.iter().zip(place.storage.delete_many(&keys).await) {
        if let Err(error) = result {
            failed += 1;
            eprintln!("{key}: {error}");
        }
    }
    say(&format!("{} objects deleted", keys.len() - failed));
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::failed(format!("{failed} objects could not be deleted"))),
    }
}
