//! An upload in parts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header};
use md5::{Digest, Md5};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use super::{
    client::{Client, Payload, Request},
    get, orphans, parts,
    put::{self, Receipt, check_crc, etag, unexpected},
    xml::{self, EtagBody, InitiateBody},
};
use crate::{
    Error, ErrorKind, Key, PutOptions, Result, RetryPolicy,
    crc::{self, Crc64},
};

const ABORT: Duration = Duration::from_secs(10);

/// A part that the server has.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) etag: String,
    pub(super) crc64: u64,
    pub(super) size: u64,
}

type PartDone = Result<(u32, Part)>;

/// An upload that is under way. Unless it is completed or [kept](Self::keep), it is aborted, also when it is dropped: OSS
/// bills the parts of forgotten uploads.
pub(super) struct Upload {
    client: Arc<Client>,
    key: Key,
    pub(super) id: String,
    retry: RetryPolicy,
    /// Tasks, because they have to go on while the next part is waited for.
    in_flight: JoinSet<PartDone>,
    done: BTreeMap<u32, Part>,
    /// Whether it is to be aborted at the end.
    open: bool,
    /// Others of the same key, which may have been begun by an attempt of ours whose answer was lost.
    orphans: Vec<String>,
}

impl Upload {
    pub(super) async fn start(
        client: Arc<Client>,
        key: &Key,
        options: &PutOptions,
        retry: RetryPolicy,
    ) -> Result<Self> {
        put::may_create_only(&client, key, options)?;
        let request = put::with_options(
            Request::new("upload", Method::POST, key).query("uploads", ""),
            options,
        )?;
        let request = client.with_access(request)?;
        // In a task of its own: if the caller goes away while the answer is on its way, the upload still becomes known, and
        // is aborted as any other that is dropped.
        let begun = tokio::spawn(begin(client, key.clone(), request, retry).in_current_span());
        begun.await.unwrap_or_else(|error| {
            let why = "beginning the upload was interrupted";
            Err(Error::new(ErrorKind::Unexpected, "upload", key.as_str(), why).with_source(error))
        })
    }

    /// An upload that was started earlier.
    pub(super) fn of_id(client: Arc<Client>, key: &Key, id: String, retry: RetryPolicy) -> Self {
        Self {
            client,
            key: key.clone(),
            id,
            retry,
            in_flight: JoinSet::new(),
            done: BTreeMap::new(),
            open: true,
            orphans: Vec::new(),
        }
    }

    /// From now on it stays when this is dropped: somebody has written down its id to go on with it.
    pub(super) fn keep(&mut self) {
        self.open = false;
    }

    /// Bytes of the parts that are there.
    pub(super) fn stored(&self) -> u64 {
        self.done.values().map(|part| part.size).sum()
    }

    /// Takes over a part of an earlier attempt.
    pub(super) fn take_over(&mut self, number: u32, part: Part) {
        self.done.insert(number, part);
    }

    /// A request to store a part.
    pub(super) fn part_request(&self, number: u32) -> Request {
        Request::new("upload", Method::PUT, &self.key)
            .query("partNumber", number.to_string())
            .query("uploadId", self.id.as_str())
    }

    /// Sends a part as soon as fewer than `at_once` are on their way.
    pub(super) async fn add(&mut self, number: u32, body: Payload, at_once: usize) -> Result<()> {
        let request = self.part_request(number).payload(body);
        let (client, retry) = (Arc::clone(&self.client), self.retry);
        let send = async move {
            retry
                .run("oss", async || {
                    let (headers, _) = client.send_and_read(&request).await?;
                    let part = Part {
                        etag: etag(&headers),
                        crc64: request.body.crc64(),
                        size: request.body.len(),
                    };
                    check_crc(&request, &headers, part.crc64)?;
                    Ok((number, part))
                })
                .await
        };
        self.spawn(number, at_once, send).await
    }

    /// The same for a part that the server takes from another object. Its checksum is not told.
    pub(super) async fn add_copied(
        &mut self,
        number: u32,
        request: Request,
        size: u64,
        at_once: usize,
    ) -> Result<()> {
        let (client, retry) = (Arc::clone(&self.client), self.retry);
        let send = async move {
            retry
                .run("oss", async || {
                    let (_, body) = client.send_and_read(&request).await?;
                    let copied: EtagBody =
                        xml::parse(&body, "CopyPartResult").map_err(|why| unexpected(&request, why))?;
                    let etag = copied.etag.trim_matches('"').to_owned();
                    Ok((number, Part { etag, crc64: 0, size }))
                })
                .await
        };
        self.spawn(number, at_once, send).await
    }

    async fn spawn(
        &mut self,
        number: u32,
        at_once: usize,
        send: impl Future<Output = PartDone> + Send + 'static,
    ) -> Result<()> {
        if number > parts::MOST {
            let why = "the object would have more than 10,000 parts";
            return Err(
                Error::new(ErrorKind::InvalidInput, "upload", self.key.as_str(), why)
                    .with_hint("declare the length of the stream, and the parts will be larger"),
            );
        }
        while self.in_flight.len() >= at_once {
            self.settle().await?;
        }
        self.in_flight.spawn(send.in_current_span());
        while let Some(done) = self.in_flight.try_join_next() {
            self.record(done)?;
        }
        Ok(())
    }

    /// Waits for a part on its way, if there is one.
    pub(super) async fn settle(&mut self) -> Result<()> {
        match self.in_flight.join_next().await {
            Some(done) => self.record(done),
            None => Ok(()),
        }
    }

    fn record(&mut self, done: Result<PartDone, JoinError>) -> Result<()> {
        let (number, part) = done.map_err(|error| {
            let why = "sending a part was interrupted";
            Error::new(ErrorKind::Unexpected, "upload", self.key.as_str(), why).with_source(error)
        })??;
        self.done.insert(number, part);
        Ok(())
    }

    /// Whether parts are on their way.
    pub(super) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Makes the object of the parts that were sent.
    pub(super) async fn complete(&mut self, options: &PutOptions) -> Result<Receipt> {
        while self.is_busy() {
            self.settle().await?;
        }
        let crc64 = self.done.values().fold(Crc64::new().value(), |crc, part| {
            crc::combine(crc, part.crc64, part.size)
        });
        let size = self.stored();
        let etag = self.complete_as(options, size, Some(crc64)).await?;
        Ok(Receipt { size, etag, crc64 })
    }

    /// Makes the object of the parts; its checksum is compared if it is known. Answers with its ETag.
    pub(super) async fn complete_as(
        &mut self,
        options: &PutOptions,
        size: u64,
        crc64: Option<u64>,
    ) -> Result<String> {
        while self.is_busy() {
            self.settle().await?;
        }
        let parts: Vec<(u32, String)> = std::mem::take(&mut self.done)
            .into_iter()
            .map(|(number, part)| (number, part.etag))
            .collect();
        let request = Request::new("upload", Method::POST, &self.key)
            .query("uploadId", self.id.as_str())
            .header(header::CONTENT_TYPE, "application/xml")?
            .body(xml::complete_body(&parts));
        let request = put::forbid_overwrite(request, options)?;
        let mut attempts = 0;
        let completed = put::patience(options, self.retry)
            .run("oss", || {
                attempts += 1;
                complete_once(&self.client, &request, crc64, attempts > 1)
            })
            .await?;
        let etag = match completed {
            Some((etag, headers)) => {
                self.open = false;
                put::was_heeded(&self.client, &headers, &self.key, options)?;
                etag
            }
            None => self.recognise(&request, &parts, size, crc64).await?,
        };
        self.open = false;
        self.remove_orphans().await;
        Ok(etag)
    }

    /// The answer to an earlier attempt to complete was lost, and the upload is gone: most probably because that attempt
    /// succeeded. Only the object itself can prove it.
    async fn recognise(
        &self,
        request: &Request,
        parts: &[(u32, String)],
        size: u64,
        crc64: Option<u64>,
    ) -> Result<String> {
        let unknown = || {
            let why =
                "the answer to the completing request was lost, and the object there isn't provably this one";
            request
                .error(ErrorKind::Unavailable, why)
                .with_hint("it is not known whether the object was stored; upload it again")
        };
        let found = match self
            .retry
            .run("oss", || get::head(&self.client, &self.key, "upload"))
            .await
        {
            Ok(found) => found,
            Err(error) => return Err(unknown().with_source(error)),
        };
        let same = match found.crc64.zip(crc64) {
            Some((there, ours)) => there == ours,
            // A stand-in without checksums: its ETag names the parts, or nothing does.
            None => joint_etag(parts).is_some_and(|etag| etag.eq_ignore_ascii_case(&found.etag)),
        };
        if found.size == size && same {
            Ok(found.etag)
        } else {
            Err(unknown())
        }
    }

    /// Breaks off the parts on their way.
    pub(super) async fn stop(&mut self) {
        self.in_flight.shutdown().await;
    }

    /// Ends the upload without an object. What can't be aborted now is left to the bucket's lifecycle rule.
    pub(super) async fn abort(&mut self) {
        self.stop().await;
        if std::mem::take(&mut self.open) {
            abort(&self.client, &self.key, &self.id, self.retry).await;
        }
        self.remove_orphans().await;
    }

    async fn remove_orphans(&mut self) {
        let orphans = std::mem::take(&mut self.orphans);
        orphans::remove(&self.client, &self.key, orphans, self.retry).await;
    }
}

async fn begin(client: Arc<Client>, key: Key, request: Request, retry: RetryPolicy) -> Result<Upload> {
    let (began, perhaps_begun) = (Instant::now(), AtomicBool::new(false));
    let id = retry
        .run("oss", async || {
            let answer = client.send_and_read(&request).await;
            if answer.as_ref().is_err_and(orphans::may_have_begun) {
                perhaps_begun.store(true, Ordering::Relaxed);
            }
            let started: InitiateBody = xml::parse(&answer?.1, "InitiateMultipartUploadResult")
                .map_err(|why| unexpected(&request, why))?;
            Ok(started.upload_id)
        })
        .await;
    let (trying, perhaps_begun) = (began.elapsed(), perhaps_begun.into_inner());
    match id {
        Ok(id) => {
            let mut upload = Upload::of_id(client, &key, id, retry);
            if perhaps_begun {
                upload.orphans = orphans::find(&upload.client, &key, Some(&upload.id), trying, retry)
                    .await
                    .inspect_err(orphans::unknown)
                    .unwrap_or_default();
            }
            Ok(upload)
        }
        Err(error) => {
            if perhaps_begun {
                tokio::spawn(orphans::sweep(client, key, began, retry).in_current_span());
            }
            Err(error)
        }
    }
}

/// `None` if the upload is gone and this isn't the first attempt.
async fn complete_once(
    client: &Client,
    request: &Request,
    crc64: Option<u64>,
    again: bool,
) -> Result<Option<(String, HeaderMap)>> {
    let (headers, body) = match client.send_and_read(request).await {
        // Not found: the document that tells what is gone got lost.
        Err(error) if again && matches!(error.kind(), ErrorKind::UploadGone | ErrorKind::NotFound) => {
            return Ok(None);
        }
        other => other?,
    };
    let completed: EtagBody =
        xml::parse(&body, "CompleteMultipartUploadResult").map_err(|why| unexpected(request, why))?;
    if let Some(crc64) = crc64 {
        check_crc(request, &headers, crc64).map_err(|error| error.with_retryable(false))?;
    }
    Ok(Some((completed.etag.trim_matches('"').to_owned(), headers)))
}

/// The ETag that servers commonly give to an object of these parts: the MD5 of the parts' MD5s, and their number.
fn joint_etag(parts: &[(u32, String)]) -> Option<String> {
    let mut digest = Md5::new();
    for (_, etag) in parts {
        digest.update(hex::decode(etag).ok().filter(|md5| md5.len() == 16)?);
    }
    Some(format!(
        "{}-{}",
        hex::encode_upper(digest.finalize()),
        parts.len()
    ))
}

/// Ends an upload, whoever has started it.
pub(super) async fn abort(client: &Client, key: &str, id: &str, retry: RetryPolicy) {
    let request = Request::new("abort", Method::DELETE, key).query("uploadId", id);
    let aborting = retry.run("oss", async || client.send(&request).await.map(drop));
    match tokio::time::timeout(ABORT, aborting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == ErrorKind::UploadGone => {}
        Ok(Err(error)) => tracing::warn!(%error, "an unfinished upload could not be removed"),
        Err(_) => tracing::warn!(key, "an unfinished upload could not be removed in time"),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open && self.orphans.is_empty() {
            return;
        }
        // The caller went away in the middle.
        self.in_flight.abort_all();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, key) = (Arc::clone(&self.client), self.key.clone());
            let (id, retry) = (std::mem::take(&mut self.id), self.retry);
            let (open, orphans) = (self.open, std::mem::take(&mut self.orphans));
            runtime.spawn(async move {
                if open {
                    abort(&client, &key, &id, retry).await;
                }
                orphans::remove(&client, &key, orphans, retry).await;
            });
        }
    }
}
