//! Bytes on their way in and out.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::{BoxError, Error, ErrorKind, Result, crc::Crc64};

/// A length that was promised gets no more memory than this before its bytes come.
const MOST_LAID_OUT: u64 = 256 * 1024 * 1024;

/// A stream of bytes with this crate's errors; what downloads hand out and adapters take in.
///
/// After an error the stream yields nothing more. Dropping it stops the transfer.
pub struct ByteStream(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>);

impl ByteStream {
    /// Wraps a stream.
    pub fn new(stream: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// A stream of one chunk (of none, if it is empty).
    pub fn once(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::new(stream::empty())
        } else {
            Self::new(stream::once(async move { Ok(bytes) }))
        }
    }

    /// Reads to the end into memory.
    ///
    /// # Errors
    /// The first error of the stream.
    pub async fn into_bytes(self) -> Result<Bytes> {
        self.into_bytes_of(0).await
    }

    /// Reads to the end into memory that is laid out for `length` bytes from the start: growing would touch it all twice.
    pub(crate) async fn into_bytes_of(mut self, length: u64) -> Result<Bytes> {
        let Some(first) = self.0.try_next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.0.try_next().await? else {
            return Ok(first);
        };
        let expected = usize::try_from(length.min(MOST_LAID_OUT)).unwrap_or(0);
        let mut whole = BytesMut::with_capacity(expected.max((first.len() + second.len()) * 2));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = self.0.try_next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// What is to be stored: bytes in memory, or a stream.
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    Bytes(Bytes),
    Stream { stream: ByteStream, length: Option<u64> },
}

impl Body {
    /// A body read from `stream`. An `Err` in it aborts the upload, and nothing is stored.
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let stream = stream.map(|item| item.map_err(source_error));
        Self(Inner::Stream {
            stream: ByteStream::new(stream),
            length: None,
        })
    }

    /// Declares how many bytes the stream will yield; fewer or more abort the upload. No effect on bytes.
    #[must_use]
    pub fn with_length(self, length: u64) -> Self {
        match self.0 {
            Inner::Stream { stream, .. } => {
                let exact = exactly(stream, length);
                Self(Inner::Stream {
                    stream: exact,
                    length: Some(length),
                })
            }
            bytes @ Inner::Bytes(_) => Self(bytes),
        }
    }

    /// The number of bytes, if it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Inner::Bytes(bytes) => Some(bytes.len() as u64),
            Inner::Stream { length, .. } => *length,
        }
    }

    /// The bytes, if they are in memory; only then the body can be sent twice.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Bytes(bytes) => Some(bytes),
            Inner::Stream { .. } => None,
        }
    }

    /// Whether the bytes come from a stream.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Inner::Stream { .. })
    }

    /// The bytes, or the stream that produces them.
    pub fn into_parts(self) -> Result<Bytes, ByteStream> {
        match self.0 {
            Inner::Bytes(bytes) => Ok(bytes),
            Inner::Stream { stream, .. } => Err(stream),
        }
    }

    /// The body as a stream, whatever it is.
    pub fn into_stream(self) -> ByteStream {
        match self.0 {
            Inner::Bytes(bytes) => ByteStream::once(bytes),
            Inner::Stream { stream, .. } => stream,
        }
    }

    /// Puts `layer` around the stream of a streaming body; bytes stay as they are.
    #[must_use]
    pub fn map_stream(self, layer: impl FnOnce(ByteStream) -> ByteStream) -> Self {
        match self.0 {
            Inner::Stream { stream, length } => Self(Inner::Stream {
                stream: layer(stream),
                length,
            }),
            bytes @ Inner::Bytes(_) => Self(bytes),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Inner::Bytes(bytes.into()))
    }
}

fn source_error(error: impl Into<BoxError>) -> Error {
    // A storage download piped into an upload already carries our error: keep its kind.
    match error.into().downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::new(
            ErrorKind::Source,
            "upload",
            "stream",
            "the caller's stream failed, nothing was stored",
        )
        .with_source(other),
    }
}

fn exactly(stream: ByteStream, length: u64) -> ByteStream {
    let wrong = move |what: &str| {
        let why = format!("the stream has {what} than the declared {length} bytes, nothing was stored");
        Error::new(ErrorKind::InvalidInput, "upload", "stream", why)
    };
    ByteStream::new(stream::try_unfold(
        (stream, 0_u64),
        move |(mut stream, seen)| async move {
            match stream.try_next().await? {
                Some(chunk) => {
                    let seen = seen + chunk.len() as u64;
                    if seen > length {
                        Err(wrong("more"))
                    } else {
                        Ok(Some((chunk, (stream, seen))))
                    }
                }
                None if seen < length => Err(wrong("fewer")),
                None => Ok(None),
            }
        },
    ))
}

/// Checks length and CRC-64 of a whole object while it is read, and fails the stream at its end if they differ.
pub(crate) fn verified(
    stream: ByteStream,
    operation: &'static str,
    key: String,
    size: u64,
    crc: Option<u64>,
) -> ByteStream {
    let state = (stream, Crc64::new(), 0_u64, key);
    ByteStream::new(stream::try_unfold(
        state,
        move |(mut stream, mut digest, mut seen, key)| async move {
            if let Some(chunk) = stream.try_next().await? {
                seen += chunk.len() as u64;
                if crc.is_some() {
                    digest.update(&chunk);
                }
                return Ok(Some((chunk, (stream, digest, seen, key))));
            }
            if seen != size {
                let why = format!("{seen} bytes arrived, the object has {size}");
                return Err(Error::new(ErrorKind::Integrity, operation, key, why).with_retryable(true));
            }
            match crc {
                Some(expected) if digest.value() != expected => {
                    let why = format!(
                        "CRC-64 of the bytes is {}, of the object {expected}",
                        digest.value()
                    );
                    Err(Error::new(ErrorKind::Integrity, operation, key, why).with_retryable(true))
                }
                _ => Ok(None),
            }
        },
    ))
}
