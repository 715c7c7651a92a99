//! Reading objects.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::task::JoinHandle;

use super::{attributes, blocking, errors::from_io, root::Root};
use crate::{
    ByteStream, ContentRange, Download, Error, ErrorKind, GetOptions, Key, Metadata, Result, body::verified,
};

/// Up to here an object is read whole while it is opened: one hop to a blocking thread instead of two.
const WHOLE: u64 = 256 * 1024;
/// Larger ones in pieces of this size, the next one read while the last is sent.
const PIECE: u64 = 512 * 1024;

pub(super) struct Opened {
    file: File,
    metadata: Metadata,
    start: u64,
    end: u64,
    part: Option<ContentRange>,
    whole: Option<Bytes>,
}

/// Opens an object; the blocking part.
pub(super) fn open(root: &Root, key: &Key, options: &GetOptions) -> Result<Opened> {
    let failed = |error: io::Error| from_io("download", key, error);
    let (file, metadata) = attributes::open(root, key).map_err(failed)?;
    if options
        .if_match
        .as_ref()
        .is_some_and(|etag| etag.trim_matches('"') != metadata.etag)
    {
        return Err(Error::new(
            ErrorKind::Changed,
            "download",
            key.as_str(),
            "the object has been replaced",
        ));
    }
    let total = metadata.size;
    let (range, part) = match options.range {
        None => (0..total, None),
        Some(range) => {
            let range = range.resolve("download", key, total)?;
            let part = ContentRange {
                start: range.start,
                end: range.end,
                total,
            };
            (range, Some(part))
        }
    };
    let whole = match range.end - range.start {
        length if length <= WHOLE => {
            let bytes = piece(&file, range.start, length).map_err(failed)?;
            if (bytes.len() as u64) < length {
                return Err(shorter(key));
            }
            Some(bytes)
        }
        _ => None,
    };
    Ok(Opened {
        file,
        metadata,
        start: range.start,
        end: range.end,
        part,
        whole,
    })
}

impl Opened {
    /// The download; pieces are read on blocking threads as the stream is polled.
    pub(super) fn into_download(self, key: &Key) -> Download {
        let Self {
            file,
            metadata,
            start,
            end,
            part,
            whole,
        } = self;
        let stream = match whole {
            Some(bytes) => ByteStream::once(bytes),
            None => pieces(Arc::new(file), key.clone(), start, end),
        };
        let stream = match part {
            None => verified(stream, "download", key.to_string(), metadata.size, metadata.crc64),
            Some(_) => stream,
        };
        Download::new(metadata, part, stream)
    }
}

/// The metadata of an object; blocking.
pub(super) fn head(root: &Root, key: &str, operation: &'static str) -> Result<Metadata> {
    let (_, metadata) = attributes::open(root, key).map_err(|error| from_io(operation, key, error))?;
    Ok(metadata)
}

fn piece(file: &File, start: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(usize::MAX));
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.freeze())
}

fn shorter(key: &Key) -> Error {
    let why = "the file became shorter while it was read";
    Error::new(ErrorKind::Integrity, "download", key.as_str(), why)
}

type Pending = JoinHandle<io::Result<Bytes>>;

fn pieces(file: Arc<File>, key: Key, start: u64, end: u64) -> ByteStream {
    let read = move |file: &Arc<File>, start: u64| -> Option<Pending> {
        let (file, length) = (Arc::clone(file), (end - start).min(PIECE));
        (length > 0).then(|| tokio::task::spawn_blocking(move || piece(&file, start, length)))
    };
    let state = (file, start, None::<Pending>);
    ByteStream::new(stream::try_unfold(state, move |(file, start, pending)| {
        let key = key.clone();
        async move {
            let Some(pending) = pending.or_else(|| read(&file, start)) else {
                return Ok(None);
            };
            let bytes = blocking("download", &key, pending).await?;
            let bytes = bytes.map_err(|error| from_io("download", &key, error))?;
            if bytes.is_empty() {
                return Err(shorter(&key));
            }
            let start = start + bytes.len() as u64;
            let next = read(&file, start);
            Ok(Some((bytes, (file, start, next))))
        }
    }))
}
