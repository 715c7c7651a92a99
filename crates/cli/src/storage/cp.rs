//! `zhuji storage cp`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use zhuji_storage::{GetOptions, PutOptions};

use super::{nothing_at, say, selected};
use crate::args::Cp;
use crate::failure::Failure;
use crate::location::{Access, Place};

/// Objects copied at once.
const IN_FLIGHT: usize = 8;

pub(crate) async fn cp(args: &Cp) -> Result<ExitCode, Failure> {
    let from = args.from.locate(Access::Read)?.open().await?;
    let to = args.to.locate(Access::Fill)?;
    let entries = selected(&from, args.recursive).await?;
    if entries.is_empty() {
        return Err(nothing_at(&args.from, args.recursive));
    }
    if args.dry_run {
        for entry in &entries {
            let target = target(&from.key, &to.key, &entry.key, args.recursive);
            say(&format!("would copy {} to {target}", entry.key));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let to = to.open().await?;
    let bar = progress(entries.iter().map(|entry| entry.size).sum());
    let total = entries.len();
    let copies = entries.into_iter().map(|entry| {
        let target = target(&from.key, &to.key, &entry.key, args.recursive);
        let (from, to, bar) = (&from, &to, &bar);
        async move {
            let copied = copy(from, to, &entry.key, &target, bar).await;
            copied.map_err(|failure| Failure::failed(format!("{}: {failure}", entry.key)))
        }
    });
    let mut failed = 0;
    let mut copies = pin!(futures_util::stream::iter(copies).buffer_unordered(IN_FLIGHT));
    while let Some(result) = copies.next().await {
        if let Err(failure) = result {
            failed += 1;
            bar.suspend(|| eprintln!("{failure}"));
        }
    }
    bar.finish_and_clear();
    say(&format!("{} of {total} objects copied", total - failed));
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::failed(format!(
            "{failed} objects could not be copied; run the command again"
        ))),
    }
}

/// Content type, disposition and metadata come along; every adapter checks the bytes it stores.
async fn copy(from: &Place, to: &Place, key: &str, target: &str, bar: &ProgressBar) -> Result<(), Failure> {
    let download = from.storage.download_stream(key, GetOptions::default()).await?;
    let mut options = PutOptions::new().content_type(&download.metadata.content_type);
    options
        .content_disposition
        .clone_from(&download.metadata.content_disposition);
    options.metadata.clone_from(&download.metadata.user);
    let bar = bar.clone();
    let stream = download.stream.inspect(move |piece| {
        if let Ok(bytes) = piece {
            bar.inc(bytes.len() as u64);
        }
    });
    to.storage.upload_stream(target, stream, options).await?;
    Ok(())
}

/// Below a place, the part of the key behind it is kept; one object goes where it is told, or keeps its name in a folder.
fn target(from: &str, to: &str, key: &str, recursive: bool) -> String {
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

fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    // Hidden by itself where standard error is not a terminal.
    ProgressBar::new(bytes).with_style(style)
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
