//! `zhuji storage rm`.

use std::process::ExitCode;

use serde_json::json;

use super::{nothing_at, say, selected};
use crate::args::Rm;
use crate::failure::Failure;
use crate::location::Access;

pub(crate) async fn rm(args: &Rm) -> Result<ExitCode, Failure> {
    let access = if args.dry_run {
        Access::Read
    } else {
        Access::Change
    };
    let place = args.at.locate(access)?.open().await?;
    let entries = selected(&place, args.recursive).await?;
    let keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
    if keys.is_empty() {
        return Err(nothing_at(&args.at, args.recursive));
    }
    if args.dry_run {
        if args.json {
            say(&json!({ "would_delete": keys }).to_string());
        } else {
            keys.iter().for_each(|key| say(&format!("would delete {key}")));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for (key, result) in keys.iter().zip(place.storage.delete_many(&keys).await) {
        if let Err(error) = result {
            failed += 1;
            eprintln!("{key}: {error}");
        }
    }
    let deleted = keys.len() - failed;
    say(&if args.json {
        json!({ "deleted": deleted, "failed": failed }).to_string()
    } else {
        format!("{deleted} objects deleted")
    });
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::failed(format!("{failed} objects could not be deleted"))),
    }
}
