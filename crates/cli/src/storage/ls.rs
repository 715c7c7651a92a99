//! `zhuji storage ls`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;
use serde_json::json;

use super::{say, selected};
use crate::args::Ls;
use crate::failure::Failure;

pub(crate) async fn ls(args: &Ls) -> Result<ExitCode, Failure> {
    let place = args.at.open().await?;
    let mut entries = pin!(selected(&place, true));
    let (mut count, mut bytes) = (0_u64, 0_u64);
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        count += 1;
        bytes += entry.size;
        let time = entry.last_modified;
        say(&if args.json {
            json!({ "key": entry.key, "size": entry.size, "etag": entry.etag, "last_modified": time.to_string() })
                .to_string()
        } else {
            format!("{:>14}  {time:.0}  {}", entry.size, entry.key)
        });
    }
    if !args.json {
        say(&format!(
            "{count} objects, {}",
            zhuji_config::ByteSize::new(bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}
