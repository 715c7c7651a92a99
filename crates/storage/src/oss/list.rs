//! Listing and deleting.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, header};
use jiff::Timestamp;
use md5::{Digest, Md5};

use super::{
    client::{Client, Request},
    put::unexpected,
    xml::{self, DeleteBody, ListBody, decode_key},
};
use crate::{Entry, Error, ErrorKind, Key, ListOptions, ListPage, Result, object::after_folder};

/// Most keys in one batch delete.
const BATCH: usize = 1000;

pub(super) async fn list(client: &Client, prefix: &str, options: &ListOptions) -> Result<ListPage> {
    let mut request = Request::new("list", Method::GET, "")
        .query("list-type", "2")
        .query("encoding-type", "url")
        .query("max-keys", options.limit.to_string());
    request.subject = prefix.to_owned();
    if !prefix.is_empty() {
        request = request.query("prefix", prefix);
    }
    if let Some(delimiter) = options.delimiter {
        request = request.query("delimiter", delimiter.to_string());
    }
    if let Some(after) = options.after.as_deref().filter(|after| !after.is_empty()) {
        request = request.query("start-after", after);
    }
    let (_, body) = client.send_and_read(&request).await?;
    let found: ListBody = xml::parse(&body, "ListBucketResult").map_err(|why| unexpected(&request, why))?;
    let encoding = found.encoding_type.as_deref();
    let entries: Vec<Entry> = found
        .contents
        .iter()
        .map(|object| {
            let modified = object.last_modified.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            Entry::new(
                decode_key(&object.key, encoding),
                object.size,
                object.etag.trim_matches('"'),
                modified,
            )
        })
        .collect();
    let folders: Vec<String> = found
        .common_prefixes
        .iter()
        .map(|folder| decode_key(&folder.prefix, encoding))
        .collect();
    // A position of our own instead of the server's token: it is the same on every adapter.
    let last_entry = entries.last().map(|entry| entry.key.clone());
    let last_folder = folders.last().map(|folder| after_folder(folder));
    let next = found.is_truncated.then(|| last_entry.max(last_folder)).flatten();
    Ok(ListPage {
        entries,
        folders,
        next,
    })
}

pub(super) async fn delete(client: &Client, key: &Key) -> Result<()> {
    match client.send(&Request::new("delete", Method::DELETE, key)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn delete_many(client: &Client, keys: &[Key]) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        if batch.iter().all(|key| xml::can_carry(key)) {
            match delete_batch(client, batch).await {
                Ok(answers) => results.extend(answers),
                Err(error) => results.extend(batch.iter().map(|key| Err(same_for(&error, key)))),
            }
        } else {
            for key in batch {
                results.push(delete(client, key).await);
            }
        }
    }
    results
}

async fn delete_batch(client: &Client, keys: &[Key]) -> Result<Vec<Result<()>>> {
    let body = xml::delete_body(keys.iter().map(Key::as_str));
    let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
    let mut request = Request::new("delete", Method::POST, "")
        .query("delete", "")
        .query("encoding-type", "url")
        .header("content-md5", &digest)?
        .header(header::CONTENT_TYPE, "application/xml")?
        .body(body);
    request.subject = format!("{} objects", keys.len());
    let (_, body) = client.send_and_read(&request).await?;
    let answer: DeleteBody = xml::parse(&body, "DeleteResult").map_err(|why| unexpected(&request, why))?;
    let encoding = answer.encoding_type.as_deref();
    let deleted: std::collections::HashSet<String> = answer
        .deleted
        .iter()
        .map(|deleted| decode_key(&deleted.key, encoding))
        .collect();
    // The reader of the document may have trimmed a key that was not encoded.
    let confirmed = |key: &Key| deleted.contains(key.as_str()) || deleted.contains(key.trim());
    Ok(keys
        .iter()
        .map(|key| match confirmed(key) {
            true => Ok(()),
            false => {
                let why = "OSS did not confirm that the object was deleted";
                Err(Error::new(ErrorKind::Unexpected, "delete", key.as_str(), why).with_retryable(true))
            }
        })
        .collect())
}

/// One failure of a batch is the failure of each of its keys.
fn same_for(error: &Error, key: &Key) -> Error {
    let told = Error::new(error.kind(), "delete", key.as_str(), "the batch it was in failed")
        .with_retryable(error.is_retryable())
        .with_retry_after(error.retry_after());
    let told = match error.status() {
        Some(status) => told.with_answer(
            status,
            error.code().map(str::to_owned),
            error.request_id().map(str::to_owned),
        ),
        None => told,
    };
    told.with_source(error.to_string())
}
