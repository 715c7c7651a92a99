//! Uploads in parts that the server began while its answer was lost: nobody knows their ids, and they would be paid for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    answer,
    client::{Client, Request},
    multipart,
    put::unexpected,
    xml::{self, PartsBody, decode_key},
};
use crate::{Error, Key, Result, RetryPolicy};

/// OSS tells when an upload began in whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
const GRACE: Duration = Duration::from_secs(3);
const SWEEPS: u32 = 5;

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

/// Uploads of the same key that began within `trying`, the time before our own began, or before now if none of ours is known.
/// One of them may be another writer's; [`remove`] tells.
pub(super) async fn find(
    client: &Client,
    key: &Key,
    own: Option<&str>,
    trying: Duration,
    retry: RetryPolicy,
) -> Result<Vec<String>> {
    let (uploads, now) = uploads_of(client, key, retry).await?;
    let end = match own {
        Some(own) => uploads.iter().find(|(id, _)| id == own).map(|(_, began)| *began),
        None => now,
    };
    let Some(end) = end else {
        return Ok(Vec::new());
    };
    let trying = SignedDuration::try_from(trying).unwrap_or(SECOND) + SECOND;
    let near = |began: Timestamp| began <= end && end.duration_since(began) <= trying;
    let others = uploads
        .into_iter()
        .filter(|(id, began)| own != Some(id.as_str()) && near(*began));
    Ok(others.map(|(id, _)| id).collect())
}

/// Removes what attempts to begin an upload have left, none of which was answered: once the server can be reached again, or
/// not at all. Another writer of this very key, who began in the same seconds and still has no part after [`GRACE`], has to
/// begin anew.
pub(super) async fn sweep(client: Arc<Client>, key: Key, began: Instant, retry: RetryPolicy) {
    for attempt in 1.. {
        tokio::time::sleep(GRACE * attempt).await;
        match find(&client, &key, None, began.elapsed(), retry).await {
            Ok(left) => return remove(&client, &key, left, retry).await,
            Err(error) if attempt == SWEEPS => return unknown(&error),
            Err(_) => {}
        }
    }
}

/// The bucket's rule for unfinished uploads is left to remove it.
pub(super) fn unknown(error: &Error) {
    tracing::warn!(%error, "an upload may have begun that nobody knows, and can't be looked for");
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

/// Unfinished uploads of exactly this key, and when they began; and the server's time, if it tells.
async fn uploads_of(
    client: &Client,
    key: &Key,
    retry: RetryPolicy,
) -> Result<(Vec<(String, Timestamp)>, Option<Timestamp>)> {
    let mut request = Request::new("upload", Method::GET, "")
        .query("uploads", "")
        .query("encoding-type", "url")
        .query("prefix", key.as_str());
    request.subject = key.to_string();
    let (headers, found): (HeaderMap, UploadsBody) = retry
        .run("oss", async || {
            let (headers, body) = client.send_and_read(&request).await?;
            let found =
                xml::parse(&body, "ListMultipartUploadsResult").map_err(|why| unexpected(&request, why))?;
            Ok((headers, found))
        })
        .await?;
    let encoding = found.encoding_type.as_deref();
    let same = found
        .upload
        .into_iter()
        .filter(|upload| decode_key(&upload.key, encoding) == key.as_str());
    let uploads = same.filter_map(|upload| Some((upload.upload_id, upload.initiated.parse().ok()?)));
    let now = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    Ok((uploads.collect(), now.and_then(answer::http_date)))
}
