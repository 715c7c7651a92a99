//! Bodies: gathering what comes in, giving out what is stored.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use md5::{Digest, Md5};
use tokio::time::Sleep;

use super::error::OssError;

/// Frames smaller than this are gathered, so that a client that trickles bytes does not cost a list of crumbs.
const SMALL: usize = 16 * 1024;

/// Bytes in memory with the two checksums that OSS gives for them.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) size: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
}

impl Content {
    pub(crate) fn from_chunks(chunks: Vec<Bytes>) -> Self {
        let mut gather = Gather::default();
        for chunk in chunks {
            gather.push(chunk);
        }
        gather.finish()
    }

    pub(crate) fn etag(&self) -> String {
        hex::encode_upper(self.md5)
    }

    /// All of it in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        match &self.chunks[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(usize::try_from(self.size).unwrap_or(0));
                many.iter().for_each(|chunk| all.extend_from_slice(chunk));
                all.freeze()
            }
        }
    }
}

/// The part `start..end` of a list of chunks, without copying.
pub(crate) fn slice(chunks: &[Bytes], start: u64, end: u64) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut at = 0u64;
    for chunk in chunks {
        let next = at + chunk.len() as u64;
        let from = start.clamp(at, next) - at;
        let to = end.clamp(at, next) - at;
        if from < to {
            out.push(chunk.slice(from as usize..to as usize));
        }
        at = next;
    }
    out
}

/// CRC-64 as OSS computes it (ECMA-182, the XZ variant).
pub(crate) fn crc64(chunks: &[Bytes]) -> u64 {
    let mut digest = crc_fast::Digest::new(CrcAlgorithm::Crc64Xz);
    chunks.iter().for_each(|chunk| digest.update(chunk));
    digest.finalize()
}

struct Gather {
    chunks: Vec<Bytes>,
    small: BytesMut,
    size: u64,
    md5: Md5,
    crc: crc_fast::Digest,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            small: BytesMut::new(),
            size: 0,
            md5: Md5::new(),
            crc: crc_fast::Digest::new(CrcAlgorithm::Crc64Xz),
        }
    }
}

impl Gather {
    fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.size += chunk.len() as u64;
        self.md5.update(&chunk);
        self.crc.update(&chunk);
        if chunk.len() < SMALL {
            self.small.extend_from_slice(&chunk);
            if self.small.len() >= SMALL {
                self.flush();
            }
        } else {
            self.flush();
            self.chunks.push(chunk);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Content {
        self.flush();
        Content {
            chunks: self.chunks,
            size: self.size,
            md5: self.md5.finalize().into(),
            crc64: self.crc.finalize(),
        }
    }
}

/// Why a body did not arrive.
#[derive(Debug)]
pub(crate) enum BodyFailure {
    /// The server has an answer for it.
    Refused(OssError),
    /// The client went away, or a fault asks for the connection to break here.
    Gone,
}

/// Reads a whole body of at most `limit` bytes; breaks off after `cut` bytes, if a fault asks for it.
pub(crate) async fn read(body: &mut Incoming, limit: u64, cut: Option<u64>) -> Result<Content, BodyFailure> {
    let mut gather = Gather::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(BodyFailure::Gone);
        };
        if let Ok(data) = frame.into_data() {
            gather.push(data);
        }
        if cut.is_some_and(|cut| gather.size >= cut) {
            return Err(BodyFailure::Gone);
        }
        if gather.size > limit {
            return Err(BodyFailure::Refused(too_large(limit)));
        }
    }
    Ok(gather.finish())
}

pub(crate) fn too_large(limit: u64) -> OssError {
    OssError::new(
        400,
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size.",
    )
    .detail("MaxSizeAllowed", limit.to_string())
}

/// Swallows what the client still sends, so that it reads the refusal instead of a broken connection; up to a
/// limit of bytes and time.
pub(crate) async fn drain(body: &mut Incoming) {
    const BYTES: u64 = 64 * 1024 * 1024;
    let all = async {
        let mut seen = 0u64;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if seen > BYTES {
                break;
            }
        }
    };
    // Running out of time only means that this client sees a reset instead of the refusal.
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
}

/// An answer's body, which a fault may cut off.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    chunks: VecDeque<Bytes>,
    left: u64,
    /// Bytes still to send before the connection breaks.
    cut: Option<u64>,
    breaking: Option<Pin<Box<Sleep>>>,
}

/// The error that makes hyper drop the connection.
#[derive(Debug, thiserror::Error)]
#[error("the answer is cut off here by a fault")]
pub(crate) struct CutOff;

impl ReplyBody {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        let left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            chunks: chunks.into(),
            left,
            cut: None,
            breaking: None,
        }
    }

    pub(crate) fn cut_after(mut self, bytes: u64) -> Self {
        if bytes < self.left {
            self.cut = Some(bytes);
        }
        self
    }

    pub(crate) fn len(&self) -> u64 {
        self.left
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.cut == Some(0) {
            // The pause lets hyper flush what was sent before, so that the cut is where it was asked for.
            let pause = self
                .breaking
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(20))));
            return match pause.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(CutOff))),
                Poll::Pending => Poll::Pending,
            };
        }
        let Some(mut chunk) = self.chunks.pop_front() else {
            return Poll::Ready(None);
        };
        if let Some(cut) = self.cut {
            let allowed = usize::try_from(cut).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(allowed);
            self.cut = Some(cut - allowed as u64);
        }
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_across_chunks() {
        let chunks = vec![
            Bytes::from_static(b"abc"),
            Bytes::from_static(b"defg"),
            Bytes::from_static(b"h"),
        ];
        let cut = |a, b| Content::from_chunks(slice(&chunks, a, b)).to_bytes();
        assert_eq!(cut(0, 8), "abcdefgh");
        assert_eq!(cut(2, 4), "cd");
        assert_eq!(cut(3, 7), "defg");
        assert_eq!(cut(7, 8), "h");
        assert_eq!(cut(5, 5), "");
    }

    #[test]
    fn the_checksums_are_the_published_ones() {
        let content = Content::from_chunks(vec![Bytes::from_static(b"12345"), Bytes::from_static(b"6789")]);
        assert_eq!(content.crc64, 0x995d_c9bb_df19_39fa);
        assert_eq!(content.etag(), "25F9E794323B453885F5181F1B624D0B");
        assert_eq!(content.size, 9);
    }
}
