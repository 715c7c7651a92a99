//! An object into a file, in ranges side by side.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    checkpoint,
    options::DownloadFileOptions,
    target::{TargetFile, Writer, unwritable},
};
use crate::{
    ByteRange, ContentRange, Error, ErrorKind, GetOptions, Key, Metadata, Result, RetryPolicy,
    StorageAdapter,
    crc::{Crc64, combine},
    retry::Attempts,
};

/// Written to the disk at once.
const PIECE: usize = 1024 * 1024;
/// More parts than that would make the checkpoint large.
const MOST_PARTS: u64 = 10_000;
const MIB: u64 = 1024 * 1024;
/// A checkpoint is written again after so many times what it took to write: a twentieth of the time, at most.
const REST: u32 = 20;

/// What a download is bound to. If any of it is another one now, it starts anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding {
    /// The address of the object, without a signature.
    source: String,
    etag: String,
    size: u64,
    part_size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    #[serde(flatten)]
    binding: Binding,
    /// Name of the temporary file.
    temp: String,
    /// CRC-64 of the parts that are in it.
    parts: BTreeMap<u64, u64>,
}

/// Downloads an object into `path`, which shows the old file or the new one, whole.
pub(crate) async fn download_file(
    adapter: &Arc<dyn StorageAdapter>,
    key: &Key,
    path: &Path,
    options: &DownloadFileOptions,
) -> Result<Metadata> {
    let metadata = adapter.head(key).await?;
    let common = &options.common;
    let binding = Binding {
        source: adapter.url(key),
        etag: metadata.etag.clone(),
        size: metadata.size,
        part_size: match metadata.size.div_ceil(common.part_size) {
            0..=MOST_PARTS => common.part_size,
            _ => metadata.size.div_ceil(MOST_PARTS).next_multiple_of(MIB),
        },
    };
    let (mut file, parts) = match &common.checkpoint {
        Some(state) => earlier(path, state, &binding).await,
        None => None,
    }
    .map_or_else(|| (None, BTreeMap::new()), |(file, parts)| (Some(file), parts));
    let mut file = match file.take() {
        Some(file) => file,
        None => TargetFile::create(path, metadata.size)
            .await
            .map_err(|error| unwritable(key, error))?,
    };
    file.stay(common.checkpoint.is_some());
    let mut download = Download {
        adapter,
        key,
        options,
        state: Checkpoint {
            binding,
            temp: file.name(),
            parts,
        },
        next_save: Instant::now(),
    };
    let loaded = match download.load(&file).await {
        Ok(()) => download.check(&metadata),
        Err(error) => {
            download.save().await?;
            Err(error)
        }
    };
    if let Err(error) = loaded {
        // No later attempt could use these parts.
        if matches!(
            error.kind(),
            ErrorKind::Changed | ErrorKind::NotFound | ErrorKind::Integrity
        ) {
            file.stay(false);
            download.forget().await;
        }
        return Err(error);
    }
    file.finish().await.map_err(|error| unwritable(key, error))?;
    download.forget().await;
    Ok(metadata)
}

/// What an earlier attempt has left, as far as it is still what the checkpoint says.
async fn earlier(path: &Path, state: &Path, binding: &Binding) -> Option<(TargetFile, BTreeMap<u64, u64>)> {
    let found: Checkpoint = checkpoint::load(state).await?;
    let mut file = TargetFile::reopen(path, &found.temp, found.binding.size).await?;
    if found.binding != *binding {
        file.stay(false);
        return None;
    }
    let mut parts = BTreeMap::new();
    for (index, crc) in found.parts {
        let start = index.saturating_mul(binding.part_size);
        let end = (start.saturating_add(binding.part_size)).min(binding.size);
        // After a power failure the file may lack what the checkpoint remembers.
        if start < end && file.crc(start, end).await.is_ok_and(|found| found == crc) {
            parts.insert(index, crc);
        }
    }
    Some((file, parts))
}

struct Download<'a> {
    adapter: &'a Arc<dyn StorageAdapter>,
    key: &'a Key,
    options: &'a DownloadFileOptions,
    state: Checkpoint,
    /// When the checkpoint may be written again.
    next_save: Instant,
}

impl Download<'_> {
    /// First byte of a part and one after its last.
    fn range(&self, index: u64) -> (u64, u64) {
        let Binding { size, part_size, .. } = self.state.binding;
        (index * part_size, (index + 1).saturating_mul(part_size).min(size))
    }

    fn done(&self) -> u64 {
        let lengths = self.state.parts.keys().map(|index| self.range(*index));
        lengths.map(|(start, end)| end - start).sum()
    }

    /// Gets the parts that are missing. Dropping it stops them.
    async fn load(&mut self, file: &TargetFile) -> Result<()> {
        let Binding { size, part_size, .. } = self.state.binding;
        let resumed = self.done();
        let common = &self.options.common;
        common.report(resumed, size, resumed);
        let missing: Vec<u64> = (0..size.div_ceil(part_size))
            .filter(|index| !self.state.parts.contains_key(index))
            .collect();
        let mut missing = missing.into_iter();
        let mut in_flight = JoinSet::new();
        loop {
            while in_flight.len() < common.parallel
                && let Some(index) = missing.next()
            {
                let (start, end) = self.range(index);
                let part = Part {
                    adapter: Arc::clone(self.adapter),
                    key: self.key.clone(),
                    etag: self.state.binding.etag.clone(),
                    total: size,
                    start,
                    at: start,
                    end,
                    crc: Crc64::new(),
                    writer: file.writer(),
                };
                in_flight.spawn(async move { part.load().await.map(|crc| (index, crc)) });
            }
            let Some(done) = in_flight.join_next().await else {
                return Ok(());
            };
            let (index, crc) = done.map_err(|error| {
                let why = "loading a part was interrupted";
                Error::new(ErrorKind::Unexpected, "download", self.key.as_str(), why).with_source(error)
            })??;
            self.state.parts.insert(index, crc);
            self.options.common.report(self.done(), size, resumed);
            let now = Instant::now();
            if now >= self.next_save {
                self.save().await?;
                self.next_save = now + now.elapsed() * REST;
            }
        }
    }

    /// Compares the checksum of all parts together with that of the object.
    fn check(&self, metadata: &Metadata) -> Result<()> {
        let found = self
            .state
            .parts
            .iter()
            .fold(Crc64::new().value(), |crc, (index, part)| {
                let (start, end) = self.range(*index);
                combine(crc, *part, end - start)
            });
        match metadata.crc64 {
            Some(expected) if expected != found => {
                let why = format!("CRC-64 of the file is {found}, of the object {expected}");
                Err(Error::new(ErrorKind::Integrity, "download", self.key.as_str(), why).with_retryable(true))
            }
            _ => Ok(()),
        }
    }

    async fn save(&self) -> Result<()> {
        match &self.options.common.checkpoint {
            Some(file) => checkpoint::save(file, &self.state)
                .await
                .map_err(|error| unwritable(self.key, error)),
            None => Ok(()),
        }
    }

    async fn forget(&self) {
        if let Some(file) = &self.options.common.checkpoint {
            checkpoint::remove(file).await;
        }
    }
}

/// One range on its way.
struct Part {
    adapter: Arc<dyn StorageAdapter>,
    key: Key,
    etag: String,
    total: u64,
    start: u64,
    /// The next byte.
    at: u64,
    end: u64,
    crc: Crc64,
    writer: Writer,
}

impl Part {
    /// Gets the range and returns its CRC-64. Goes on from the byte it has for as long as there is progress.
    async fn load(mut self) -> Result<u64> {
        let policy = RetryPolicy::default();
        let name = self.adapter.name();
        let mut attempts: Option<Attempts> = None;
        loop {
            let before = self.at;
            let error = match self.copy().await {
                Ok(()) => return Ok(self.crc.value()),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Integrity {
                // All of it has arrived, and some of it is wrong.
                (self.at, self.crc) = (self.start, Crc64::new());
            } else if self.at > before {
                attempts = None;
            }
            let attempts = attempts.get_or_insert_default();
            policy.wait_after(name, attempts, error).await?;
        }
    }

    async fn copy(&mut self) -> Result<()> {
        let (start, end) = (self.at, self.end);
        let whole = start == 0 && end == self.total;
        let options = GetOptions {
            range: (!whole).then_some(ByteRange::Bounded { start, end }),
            if_match: (!self.etag.is_empty()).then(|| self.etag.clone()),
        };
        let download = self.adapter.get(&self.key, &options).await?;
        let total = self.total;
        if download.metadata.etag != self.etag
            || download.metadata.size != total
            || download.range != (!whole).then_some(ContentRange { start, end, total })
        {
            let why = "the object was replaced while it was downloaded";
            return Err(Error::new(ErrorKind::Changed, "download", self.key.as_str(), why));
        }
        let (mut stream, mut buffer) = (download.stream, BytesMut::new());
        loop {
            let next = stream.next().await;
            if let Some(Ok(piece)) = &next {
                buffer.extend_from_slice(piece);
            }
            // What has arrived counts, also before an error.
            if buffer.len() >= PIECE || !matches!(next, Some(Ok(_))) {
                self.write(buffer.split().freeze()).await?;
            }
            match next {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None if self.at == end => return Ok(()),
                None => {
                    let why = "the download ended before the range did";
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "download",
                        self.key.as_str(),
                        why,
                    ));
                }
            }
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        if length > self.end - self.at {
            let why = "the store sent more than was asked for";
            return Err(Error::new(
                ErrorKind::Unexpected,
                "download",
                self.key.as_str(),
                why,
            ));
        }
        self.crc.update(&bytes);
        let written = self.writer.write(bytes, self.at).await;
        written.map_err(|error| unwritable(&self.key, error))?;
        self.at += length;
        Ok(())
    }
}
