//! A local file on its way up.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use crate::{Body, ByteStream, Error, ErrorKind, Result, crc::Crc64};

/// Read at once; two of these are in memory for each part under way.
const PIECE: u64 = 512 * 1024;

/// An open file, as it was when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    file: Arc<File>,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
}

impl SourceFile {
    pub(crate) async fn open(path: &Path, key: &str) -> Result<Self> {
        let path = path.to_owned();
        let opened = blocking(move || {
            let file = File::open(path)?;
            let (size, modified) = state(&file)?;
            Ok(Self {
                file: Arc::new(file),
                size,
                modified,
            })
        });
        opened.await.map_err(|error| unreadable(key, error))
    }

    /// Fails if somebody has written to the file since it was opened.
    pub(crate) async fn check_unchanged(&self, key: &str) -> Result<()> {
        let file = Arc::clone(&self.file);
        let now = blocking(move || state(&file))
            .await
            .map_err(|error| unreadable(key, error))?;
        if now == (self.size, self.modified) {
            return Ok(());
        }
        let why = "the file was changed while it was uploaded, nothing was stored";
        Err(Error::new(ErrorKind::Source, "upload", key, why))
    }

    /// Fails a stream of this file at its end if somebody has written to the file meanwhile.
    pub(crate) fn guard(self, stream: ByteStream, key: &str) -> ByteStream {
        let key = key.to_owned();
        let end = stream::once(async move { self.check_unchanged(&key).await })
            .filter_map(async |checked| checked.err().map(Err));
        ByteStream::new(stream.chain(end))
    }

    /// A part of the file, to be sent as often as needed.
    pub(crate) fn range(&self, start: u64, end: u64) -> FileRange {
        FileRange {
            file: Arc::clone(&self.file),
            start,
            end: end.min(self.size),
            passed: Arc::default(),
        }
    }

    /// The whole file as a body; `tell` hears the number of bytes that have been read.
    pub(crate) fn into_body(self, tell: impl Fn(u64) + Send + 'static) -> Body {
        let mut done = 0;
        let pieces = pieces(self.file, 0, self.size).inspect(move |piece| {
            if let Ok(piece) = piece {
                done += piece.len() as u64;
                tell(done);
            }
        });
        Body::stream(pieces).with_length(self.size)
    }
}

fn state(file: &File) -> io::Result<(u64, Timestamp)> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    Ok((metadata.len(), modified))
}

fn unreadable(key: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Source, "upload", key, "the local file can't be read").with_source(error)
}

/// Some bytes of a file. Clones count their checksum together.
#[derive(Clone, Debug)]
pub(crate) struct FileRange {
    file: Arc<File>,
    start: u64,
    end: u64,
    passed: Arc<Mutex<Passed>>,
}

/// What of the range has passed in the latest reading.
#[derive(Debug)]
struct Passed {
    reading: u32,
    crc: Crc64,
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            reading: 0,
            crc: Crc64::new(),
        }
    }
}

impl FileRange {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Reads the range from its start. An earlier reading that somebody still holds no longer counts.
    pub(crate) fn read(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let passed = Arc::clone(&self.passed);
        let mine = {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.reading += 1;
            passed.crc = Crc64::new();
            passed.reading
        };
        pieces(Arc::clone(&self.file), self.start, self.end).inspect(move |piece| {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(piece) = piece
                && passed.reading == mine
            {
                passed.crc.update(piece);
            }
        })
    }

    /// CRC-64 of what the latest reading has passed on.
    pub(crate) fn passed_crc(&self) -> u64 {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.crc.value()
    }

    /// CRC-64 of the range as it is on the disk now.
    pub(crate) async fn stored_crc(&self) -> io::Result<u64> {
        crc_of(Arc::clone(&self.file), self.start, self.end).await
    }
}

/// CRC-64 of some bytes of a file.
pub(crate) async fn crc_of(file: Arc<File>, start: u64, end: u64) -> io::Result<u64> {
    blocking(move || {
        let (mut crc, mut at) = (Crc64::new(), start);
        let mut buffer = vec![0; usize::try_from(PIECE.min(end - start)).unwrap_or(usize::MAX)];
        while at < end {
            let piece = &mut buffer[..usize::try_from(PIECE.min(end - at)).unwrap_or(usize::MAX)];
            file.read_exact_at(piece, at)?;
            crc.update(piece);
            at += piece.len() as u64;
        }
        Ok(crc.value())
    })
    .await
}

/// The bytes from `start` to `end`; the next piece is read while the last is sent.
fn pieces(file: Arc<File>, start: u64, end: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let starts = stream::iter((start..end).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)));
    starts
        .map(move |at| {
            let (file, length) = (Arc::clone(&file), PIECE.min(end - at));
            blocking(move || {
                let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(usize::MAX));
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes.freeze())
            })
        })
        .buffered(2)
}

/// Runs a system call on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
