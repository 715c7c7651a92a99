//! A download that goes on after its connection broke.

use std::sync::Arc;

use futures_util::{TryStreamExt, stream};
use http::{Method, StatusCode, header};

use super::{
    client::{Client, Request},
    get::{content_range, text},
    put::etag,
};
use crate::{
    ByteRange, ByteStream, ContentRange, Error, ErrorKind, Key, Result, RetryPolicy, retry::Attempts,
};

/// The version of an object that the first bytes came from; no other is spliced in.
pub(super) struct Version {
    pub(super) client: Arc<Client>,
    pub(super) key: Key,
    pub(super) etag: String,
}

/// What is still missing of it.
struct Rest {
    version: Version,
    stream: ByteStream,
    /// The next byte, one after the last one wanted, and the size of the object.
    part: ContentRange,
    /// Failures since the last byte; the clock starts with the first of them.
    attempts: Option<Attempts>,
    policy: RetryPolicy,
}

/// The bytes of `part`, from `stream` as long as it lasts, then from new requests that start at the byte that is missing.
/// The patience of `policy` counts from the last byte that arrived.
pub(super) fn resuming(
    version: Version,
    part: ContentRange,
    stream: ByteStream,
    policy: RetryPolicy,
) -> ByteStream {
    let rest = Rest {
        version,
        stream,
        part,
        attempts: None,
        policy,
    };
    ByteStream::new(stream::try_unfold(rest, |mut rest| async move {
        loop {
            let broken = match rest.stream.try_next().await {
                Ok(Some(piece)) => {
                    rest.part.start += piece.len() as u64;
                    rest.attempts = None;
                    return Ok(Some((piece, rest)));
                }
                Ok(None) if rest.part.start >= rest.part.end => return Ok(None),
                Ok(None) => {
                    let why = "the connection ended before the object did";
                    Error::new(ErrorKind::Unavailable, "download", rest.version.key.as_str(), why)
                }
                Err(error) => error,
            };
            rest.reopen(broken).await?;
        }
    }))
}

impl Rest {
    /// Opens the rest, after a wait. Gives back what broke it if that can't be mended.
    async fn reopen(&mut self, mut broken: Error) -> Result<()> {
        loop {
            if self.version.etag.is_empty() || self.part.start >= self.part.end {
                return Err(broken);
            }
            let attempts = self.attempts.get_or_insert_default();
            self.policy.wait_after("oss", attempts, broken).await?;
            match self.version.open(self.part).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::NotFound) => {
                    return Err(self.version.changed(self.part).with_source(error));
                }
                Err(error) => broken = error,
            }
        }
    }
}

impl Version {
    async fn open(&self, part: ContentRange) -> Result<ByteStream> {
        let ContentRange { start, end, .. } = part;
        let request = Request::new("download", Method::GET, &self.key)
            .header(header::RANGE, &ByteRange::Bounded { start, end }.to_header())?
            .header("x-oss-range-behavior", "standard")?
            .header(header::IF_MATCH, &format!("\"{}\"", self.etag))?;
        let answer = self.client.send(&request).await?;
        // A server that doesn't honour the conditions must not slip in other bytes.
        let version = etag(answer.headers());
        let sent = text(answer.headers(), header::CONTENT_RANGE).and_then(content_range);
        if version != self.etag {
            return Err(self.changed(part));
        }
        if answer.status() != StatusCode::PARTIAL_CONTENT || sent != Some(part) {
            let why = "the server sent another part than the one that was missing";
            return Err(request.error(ErrorKind::Unexpected, why));
        }
        Ok(self.client.stream(answer, &request))
    }

    fn changed(&self, part: ContentRange) -> Error {
        let why = format!(
            "the object was replaced or removed after {} bytes had been read",
            part.start
        );
        Error::new(ErrorKind::Changed, "download", self.key.as_str(), why)
    }
}
