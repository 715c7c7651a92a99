//! The body of an answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;

use crate::{ByteStream, Result};

/// A stream of bytes whose length is known beforehand. An error in the middle has to break the connection: the client has
/// been promised `content-length` bytes.
#[derive(Debug)]
pub struct ServeBody {
    stream: ByteStream,
    length: u64,
}

impl ServeBody {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self {
            length: bytes.len() as u64,
            stream: ByteStream::once(bytes),
        }
    }

    pub(crate) fn stream(stream: ByteStream, length: u64) -> Self {
        Self { stream, length }
    }

    /// How many bytes it will yield.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Stream for ServeBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(cx)
    }
}
