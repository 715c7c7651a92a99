//! An upload in parts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, header};
use md5::{Digest, Md5};
use tokio::task::{JoinError, JoinSet};

use super::{
    client::{Client, Request},
    get,
    put::{self, PART, Receipt, check_crc, etag, unexpected},
    xml::{self, EtagBody, InitiateBody},
};
use crate::{Error, ErrorKind, Key, PutOptions, Result, RetryPolicy, crc::Crc64};

/// Parts sent at the same time; with the one that is being filled, this bounds the memory of an upload.
const IN_FLIGHT: usize = 3;
const MOST_PARTS: u32 = 10_000;
const LARGEST_PART: u64 = 5 << 30;
const ABORT: Duration = Duration::from_secs(10);

type PartDone = Result<(u32, String)>;

/// An upload that is under way. Unless it is completed, it is aborted, also when it is dropped: OSS bills the parts of
/// forgotten uploads.
pub(super) struct Upload {
    client: Arc<Client>,
    key: Key,
    id: String,
    retry: RetryPolicy,
    /// Part size for a known length.
    fixed: Option<usize>,
    next: u32,
    /// Tasks, because they have to go on while the next part is waited for.
    in_flight: JoinSet<PartDone>,
    done: BTreeMap<u32, String>,
    crc: Crc64,
    size: u64,
    open: bool,
}

impl Upload {
    pub(super) async fn start(
        client: Arc<Client>,
        key: &Key,
        options: &PutOptions,
        length: Option<u64>,
        retry: RetryPolicy,
    ) -> Result<Self> {
        let request = put::with_options(
            Request::new("upload", Method::POST, key).query("uploads", ""),
            options,
        )?;
        let request = client.with_access(request)?;
        let id = retry
            .run("oss", async || {
                let (_, body) = client.send_and_read(&request).await?;
                let started: InitiateBody = xml::parse(&body, "InitiateMultipartUploadResult")
                    .map_err(|why| unexpected(&request, why))?;
                Ok(started.upload_id)
            })
            .await?;
        let fixed = length.map(|length| {
            usize::try_from(length.div_ceil(9_000))
                .unwrap_or(usize::MAX)
                .max(PART)
        });
        Ok(Self {
            client,
            key: key.clone(),
            id,
            retry,
            fixed,
            next: 1,
            in_flight: JoinSet::new(),
            done: BTreeMap::new(),
            crc: Crc64::new(),
            size: 0,
            open: true,
        })
    }

    /// How large the next part should be. Without a known length it doubles every 1,000 parts: small objects need little
    /// memory, and 10,000 parts hold terabytes.
    pub(super) fn next_size(&self) -> usize {
        let grown = (PART as u64) << (self.next.saturating_sub(1) / 1000).min(16);
        let size = self.fixed.map_or(grown, |fixed| fixed as u64).min(LARGEST_PART);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// Sends a part as soon as there is a free slot.
    pub(super) async fn add(&mut self, part: Bytes) -> Result<()> {
        if self.next > MOST_PARTS {
            let why = "the object would have more than 10,000 parts";
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "upload",
                self.key.as_str(),
                why,
            ));
        }
        while self.in_flight.len() >= IN_FLIGHT {
            self.settle().await?;
        }
        self.crc.update(&part);
        self.size += part.len() as u64;
        let (client, retry, number) = (Arc::clone(&self.client), self.retry, self.next);
        let request = Request::new("upload", Method::PUT, &self.key)
            .query("partNumber", number.to_string())
            .query("uploadId", self.id.as_str())
            .body(part);
        self.in_flight.spawn(async move {
            retry
                .run("oss", async || {
                    let (headers, _) = client.send_and_read(&request).await?;
                    check_crc(&request, &headers, crate::crc::crc64(&request.body))?;
                    Ok((number, etag(&headers)))
                })
                .await
        });
        self.next += 1;
        while let Some(done) = self.in_flight.try_join_next() {
            self.record(done)?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        match self.in_flight.join_next().await {
            Some(done) => self.record(done),
            None => Ok(()),
        }
    }

    fn record(&mut self, done: Result<PartDone, JoinError>) -> Result<()> {
        let (number, etag) = done.map_err(|error| {
            let why = "sending a part was interrupted";
            Error::new(ErrorKind::Unexpected, "upload", self.key.as_str(), why).with_source(error)
        })??;
        self.done.insert(number, etag);
        Ok(())
    }

    pub(super) async fn complete(&mut self, options: &PutOptions) -> Result<Receipt> {
        while !self.in_flight.is_empty() {
            self.settle().await?;
        }
        let parts: Vec<(u32, String)> = std::mem::take(&mut self.done).into_iter().collect();
        let request = Request::new("upload", Method::POST, &self.key)
            .query("uploadId", self.id.as_str())
            .header(header::CONTENT_TYPE, "application/xml")?
            .body(xml::complete_body(&parts));
        let request = put::forbid_overwrite(request, options)?;
        let crc = self.crc.value();
        let mut attempts = 0;
        let completed = put::patience(options, self.retry)
            .run("oss", || {
                attempts += 1;
                complete_once(&self.client, &request, crc, attempts > 1)
            })
            .await?;
        let etag = match completed {
            Some(etag) => etag,
            None => self.recognise(&request, &parts).await?,
        };
        self.open = false;
        Ok(Receipt {
            size: self.size,
            etag,
            crc64: crc,
        })
    }

    /// The answer to an earlier attempt to complete was lost, and the upload is gone: most probably because that attempt
    /// succeeded. Only the object itself can prove it.
    async fn recognise(&self, request: &Request, parts: &[(u32, String)]) -> Result<String> {
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
            Some(crc) => crc == self.crc.value(),
            // A stand-in without checksums: its ETag names the parts, or nothing does.
            None => joint_etag(parts).is_some_and(|etag| etag.eq_ignore_ascii_case(&found.etag)),
        };
        if found.size == self.size && same {
            Ok(found.etag)
        } else {
            Err(unknown())
        }
    }

    /// Ends the upload without an object. What can't be aborted now is left to the bucket's lifecycle rule.
    pub(super) async fn abort(&mut self) {
        self.in_flight.shutdown().await;
        if std::mem::take(&mut self.open) {
            abort(&self.client, &self.key, &self.id, self.retry).await;
        }
    }
}

/// `None` if the upload is gone and this isn't the first attempt.
async fn complete_once(client: &Client, request: &Request, crc: u64, again: bool) -> Result<Option<String>> {
    let (headers, body) = match client.send_and_read(request).await {
        Err(error) if again && error.kind() == ErrorKind::UploadGone => return Ok(None),
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

async fn abort(client: &Client, key: &Key, id: &str, retry: RetryPolicy) {
    let request = Request::new("abort", Method::DELETE, key).query("uploadId", id);
    let aborting = retry.run("oss", async || client.send(&request).await.map(drop));
    match tokio::time::timeout(ABORT, aborting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == ErrorKind::UploadGone => {}
        Ok(Err(error)) => tracing::warn!(%error, "an unfinished upload could not be removed"),
        Err(_) => tracing::warn!(
            key = key.as_str(),
            "an unfinished upload could not be removed in time"
        ),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // The caller went away in the middle.
        self.in_flight.abort_all();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, key) = (Arc::clone(&self.client), self.key.clone());
            let (id, retry) = (std::mem::take(&mut self.id), self.retry);
            runtime.spawn(async move { abort(&client, &key, &id, retry).await });
        }
    }
}
