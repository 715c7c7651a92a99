//! CopyObject and UploadPartCopy: bytes that are already here.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::read::check_conditions;
use super::{Cx, kept_headers, multipart, object, object_acl};
use crate::oss::body::{Content, slice, too_large};
use crate::oss::clock::iso_millis;
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::request::check_key;
use crate::oss::store::{Meta, Object, OssObjectType};
use crate::oss::xml::XmlWriter;

/// `x-oss-copy-source: /bucket/key`, percent-encoded.
fn source(cx: &Cx<'_>) -> Result<(String, String), OssError> {
    let text = cx.request.header("x-oss-copy-source").unwrap_or_default();
    let invalid = || {
        OssError::invalid_argument(
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.",
            "x-oss-copy-source",
            text,
        )
    };
    if text.contains("?versionId=") {
        return Err(OssError::not_implemented("versionId"));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| invalid())?;
    let (bucket, key) = decoded
        .strip_prefix('/')
        .unwrap_or(&decoded)
        .split_once('/')
        .ok_or_else(invalid)?;
    if bucket.is_empty() || key.is_empty() {
        return Err(invalid());
    }
    check_key(key)?;
    Ok((bucket.to_owned(), key.to_owned()))
}

fn fetch(cx: &Cx<'_>) -> Result<(String, String, Arc<Object>), OssError> {
    let (bucket, key) = source(cx)?;
    let object = cx.store.object(&bucket, &key)?;
    check_conditions(cx, &object.meta, "x-oss-copy-source-")?;
    Ok((bucket, key, object))
}

pub(super) async fn object(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let (bucket, key) = (cx.bucket()?, cx.key()?);
    let (from_bucket, from_key, from) = fetch(cx)?;
    if from.meta.size > cx.limits.max_put_bytes {
        return Err(too_large(cx.limits.max_put_bytes));
    }
    let onto_itself = from_bucket == bucket && from_key == key;
    let headers = match cx
        .request
        .header("x-oss-metadata-directive")
        .map(str::to_ascii_uppercase)
        .as_deref()
    {
        // An object copied onto itself takes the metadata of the request, whatever the directive says.
        None | Some("COPY") if !onto_itself => from.meta.headers.clone(),
        None | Some("COPY" | "REPLACE") => kept_headers(cx.request)?,
        Some(other) => {
            return Err(OssError::invalid_argument(
                "The metadata directive must be COPY or REPLACE.",
                "x-oss-metadata-directive",
                other,
            ));
        }
    };
    let documents = match cx.request.header("x-oss-tagging-directive") {
        Some("Replace") => BTreeMap::new(),
        _ => from.meta.documents.clone(),
    };
    let content = Content::from_chunks(from.chunks.clone());
    let etag = content.etag();
    let copy = Arc::new(Object {
        meta: Meta {
            size: content.size,
            etag: etag.clone(),
            crc64: content.crc64,
            kind: OssObjectType::Normal,
            headers,
            last_modified: cx.now,
            acl: object_acl(cx.request)?,
            documents,
        },
        chunks: content.chunks,
    });
    cx.store
        .change_object(bucket, key, |bucket| {
            object::forbid_overwrite(cx, bucket, key)?;
            Ok((Some(copy), ()))
        })
        .await?;
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .xml(result(cx, "CopyObjectResult", &etag)))
}

pub(super) fn part(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let (_, _, from) = fetch(cx)?;
    let chunks = match cx.request.header("x-oss-copy-source-range") {
        None => from.chunks.clone(),
        Some(range) => {
            let (start, last) = range
                .strip_prefix("bytes=")
                .and_then(|range| range.split_once('-'))
                .and_then(|(start, last)| {
                    let start = start.parse::<u64>().ok()?;
                    let last = if last.is_empty() {
                        from.meta.size.checked_sub(1)?
                    } else {
                        last.parse().ok()?
                    };
                    (start <= last && last < from.meta.size).then_some((start, last))
                })
                .ok_or_else(|| {
                    OssError::new(416, "InvalidRange", "The requested range cannot be satisfied")
                        .detail("RangeRequested", range)
                })?;
            slice(&from.chunks, start, last + 1)
        }
    };
    let content = Content::from_chunks(chunks);
    let etag = content.etag();
    multipart::store_part(cx, content)?;
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .xml(result(cx, "CopyPartResult", &etag)))
}

fn result(cx: &Cx<'_>, root: &str, etag: &str) -> XmlWriter {
    let mut xml = XmlWriter::document();
    xml.open(root);
    xml.text("ETag", &format!("\"{etag}\""));
    xml.text("LastModified", &iso_millis(cx.now));
    xml.close(root);
    xml
}
