//! Uploads in parts that the server began while its answer was lost: nobody knows their ids, and they would be paid for.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    client::{Client, Request},
    multipart,
    put::unexpected,
    xml::{self, PartsBody, decode_key},
};
use crate::{Error, Key, Result, RetryPolicy};

/// OSS tells when an upload began in whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// `<ListMultipartUploadsResult>`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct UploadsBody {
    encoding_type: Option<String>,
    upload: Vec<ListedUpload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
    initiated: String,
}

/// Whether the server may have begun an upload although it answered so.
pub(super) fn may_have_begun(error: &Error) -> bool {
    error.status().is_none_or(|status| status >= 500)
}

/// Uploads of the same key that began within `trying`, the time before our own began. One of them may be another writer's;
/// [`remove`] tells.
pub(super) async fn find(
    client: &Client,
    key: &Key,
    own: &str,
    trying: Duration,
    retry: RetryPolicy,
) -> Vec<String> {
    match uploads_of(client, key, retry).await {
        Ok(uploads) => {
            let Some(end) = uploads.iter().find(|(id, _)| id == own).map(|(_, began)| *began) else {
                return Vec::new();
            };
            let trying = SignedDuration::try_from(trying).unwrap_or(SECOND) + SECOND;
            let near = |began: Timestamp| began <= end && end.duration_since(began) <= trying;
            let others = uploads
                .into_iter()
                .filter(|(id, began)| id != own && near(*began));
            others.map(|(id, _)| id).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "an upload may have begun twice, and the other one can't be looked for");
            Vec::new()
        }
    }
}

/// Aborts those that still have no part, now that our own upload, which began after them, has ended. Whoever is behind one
/// of the others has sent something by now.
pub(super) async fn remove(client: &Client, key: &Key, ids: Vec<String>, retry: RetryPolicy) {
    for id in ids {
        let request = Request::new("upload", Method::GET, key).query("uploadId", id.as_str());
        let parts: Result<PartsBody> = retry
            .run("oss", async || {
                let (_, body) = client.send_and_read(&request).await?;
                xml::parse(&body, "ListPartsResult").map_err(|why| unexpected(&request, why))
            })
            .await;
        if parts.is_ok_and(|parts| parts.part.is_empty()) {
            multipart::abort(client, key, &id, retry).await;
        }
    }
}

/// Unfinished uploads of exactly this key, and when they began.
async fn uploads_of(client: &Client, key: &Key, retry: RetryPolicy) -> Result<Vec<(String, Timestamp)>> {
    let mut request = Request::new("upload", Method::GET, "")
        .query("uploads", "")
        .query("encoding-type", "url")
        .query("prefix", key.as_str());
    request.subject = key.to_string();
    let found: UploadsBody = retry
        .run("oss", async || {
            let (_, body) = client.send_and_read(&request).await?;
            xml::parse(&body, "ListMultipartUploadsResult").map_err(|why| unexpected(&request, why))
        })
        .await?;
    let encoding = found.encoding_type.as_deref();
    let same = found
        .upload
        .into_iter()
        .filter(|upload| decode_key(&upload.key, encoding) == key.as_str());
    Ok(same
        .filter_map(|upload| Some((upload.upload_id, upload.initiated.parse().ok()?)))
        .collect())
}
