//! An upload in parts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, header};
use md5::{Digest, Md5};
use tokio::task::{JoinError, JoinSet};

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
        let request = put::with_options(
            Request::new("upload", Method::POST, key).query("uploads", ""),
            options,
        )?;
        let request = client.with_access(request)?;
        let (began, perhaps_twice) = (Instant::now(), AtomicBool::new(false));
        let id = retry
            .run("oss", async || {
                let answer = client.send_and_read(&request).await;
                if answer.as_ref().is_err_and(orphans::may_have_begun) {
                    perhaps_twice.store(true, Ordering::Relaxed);
                }
                let started: InitiateBody = xml::parse(&answer?.1, "InitiateMultipartUploadResult")
                    .map_err(|why| unexpected(&request, why))?;
                Ok(started.upload_id)
            })
            .await?;
        let trying = began.elapsed();
        let mut upload = Self::of_id(client, key, id, retry);
        if perhaps_twice.into_inner() {
            upload.orphans = orphans::find(&upload.client, key, &upload.id, trying, retry).await;
        }
        Ok(upload)
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

    /// Sends a part as soon as fewer than `at_once` are on their way.
    pub(super) async fn add(&mut self, number: u32, body: Payload, at_once: usize) -> Result<()> {
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
        let (client, retry) = (Arc::clone(&self.client), self.retry);
        let request = Request::new("upload", Method::PUT, &self.key)
            .query("partNumber", number.to_string())
            .query("uploadId", self.id.as_str())
            .payload(body);
        self.in_flight.spawn(async move {
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
        });
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

    pub(super) async fn complete(&mut self, options: &PutOptions) -> Result<Receipt> {
        while self.is_busy() {
            self.settle().await?;
        }
        let receipt = Receipt {
            size: self.stored(),
            etag: String::new(),
            crc64: self.done.values().fold(Crc64::new().value(), |crc, part| {
                crc::combine(crc, part.crc64, part.size)
            }),
        };
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
                complete_once(&self.client, &request, receipt.crc64, attempts > 1)
            })
            .await?;
        let etag = match completed {
            Some(etag) => etag,
            None => self.recognise(&request, &parts, &receipt).await?,
        };
        self.open = false;
        self.remove_orphans().await;
        Ok(Receipt { etag, ..receipt })
    }

    /// The answer to an earlier attempt to complete was lost, and the upload is gone: most probably because that attempt
    /// succeeded. Only the object itself can prove it.
    async fn recognise(&self, request: &Request, parts: &[(u32, String)], ours: &Receipt) -> Result<String> {
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
        let same = match found.crc64 {
            Some(crc) => crc == ours.crc64,
            // A stand-in without checksums: its ETag names the parts, or nothing does.
            None => joint_etag(parts).is_some_and(|etag| etag.eq_ignore_ascii_case(&found.etag)),
        };
        if found.size == ours.size && same {
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

/// `None` if the upload is gone and this isn't the first attempt.
async fn complete_once(client: &Client, request: &Request, crc: u64, again: bool) -> Result<Option<String>> {
    let (headers, body) = match client.send_and_read(request).await {
        // Not found: the document that tells what is gone got lost.
        Err(error) if again && matches!(error.kind(), ErrorKind::UploadGone | ErrorKind::NotFound) => {
            return Ok(None);
        }
        other => other?,
    };
    let completed: EtagBody =
        xml::parse(&body, "CompleteMultipartUploadResult").map_err(|why| unexpected(request, why))?;
    check_crc(request, &headers, crc).map_err(|error| error.with_retryable(false))?;
    Ok(Some(completed.etag.trim_matches('"').to_owned()))
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
