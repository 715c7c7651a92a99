//! A file on its way to OSS: its parts are read from the disk as they are sent, and what has arrived is not sent again.

use std::{collections::HashMap, path::Path, sync::Arc};

use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    client::{Client, Payload, Request},
    multipart::{self, Part, Upload},
    parts::PartSizes,
    put::{self, Receipt, patience, unexpected},
    xml::{self, ListedPart, PartsBody},
};
use crate::{
    Error, ErrorKind, Key, Result, RetryPolicy, UploadFileOptions,
    crc::crc64,
    transfer::{checkpoint, source::SourceFile},
};

/// What an upload is bound to. If any of it is another one now, the upload starts anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Binding {
    /// Scheme, host and bucket.
    endpoint: String,
    key: String,
    size: u64,
    modified: jiff::Timestamp,
    part_size: u64,
    /// A digest of how the object is to be stored.
    options: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    #[serde(flatten)]
    binding: Binding,
    upload_id: String,
}

/// One upload of one file.
struct FileUpload<'a> {
    client: &'a Arc<Client>,
    key: &'a Key,
    file: SourceFile,
    options: &'a UploadFileOptions,
    retry: RetryPolicy,
    binding: Binding,
}

pub(super) async fn upload_file(
    client: &Arc<Client>,
    key: &Key,
    path: &Path,
    options: &UploadFileOptions,
    retry: RetryPolicy,
) -> Result<Receipt> {
    let file = SourceFile::open(path, key).await?;
    let part_size = PartSizes::of_length(file.size, options.common.part_size, key)?.next(0);
    let binding = Binding {
        endpoint: client.base(),
        key: key.to_string(),
        size: file.size,
        modified: file.modified,
        part_size,
        options: format!("{:016x}", crc64(format!("{:?}", options.put).as_bytes())),
    };
    let upload = FileUpload {
        client,
        key,
        file,
        options,
        retry,
        binding,
    };
    let receipt = if upload.file.size <= part_size {
        upload.in_one_request().await?
    } else {
        match upload.in_parts().await {
            // Somebody has aborted it, or its time was over.
            Err(error) if error.kind() == ErrorKind::UploadGone => {
                tracing::info!(%error, "starting the upload anew");
                upload.forget().await;
                upload.in_parts().await?
            }
            other => other?,
        }
    };
    upload.forget().await;
    Ok(receipt)
}

impl FileUpload<'_> {
    async fn in_one_request(&self) -> Result<Receipt> {
        // What is left of a larger file with this checkpoint.
        let _ = self.earlier().await?;
        let (size, put) = (self.file.size, &self.options.put);
        let body = Payload::File(self.file.range(0, size));
        let receipt = patience(put, self.retry)
            .run("oss", || put::whole(self.client, self.key, body.clone(), put))
            .await?;
        self.options.common.report(size, size, 0);
        Ok(receipt)
    }

    async fn in_parts(&self) -> Result<Receipt> {
        let mut upload = match self.earlier().await? {
            Some(id) => Upload::of_id(Arc::clone(self.client), self.key, id, self.retry),
            None => self.start().await?,
        };
        if self.options.common.checkpoint.is_some() {
            upload.keep();
        }
        let stored = self.send(&mut upload).await;
        match &stored {
            Ok(_) => {}
            // No later attempt could use these parts.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Source | ErrorKind::Integrity | ErrorKind::AlreadyExists
                ) =>
            {
                upload.stop().await;
                multipart::abort(self.client, self.key, &upload.id, self.retry).await;
                upload.keep();
                self.forget().await;
            }
            Err(_) => upload.abort().await,
        }
        stored
    }

    async fn start(&self) -> Result<Upload> {
        let upload = Upload::start(Arc::clone(self.client), self.key, &self.options.put, self.retry).await?;
        if let Some(file) = &self.options.common.checkpoint {
            let state = Checkpoint {
                binding: self.binding.clone(),
                upload_id: upload.id.clone(),
            };
            checkpoint::save(file, &state).await.map_err(|error| {
                let why = "the checkpoint can't be written";
                Error::new(ErrorKind::Source, "upload", self.key.as_str(), why).with_source(error)
            })?;
        }
        Ok(upload)
    }

    /// The upload to go on with. One of another file or of another part size is aborted.
    async fn earlier(&self) -> Result<Option<String>> {
        let Some(file) = &self.options.common.checkpoint else {
            return Ok(None);
        };
        let Some(found) = checkpoint::load::<Checkpoint>(file).await else {
            return Ok(None);
        };
        if found.binding == self.binding && self.file.size > self.binding.part_size {
            return Ok(Some(found.upload_id));
        }
        if found.binding.endpoint != self.binding.endpoint {
            let why = "the checkpoint belongs to an upload to another bucket";
            return Err(
                Error::new(ErrorKind::InvalidInput, "upload", self.key.as_str(), why)
                    .with_hint("give each upload a checkpoint of its own"),
            );
        }
        multipart::abort(self.client, &found.binding.key, &found.upload_id, self.retry).await;
        checkpoint::remove(file).await;
        Ok(None)
    }

    async fn forget(&self) {
        if let Some(file) = &self.options.common.checkpoint {
            checkpoint::remove(file).await;
        }
    }

    async fn send(&self, upload: &mut Upload) -> Result<Receipt> {
        let (size, part_size) = (self.file.size, self.binding.part_size);
        let common = &self.options.common;
        let present = match &common.checkpoint {
            Some(_) => self.present(&upload.id).await?,
            None => HashMap::new(),
        };
        let mut missing = Vec::new();
        for (number, start) in (1..).zip((0..size).step_by(usize::try_from(part_size).unwrap_or(usize::MAX)))
        {
            let range = self.file.range(start, start + part_size);
            match present.get(&number) {
                Some(part) if self.is_same(&range, part).await => upload.take_over(number, part.clone()),
                _ => missing.push((number, range)),
            }
        }
        let resumed = upload.stored();
        common.report(resumed, size, resumed);
        let mut told = resumed;
        let mut tell = |done| {
            if done != told {
                common.report(done, size, resumed);
            }
            told = done;
        };
        for (number, range) in missing {
            upload.add(number, Payload::File(range), common.parallel).await?;
            tell(upload.stored());
        }
        while upload.is_busy() {
            upload.settle().await?;
            tell(upload.stored());
        }
        self.file.check_unchanged(self.key).await?;
        upload.complete(&self.options.put).await
    }

    /// The parts that the server says it has.
    async fn present(&self, id: &str) -> Result<HashMap<u32, Part>> {
        let (mut present, mut after) = (HashMap::new(), String::new());
        loop {
            let mut request = Request::new("upload", Method::GET, self.key).query("uploadId", id);
            if !after.is_empty() {
                request = request.query("part-number-marker", after);
            }
            let page: PartsBody = self
                .retry
                .run("oss", async || {
                    let (_, body) = self.client.send_and_read(&request).await?;
                    xml::parse(&body, "ListPartsResult").map_err(|why| unexpected(&request, why))
                })
                .await?;
            let last = page.part.last().map(|part| part.part_number.to_string());
            present.extend(page.part.into_iter().filter_map(known));
            match (page.is_truncated, last) {
                (true, Some(last)) => after = last,
                _ => return Ok(present),
            }
        }
    }

    /// Whether a part on the server is this one. It is read again: the time of a file is no proof of its content.
    async fn is_same(&self, range: &crate::transfer::source::FileRange, part: &Part) -> bool {
        part.size == range.len() && range.stored_crc().await.is_ok_and(|crc| crc == part.crc64)
    }
}

/// A part without a checksum could be anything; it is sent again.
fn known(part: ListedPart) -> Option<(u32, Part)> {
    let ListedPart {
        part_number,
        etag,
        size,
        crc64,
    } = part;
    let etag = etag.trim_matches('"').to_owned();
    let crc64 = crc64?;
    Some((part_number, Part { etag, crc64, size }))
}
