//! Writing objects: PutObject, AppendObject, and their access control.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Cx, kept_headers, object_acl};
use crate::oss::body::{Content, crc64, too_large};
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::store::{Bucket, Meta, Object, OssObjectType};
use crate::oss::xml::XmlWriter;

/// What a write to this bucket is told as its version, once versioning was ever set. The old versions are not kept here.
pub(super) fn version_id(bucket: &Bucket) -> Option<String> {
    let versioning = bucket.meta.documents.get("versioning")?;
    let enabled = versioning.contains("Enabled");
    Some(if enabled {
        format!("CAEQ{:032x}", fastrand::u128(..))
    } else {
        "null".to_owned()
    })
}

/// The refusal of `x-oss-forbid-overwrite`, decided under the same lock as the write. OSS does not heed it in a bucket with
/// versioning.
pub(super) fn forbid_overwrite(cx: &Cx<'_>, bucket: &Bucket, key: &str) -> Result<(), OssError> {
    let exists = bucket.objects.contains_key(key) && version_id(bucket).is_none();
    let forbidden = cx
        .request
        .header("x-oss-forbid-overwrite")
        .is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if forbidden && exists {
        return Err(OssError::new(
            409,
            "FileAlreadyExists",
            "The object you specified already exists and can not be overwritten.",
        )
        .ec("0026-00000002"));
    }
    Ok(())
}

pub(super) async fn put(cx: &Cx<'_>, body: Content) -> Result<Reply, OssError> {
    let key = cx.key()?;
    let (etag, crc, md5) = (body.etag(), body.crc64, body.md5);
    let object = Arc::new(Object {
        meta: Meta {
            size: body.size,
            etag: etag.clone(),
            crc64: crc,
            kind: OssObjectType::Normal,
            headers: kept_headers(cx.request)?,
            last_modified: cx.now,
            acl: object_acl(cx.request)?,
            documents: BTreeMap::new(),
        },
        chunks: body.chunks,
    });
    let version = cx
        .store
        .change_object(cx.bucket()?, key, |bucket| {
            forbid_overwrite(cx, bucket, key)?;
            Ok((Some(object), version_id(bucket)))
        })
        .await?;
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .header("x-oss-hash-crc64ecma", crc.to_string())
        .header("content-md5", STANDARD.encode(md5))
        .version(version))
}

pub(super) async fn append(cx: &Cx<'_>, body: Content) -> Result<Reply, OssError> {
    let key = cx.key()?;
    let text = cx.query("position").unwrap_or_default();
    let position: u64 = text.parse().map_err(|_| {
        OssError::invalid_argument("The append position must be a number of bytes.", "position", text)
    })?;
    let headers = kept_headers(cx.request)?;
    let acl = object_acl(cx.request)?;
    let (next, crc, etag) = cx
        .store
        .change_object(cx.bucket()?, key, |bucket| {
            let before = bucket.objects.get(key);
            if let Some(before) = before
                && before.meta.kind != OssObjectType::Appendable
            {
                return Err(OssError::new(
                    409,
                    "ObjectNotAppendable",
                    "The object is not appendable",
                ));
            }
            let length = before.map_or(0, |object| object.meta.size);
            if position != length {
                return Err(OssError::new(
                    409,
                    "PositionNotEqualToLength",
                    "Position is not equal to file length",
                )
                .ec("0026-00000016")
                .header("x-oss-next-append-position", length));
            }
            if length + body.size > cx.limits.max_put_bytes {
                return Err(too_large(cx.limits.max_put_bytes));
            }
            let mut object = match before {
                Some(before) => Object::clone(before),
                None => Object {
                    meta: Meta {
                        size: 0,
                        etag: String::new(),
                        crc64: 0,
                        kind: OssObjectType::Appendable,
                        headers,
                        last_modified: cx.now,
                        acl,
                        documents: BTreeMap::new(),
                    },
                    chunks: Vec::new(),
                },
            };
            object.chunks.extend(body.chunks);
            object.meta.size = length + body.size;
            object.meta.crc64 = crc64(&object.chunks);
            // An appendable object's ETag names the version; it is no digest of the content.
            object.meta.etag = format!("{:032X}", fastrand::u128(..));
            object.meta.last_modified = cx.now;
            let answer = (object.meta.size, object.meta.crc64, object.meta.etag.clone());
            Ok((Some(Arc::new(object)), answer))
        })
        .await?;
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .header("x-oss-hash-crc64ecma", crc.to_string())
        .header("x-oss-next-append-position", next.to_string()))
}

pub(super) fn get_acl(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let object = cx.store.object(cx.bucket()?, cx.key()?)?;
    Ok(Reply::new(200).xml(acl_document(&object.meta.acl)))
}

pub(super) async fn put_acl(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let key = cx.key()?;
    let acl = object_acl(cx.request)?;
    cx.store
        .change_object(cx.bucket()?, key, |bucket| {
            let mut object = Object::clone(
                bucket
                    .objects
                    .get(key)
                    .ok_or_else(|| OssError::no_such_key(key))?,
            );
            object.meta.acl = acl;
            Ok((Some(Arc::new(object)), ()))
        })
        .await?;
    Ok(Reply::new(200))
}

/// `AccessControlPolicy`, of a bucket or an object.
pub(super) fn acl_document(grant: &str) -> XmlWriter {
    let mut xml = XmlWriter::document();
    xml.open("AccessControlPolicy");
    super::bucket::owner(&mut xml);
    xml.open("AccessControlList");
    xml.text("Grant", grant);
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml
}
