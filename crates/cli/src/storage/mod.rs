//! `zhuji storage …`.

mod cp;
mod ls;
mod rm;

pub(crate) use cp::cp;
pub(crate) use ls::ls;
pub(crate) use rm::rm;

use futures_util::{Stream, StreamExt};
use zhuji_storage::Entry;

use crate::failure::Failure;
use crate::location::Place;

/// What a command is about: one object, or all below a place.
fn selected(place: &Place, recursive: bool) -> impl Stream<Item = Result<Entry, Failure>> + use<'_> {
    let key = place.key.clone();
    place.storage.list_all(&place.key).filter_map(move |entry| {
        let keep = match &entry {
            Ok(entry) => recursive || entry.key == key,
            Err(_) => true,
        };
        std::future::ready(keep.then(|| entry.map_err(Failure::from)))
    })
}

/// Writes a line to standard output; a reader that went away ends the listing, not the program.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
