//! A file sent as `multipart/form-data`, read as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::CONTENT_TYPE;

use super::form_budget::{Budgeted, FormBudget};
use super::{HttpResult, Problem};

/// The form field that holds the file.
const FIELD: &str = "file";
/// Text fields before the file are skipped, up to this many.
const MAX_FIELDS: usize = 32;
/// Longest file name kept, in characters.
const MAX_NAME: usize = 200;

/// The field `file` of a multipart request, streamed: nothing is read before the handler asks.
///
/// Refuses with 400 what is not multipart or has no file.
#[derive(Debug)]
pub struct FilePart {
    /// The client's name for the file, without any folder and without control characters, at most 200 characters;
    /// `file` if it gave none. Fit to be shown and to be part of a key; never to be trusted for the type.
    pub file_name: String,
    /// What the client says the type is. Look at the content before believing it.
    pub content_type: Option<String>,
    /// The bytes.
    pub stream: FileStream,
}

impl<S: Send + Sync> FromRequest<S> for FilePart {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let boundary = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| multer::parse_boundary(value).ok())
            .ok_or_else(|| {
                Problem::bad_request("Send the file as multipart/form-data in a field named `file`.")
            })?;
        let budget = FormBudget::new();
        let body = Budgeted {
            body: request.into_body().into_data_stream(),
            budget: budget.clone(),
        };
        let mut form = multer::Multipart::new(body, boundary);
        for _ in 0..MAX_FIELDS {
            let Some(field) = form.next_field().await.map_err(refuse)? else {
                break;
            };
            if field.name() == Some(FIELD) {
                budget.lift();
                return Ok(Self {
                    file_name: safe_file_name(field.file_name().unwrap_or_default()),
                    content_type: field.content_type().map(|mime| mime.essence_str().to_owned()),
                    stream: FileStream::new(form, field, budget),
                });
            }
        }
        Err(Problem::bad_request(
            "The request has no file. Send it in a form field named `file`.",
        ))
    }
}

/// The bytes of a [`FilePart`]. Ends with an error if the client goes away or the body breaks off, so that what reads
/// it can tell a whole file from half of one.
pub struct FileStream {
    // Looked at by `peek`, not yet handed out.
    ahead: BytesMut,
    rest: BoxStream<'static, HttpResult<Bytes>>,
    failed: Option<Problem>,
    read: u64,
    limit: u64,
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStream")
            .field("read", &self.read)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl FileStream {
    fn new(form: multer::Multipart<'static>, field: multer::Field<'static>, budget: FormBudget) -> Self {
        // After the file's last byte the form must end properly: a body that was cut off between them is not whole.
        let rest = futures_util::stream::unfold(Some(Box::new((form, field, budget))), |open| async move {
            let mut open = open?;
            match open.1.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(open))),
                Err(error) => Some((Err(refuse(error)), None)),
                Ok(None) => {
                    let (form, field, budget) = *open;
                    drop(field);
                    budget.restore();
                    finish(form).await.err().map(|problem| (Err(problem), None))
                }
            }
        });
        Self {
            ahead: BytesMut::new(),
            rest: rest.fuse().boxed(),
            failed: None,
            read: 0,
            limit: u64::MAX,
        }
    }

    /// Refuses with 413 what is larger than `bytes`.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// The first `count` bytes, or fewer if the file is shorter. They are handed out again by the stream.
    pub async fn peek(&mut self, count: usize) -> HttpResult<&[u8]> {
        while self.ahead.len() < count {
            match self.rest.next().await {
                Some(Ok(chunk)) => self.ahead.extend_from_slice(&chunk),
                Some(Err(problem)) => return Err(problem),
                None => break,
            }
        }
        Ok(&self.ahead[..count.min(self.ahead.len())])
    }

    /// The whole file in memory.
    ///
    /// # Errors
    /// 413 beyond `limit` bytes; the client's faults otherwise.
    pub async fn bytes(self, limit: u64) -> HttpResult<Bytes> {
        let mut stream = self.limit(limit);
        let mut all = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }

    /// Bytes handed out so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The problem that ended the stream, for a handler whose reader could only report "the stream failed".
    pub fn failure(&self) -> Option<&Problem> {
        self.failed.as_ref()
    }
}

async fn finish(mut form: multer::Multipart<'static>) -> HttpResult<()> {
    for _ in 0..MAX_FIELDS {
        if form.next_field().await.map_err(refuse)?.is_none() {
            return Ok(());
        }
    }
    Err(Problem::bad_request("The form has too many fields."))
}

impl Stream for FileStream {
    type Item = Result<Bytes, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed.is_some() {
            return Poll::Ready(None);
        }
        let next = if self.ahead.is_empty() {
            match self.rest.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            }
        } else {
            Some(Ok(self.ahead.split().freeze()))
        };
        let Some(item) = next else {
            return Poll::Ready(None);
        };
        let item = item.and_then(|chunk| {
            self.read += chunk.len() as u64;
            if self.read > self.limit {
                Err(too_large(self.limit))
            } else {
                Ok(chunk)
            }
        });
        if let Err(problem) = &item {
            self.failed = Some(problem.clone());
        }
        Poll::Ready(Some(item))
    }
}

fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!(
        "The file is larger than the limit of {}.",
        zhuji_config::ByteSize::new(limit)
    ))
    .with("limit_bytes", limit)
}

fn refuse(error: multer::Error) -> Problem {
    if let multer::Error::StreamReadFailed(source) = &error
        && let Some(problem) = Problem::within(&**source)
    {
        return problem;
    }
    match error {
        multer::Error::IncompleteStream
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::StreamReadFailed(_) => Problem::bad_request(
            "The upload was cut off before its end. Nothing was stored; please send it again.",
        ),
        _ => Problem::bad_request("The body is not valid multipart/form-data."),
    }
    .caused_by(&error)
}

fn safe_file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let kept = kept.trim().trim_start_matches('.');
    if kept.is_empty() {
        "file".to_owned()
    } else {
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_never_names_a_folder() {
        for (given, kept) in [
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\文献.pdf", "文献.pdf"),
            ("..", "file"),
            ("", "file"),
            ("a\0b\r\n.pdf", "ab.pdf"),
            (".htaccess", "htaccess"),
        ] {
            assert_eq!(safe_file_name(given), kept);
        }
        assert_eq!(safe_file_name(&"x".repeat(4000)).len(), MAX_NAME);
    }
}
