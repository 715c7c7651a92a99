//! One object from one store to another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use zhuji_storage::{
    DownloadFileOptions, Entry, GetOptions, Metadata, Progress, PutOptions, Stored, UploadFileOptions,
    Verified,
};

use super::meter::Meter;
use crate::failure::Failure;
use crate::location::Place;

/// From this size on a transfer is remembered, so that the next try goes on in the middle of the object.
pub(crate) const LARGE: u64 = 32 * 1024 * 1024;

const WHOLE: u64 = 1;
/// What goes through a file here passes twice.
const HALF: u64 = 2;

/// Copies one object: content type, download name and metadata come along, and every adapter checks the bytes that it
/// stores. Answers the checksum of what is there now.
pub(crate) async fn copy(
    from: &Place,
    to: &Place,
    entry: &Entry,
    target: &str,
    state: &Path,
    meter: &Arc<Meter>,
) -> Result<Stored, Failure> {
    if entry.size < LARGE {
        let (source, stored) = stream(from, to, &entry.key, target, None, meter).await?;
        check(&source, &stored)?;
        return Ok(stored);
    }
    let source = from.storage.metadata(&entry.key).await?;
    let stored = match &from.root {
        Some(root) => {
            let file = root.join(&entry.key);
            upload(
                to,
                target,
                &file,
                &source,
                &checkpoint(state, from, to, entry, target, "up"),
                meter,
                WHOLE,
            )
            .await?
        }
        None => through_file(from, to, &source, target, state, meter, entry).await?,
    };
    check(&source, &stored)?;
    Ok(stored)
}

/// Copies one object in one stream, with its own content type, download name and metadata, or with others.
pub(crate) async fn stream(
    from: &Place,
    to: &Place,
    key: &str,
    target: &str,
    options: Option<PutOptions>,
    meter: &Arc<Meter>,
) -> zhuji_storage::Result<(Metadata, Stored)> {
    let download = from.storage.download_stream(key, GetOptions::default()).await?;
    let source = download.metadata;
    let counter = Arc::clone(meter);
    let pieces = download.stream.inspect(move |piece| {
        if let Ok(bytes) = piece {
            counter.bytes(bytes.len() as u64);
        }
    });
    let options = options.unwrap_or_else(|| like(&source));
    let stored = to.storage.upload_stream(target, pieces, options).await?;
    Ok((source, stored))
}

/// A large object that is not a file here comes down in parallel ranges into a file beside the notes, and goes on from it.
async fn through_file(
    from: &Place,
    to: &Place,
    source: &Metadata,
    target: &str,
    state: &Path,
    meter: &Arc<Meter>,
    entry: &Entry,
) -> Result<Stored, Failure> {
    let part = checkpoint(state, from, to, entry, target, "part");
    let down = DownloadFileOptions::new()
        .checkpoint(checkpoint(state, from, to, entry, target, "down"))
        .progress(counting(meter, HALF));
    // A file that is there whole is the work of a try that failed later; its version is part of its name.
    let whole = tokio::fs::metadata(&part)
        .await
        .is_ok_and(|found| found.len() == entry.size);
    if whole {
        meter.bytes(entry.size / HALF);
    } else {
        from.storage.download_file(&entry.key, &part, down).await?;
    }
    let stored = upload(
        to,
        target,
        &part,
        source,
        &checkpoint(state, from, to, entry, target, "up"),
        meter,
        HALF,
    )
    .await?;
    let _ = tokio::fs::remove_file(&part).await;
    Ok(stored)
}

async fn upload(
    to: &Place,
    target: &str,
    file: &Path,
    source: &Metadata,
    checkpoint: &Path,
    meter: &Arc<Meter>,
    of: u64,
) -> Result<Stored, Failure> {
    let options = UploadFileOptions::new()
        .put(like(source))
        .checkpoint(checkpoint)
        .progress(counting(meter, of));
    Ok(to.storage.upload_file(target, file, options).await?)
}

/// Counts each byte as one of `of` parts.
fn counting(meter: &Arc<Meter>, of: u64) -> impl Fn(Progress) + Send + Sync + 'static {
    let (meter, seen) = (Arc::clone(meter), AtomicU64::new(0));
    move |progress| {
        let done = progress.done / of;
        let before = seen.fetch_max(done, Ordering::Relaxed);
        meter.bytes(done.saturating_sub(before));
    }
}

fn like(source: &Metadata) -> PutOptions {
    let mut options = PutOptions::new().content_type(&source.content_type);
    options
        .content_disposition
        .clone_from(&source.content_disposition);
    options.metadata.clone_from(&source.user);
    options
}

pub(crate) fn check(source: &Metadata, stored: &Stored) -> Result<(), Failure> {
    match (source.crc64, stored.crc64) {
        (Some(sent), Some(kept)) if sent != kept => Err(Failure::failed(format!(
            "the copy's CRC-64 is {kept}, that of the source {sent}; copy it again"
        ))),
        _ => Ok(()),
    }
}

/// Whether the target already is what a copy would make of it. Where a checksum is not kept (files that were put there by
/// hand), an equal size and a time that is not older have to do.
pub(crate) async fn same(from: &Place, to: &Place, entry: &Entry, present: &Entry) -> Result<bool, Failure> {
    if entry.size != present.size {
        return Ok(false);
    }
    let (source, target) = tokio::try_join!(
        from.storage.metadata(&entry.key),
        to.storage.metadata(&present.key)
    )?;
    let alike = source.content_type == target.content_type
        && source.content_disposition == target.content_disposition
        && source.user == target.user;
    Ok(alike
        && match (source.crc64, target.crc64) {
            (Some(source), Some(target)) => source == target,
            _ => target.last_modified >= source.last_modified,
        })
}

/// Reads the copy back.
pub(crate) async fn read_back(to: &Place, stored: &Stored) -> Result<(), Failure> {
    let now = match to.storage.verify(&stored.key).await? {
        Verified::Damaged { why } => return Err(Failure::failed(format!("the copy is damaged: {why}"))),
        Verified::Intact { crc64, .. } | Verified::Unknown { crc64, .. } => crc64,
        other => {
            return Err(Failure::failed(format!(
                "the copy could not be judged: {other:?}"
            )));
        }
    };
    match stored.crc64 {
        Some(sent) if sent != now => Err(Failure::failed(format!(
            "the copy reads back with CRC-64 {now} instead of {sent}; copy it again"
        ))),
        _ => Ok(()),
    }
}

/// A name for the notes on this transfer. Another version of the source, or another target, is another transfer.
fn checkpoint(state: &Path, from: &Place, to: &Place, entry: &Entry, target: &str, what: &str) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (from.storage.url(&entry.key), &from.root, &entry.etag, entry.size).hash(&mut hasher);
    (to.storage.url(target), &to.root).hash(&mut hasher);
    state.join(format!("{:016x}.{what}", hasher.finish()))
}
