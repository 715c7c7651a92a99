//! `zhuji storage apply`.

use std::process::ExitCode;

use zhuji_storage::StorageRules;

use super::say;
use crate::args::Apply;
use crate::failure::Failure;
use crate::location::{Access, Place};

pub(crate) async fn apply(args: &Apply) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(&args.rules)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.rules.display())))?;
    let rules = StorageRules::from_json(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.rules.display())))?;
    let place = match &args.at {
        Some(at) => {
            let access = if args.dry_run {
                Access::Read
            } else {
                Access::Change
            };
            at.locate(access)?.open().await?
        }
        None => Place::configured().await?,
    };
    if !place.key.is_empty() {
        return Err(Failure::usage(format!(
            "rules belong to a whole store, and `{}` is a part of one",
            place.key
        )));
    }
    let diff = place.storage.apply_rules(&rules, args.dry_run).await?;
    if args.json {
        let text = serde_json::to_string(&diff)
            .map_err(|error| Failure::failed(format!("the difference can't be written: {error}")))?;
        say(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let text = diff.to_string();
    if !text.trim().is_empty() {
        say(text.trim_end());
    }
    say(match (diff.is_empty(), args.dry_run) {
        (true, _) => "the store has these rules already",
        (false, true) => "nothing was changed; run it without --dry-run to apply this",
        (false, false) => "applied",
    });
    Ok(ExitCode::SUCCESS)
}
