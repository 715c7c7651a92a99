//! `zhuji storage cp`.

use std::process::ExitCode;

use super::transfer::Order;
use super::{nothing_at, selected, within_itself};
use crate::args::Cp;
use crate::failure::Failure;
use crate::location::Access;

pub(crate) async fn cp(args: &Cp) -> Result<ExitCode, Failure> {
    if args.recursive && args.from.overlaps(&args.to) {
        return Err(within_itself(&args.from, &args.to));
    }
    let from = args.from.locate(Access::Read)?.open().await?;
    let to = args.to.locate(Access::Fill)?;
    let entries = selected(&from, args.recursive).await?;
    if entries.is_empty() {
        return Err(nothing_at(&args.from, args.recursive));
    }
    let entries = entries
        .into_iter()
        .map(|entry| {
            let target = target(&from.key, &to.key, &entry.key, args.recursive);
            (entry, target)
        })
        .collect();
    Order {
        from: &from,
        to: &args.to,
        entries,
        compare: args.recursive,
        delete: false,
        how: &args.how,
    }
    .carry_out()
    .await
}

/// Below a place, the part of the key behind it is kept; one object goes where it is told, or keeps its name in a folder.
pub(super) fn target(from: &str, to: &str, key: &str, recursive: bool) -> String {
    let name = key.rsplit('/').next().unwrap_or(key);
    let kept = if recursive {
        let below = key.strip_prefix(from).unwrap_or(key).trim_start_matches('/');
        // The place itself is an object too.
        if below.is_empty() { name } else { below }
    } else if to.is_empty() || to.ends_with('/') {
        name
    } else {
        return to.to_owned();
    };
    match to.trim_end_matches('/') {
        "" => kept.to_owned(),
        folder => format!("{folder}/{kept}"),
    }
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn objects_go_where_they_are_told() {
        for (from, to, key, recursive, expected) in [
            ("asl", "old", "asl/pdfs/1.pdf", true, "old/pdfs/1.pdf"),
            ("asl/", "old/", "asl/1.pdf", true, "old/1.pdf"),
            ("", "", "asl/1.pdf", true, "asl/1.pdf"),
            ("asl/1.pdf", "old", "asl/1.pdf", true, "old/1.pdf"),
            ("asl/1.pdf", "", "asl/1.pdf", false, "1.pdf"),
            ("asl/1.pdf", "old/", "asl/1.pdf", false, "old/1.pdf"),
            ("asl/1.pdf", "old/2.pdf", "asl/1.pdf", false, "old/2.pdf"),
        ] {
            assert_eq!(target(from, to, key, recursive), expected, "{from} {to} {key}");
        }
    }
}
