//! `zhuji storage cp`.

use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use zhuji_storage::{Entry, GetOptions, PutOptions};

use super::{say, selected};
use crate::args::Cp;
use crate::failure::Failure;
use crate::location::Place;

/// Objects copied at once.
const IN_FLIGHT: usize = 8;

pub(crate) async fn cp(args: &Cp) -> Result<ExitCode, Failure> {
    let from = args.from.open().await?;
    let to = args.to.open().await?;
    let mut found = pin!(selected(&from, args.recursive));
    let mut entries = Vec::new();
    while let Some(entry) = found.next().await {
        entries.push(entry?);
    }
    if entries.is_empty() {
        return Err(Failure::failed(format!(
            "there is no object at {}; for everything below it, add --recursive",
            args.from
        )));
    }
    if args.dry_run {
        for entry in &entries {
            say(&format!(
                "would copy {} to {}",
                entry.key,
                target(&from, &to, entry, args.recursive)
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bar = progress(entries.iter().map(|entry| entry.size).sum());
    let total = entries.len();
    let copies = entries.into_iter().map(|entry| {
        let target = target(&from, &to, &entry, args.recursive);
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
fn target(from: &Place, to: &Place, entry: &Entry, recursive: bool) -> String {
    let kept = if recursive {
        entry
            .key
            .strip_prefix(from.key.as_str())
            .unwrap_or(&entry.key)
            .trim_start_matches('/')
    } else if to.key.is_empty() || to.key.ends_with('/') {
        entry.key.rsplit('/').next().unwrap_or(&entry.key)
    } else {
        return to.key.clone();
    };
    match to.key.trim_end_matches('/') {
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
