//! `zhuji storage ls`.

use std::process::ExitCode;

use serde_json::json;

use super::{nothing_at, say, selected};
use crate::args::Ls;
use crate::failure::Failure;
use crate::location::Access;

pub(crate) async fn ls(args: &Ls) -> Result<ExitCode, Failure> {
    let place = args.at.locate(Access::Read)?.open().await?;
    let entries = selected(&place, true).await?;
    if entries.is_empty() && !place.key.is_empty() {
        return Err(nothing_at(&args.at, true));
    }
    let (mut count, mut bytes) = (0_u64, 0_u64);
    for entry in entries {
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
