//! `zhuji storage …`.

mod apply;
mod cp;
mod ls;
pub(crate) mod meter;
pub(crate) mod object;
mod rm;
mod sync;
mod transfer;
mod verify;

pub(crate) use apply::apply;
pub(crate) use cp::cp;
pub(crate) use ls::ls;
pub(crate) use rm::rm;
pub(crate) use sync::sync;
pub(crate) use verify::verify;

use futures_util::TryStreamExt;
use zhuji_storage::{Entry, ListOptions};

use crate::failure::Failure;
use crate::location::{Location, Place};

/// What a command is about: the one object of this key, and with `below` also those in the folder of this name. A name is a
/// whole one: `temp` is not the beginning of `templates/a`.
pub(crate) async fn selected(place: &Place, below: bool) -> Result<Vec<Entry>, Failure> {
    let key = place.key.as_str();
    let mut entries = Vec::new();
    if !key.is_empty() && !key.ends_with('/') {
        // In byte order a key comes before all longer ones.
        let options = ListOptions {
            limit: 1,
            ..ListOptions::new()
        };
        let page = place.storage.list(key, options).await?;
        entries.extend(page.entries.into_iter().filter(|entry| entry.key == key));
    }
    if below {
        let folder = match key {
            "" => String::new(),
            key => format!("{}/", key.trim_end_matches('/')),
        };
        let mut found = std::pin::pin!(place.storage.list_all(&folder));
        while let Some(entry) = found.try_next().await? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Of two places, one of which lies in the other, a copy would grow with each run, and `--delete` would delete the source.
fn within_itself(from: &Location, to: &Location) -> Failure {
    Failure::usage(format!(
        "{from} and {to} lie within one another; name two places that don't"
    ))
}

/// Nothing is there; what to do about it.
fn nothing_at(told: &impl std::fmt::Display, below: bool) -> Failure {
    let hint = if below {
        ""
    } else {
        "; for everything below it, add --recursive"
    };
    Failure::failed(format!("there is no object at {told}{hint}"))
}

/// Writes a line to standard output; a reader that went away ends the listing, not the program.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
