//! Multipart uploads. Unfinished ones live in memory only.

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::object::{forbid_overwrite, version_id};
use super::{Cx, document, kept_headers, number, object_acl, url_encoding, written};
use crate::oss::body::{Content, crc64, too_large};
use crate::oss::clock::iso_millis;
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::store::{Bucket, Meta, Object, OssObjectType, Part, Upload};
use crate::oss::xml::XmlWriter;

/// Parts of one upload at most.
const MOST_PARTS: u32 = 10_000;

pub(super) fn initiate(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let (bucket, key) = (cx.bucket()?, cx.key()?);
    let encoded = url_encoding(cx)?;
    let upload = Upload {
        key: key.to_owned(),
        headers: kept_headers(cx.request)?,
        acl: object_acl(cx.request)?,
        started: cx.now,
        parts: BTreeMap::new(),
    };
    let id = format!("{:032X}", fastrand::u128(..));
    cx.store.with_bucket(bucket, |b| {
        forbid_overwrite(cx, b, key)?;
        b.uploads.insert(id.clone(), upload);
        Ok(())
    })?;
    let mut xml = XmlWriter::document();
    xml.open("InitiateMultipartUploadResult");
    if encoded {
        xml.text("EncodingType", "url");
    }
    xml.text("Bucket", bucket);
    xml.text("Key", &written(key, encoded));
    xml.text("UploadId", &id);
    xml.close("InitiateMultipartUploadResult");
    Ok(Reply::new(200).xml(xml))
}

/// The upload that the request names; one of another key does not count.
fn find<'b>(cx: &Cx<'_>, bucket: &'b mut Bucket) -> Result<&'b mut Upload, OssError> {
    let id = cx.query("uploadId").unwrap_or_default();
    let key = cx.key()?;
    bucket
        .uploads
        .get_mut(id)
        .filter(|upload| upload.key == key)
        .ok_or_else(|| OssError::no_such_upload(id))
}

pub(super) fn upload_part(cx: &Cx<'_>, body: Content) -> Result<Reply, OssError> {
    let (etag, crc) = (body.etag(), body.crc64);
    store_part(cx, body)?;
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .header("x-oss-hash-crc64ecma", crc.to_string()))
}

pub(super) fn store_part(cx: &Cx<'_>, content: Content) -> Result<(), OssError> {
    let text = cx.query("partNumber").unwrap_or_default();
    let number = text
        .parse::<u32>()
        .ok()
        .filter(|number| (1..=MOST_PARTS).contains(number))
        .ok_or_else(|| {
            OssError::invalid_argument(
                "Part number must be an integer between 1 and 10000.",
                "partNumber",
                text,
            )
        })?;
    if content.size > cx.limits.max_put_bytes {
        return Err(too_large(cx.limits.max_put_bytes));
    }
    cx.store.with_bucket(cx.bucket()?, |b| {
        find(cx, b)?.parts.insert(
            number,
            Part {
                content,
                uploaded: cx.now,
            },
        );
        Ok(())
    })
}

pub(super) fn abort(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let id = cx.query("uploadId").unwrap_or_default();
    cx.store.with_bucket(cx.bucket()?, |b| {
        find(cx, b)?;
        b.uploads.remove(id);
        Ok(Reply::new(204))
    })
}

pub(super) async fn complete(cx: &Cx<'_>, body: &Content) -> Result<Reply, OssError> {
    let (bucket, key) = (cx.bucket()?, cx.key()?);
    let id = cx.query("uploadId").unwrap_or_default();
    let encoded = url_encoding(cx)?;
    let all = cx
        .request
        .header("x-oss-complete-all")
        .is_some_and(|v| v.eq_ignore_ascii_case("yes"));
    let named = if all {
        if body.size > 0 {
            return Err(OssError::new(
                400,
                "InvalidArgument",
                "x-oss-complete-all allows no body.",
            ));
        }
        None
    } else {
        Some(parts_of(body)?)
    };
    let (etag, crc, version) = cx
        .store
        .change_object(bucket, key, |b| {
            let upload = find(cx, b)?;
            let object = Arc::new(assemble(cx, upload, named.as_deref())?);
            forbid_overwrite(cx, b, key)?;
            b.uploads.remove(id);
            let answer = (object.meta.etag.clone(), object.meta.crc64, version_id(b));
            Ok((Some(object), answer))
        })
        .await?;
    let mut xml = XmlWriter::document();
    xml.open("CompleteMultipartUploadResult");
    if encoded {
        xml.text("EncodingType", "url");
    }
    xml.text(
        "Location",
        &format!("http://{}{}", cx.request.host, cx.request.path),
    );
    xml.text("Bucket", bucket);
    xml.text("Key", &written(key, encoded));
    xml.text("ETag", &format!("\"{etag}\""));
    xml.close("CompleteMultipartUploadResult");
    Ok(Reply::new(200)
        .header("etag", format!("\"{etag}\""))
        .header("x-oss-hash-crc64ecma", crc.to_string())
        .version(version)
        .xml(xml))
}

/// Part numbers and ETags as the client lists them.
fn parts_of(body: &Content) -> Result<Vec<(u32, String)>, OssError> {
    let (_, root) = document(body)?;
    if root.name != "CompleteMultipartUpload" {
        return Err(OssError::malformed_xml(
            "the root element must be CompleteMultipartUpload",
        ));
    }
    let parts: Vec<(u32, String)> = root
        .children_named("Part")
        .map(|part| {
            let number = part
                .child_text("PartNumber")
                .and_then(|text| text.trim().parse().ok())?;
            let etag = part.child_text("ETag")?.trim().trim_matches('"').to_owned();
            Some((number, etag))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| OssError::malformed_xml("a Part needs a PartNumber and an ETag"))?;
    if parts.is_empty() || parts.len() > MOST_PARTS as usize {
        return Err(OssError::malformed_xml(format!(
            "1 to {MOST_PARTS} parts are expected"
        )));
    }
    Ok(parts)
}

fn assemble(cx: &Cx<'_>, upload: &Upload, named: Option<&[(u32, String)]>) -> Result<Object, OssError> {
    let invalid = |number: u32| {
        OssError::new(
            400,
            "InvalidPart",
            "One or more of the specified parts could not be found or the specified entity tag might not have \
             matched the part's entity tag.",
        )
        .ec("0042-00000205")
        .detail("PartNumber", number.to_string())
    };
    let chosen: Vec<(u32, &Part)> = match named {
        None => upload
            .parts
            .iter()
            .map(|(number, part)| (*number, part))
            .collect(),
        Some(named) => {
            if named.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                return Err(OssError::new(
                    400,
                    "InvalidPartOrder",
                    "The list of parts was not in ascending order. Parts list must be specified in order by part \
                     number.",
                )
                .ec("0042-00000203"));
            }
            named
                .iter()
                .map(|(number, etag)| {
                    let part = upload.parts.get(number).ok_or_else(|| invalid(*number))?;
                    if !part.content.etag().eq_ignore_ascii_case(etag) {
                        return Err(invalid(*number).detail("ETag", etag));
                    }
                    Ok((*number, part))
                })
                .collect::<Result<_, _>>()?
        }
    };
    if chosen.is_empty() {
        return Err(invalid(0));
    }
    for (number, part) in chosen.iter().take(chosen.len() - 1) {
        if part.content.size < cx.limits.min_part_bytes {
            return Err(OssError::new(
                400,
                "EntityTooSmall",
                "Your proposed upload smaller than the minimum allowed object size.",
            )
            .ec("0042-00000206")
            .detail("PartNumber", number.to_string())
            .detail("ProposedSize", part.content.size.to_string())
            .detail("MinSizeAllowed", cx.limits.min_part_bytes.to_string()));
        }
    }
    let mut digest = Md5::new();
    let mut chunks = Vec::new();
    for (_, part) in &chosen {
        digest.update(part.content.md5);
        chunks.extend(part.content.chunks.iter().cloned());
    }
    Ok(Object {
        meta: Meta {
            size: chosen.iter().map(|(_, part)| part.content.size).sum(),
            etag: format!("{}-{}", hex::encode_upper(digest.finalize()), chosen.len()),
            crc64: crc64(&chunks),
            kind: OssObjectType::Multipart,
            headers: upload.headers.clone(),
            last_modified: cx.now,
            acl: upload.acl.clone(),
            documents: BTreeMap::new(),
        },
        chunks,
    })
}

pub(super) fn list_parts(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let (bucket, key) = (cx.bucket()?, cx.key()?);
    let encoded = url_encoding(cx)?;
    let most = number(cx, "max-parts", 1000, 1..=1000)?;
    let after = number(
        cx,
        "part-number-marker",
        0,
        0..=usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    )?;
    let parts: Vec<(u32, String, u64, u64, jiff::Timestamp)> = cx.store.with_bucket(bucket, |b| {
        let upload = find(cx, b)?;
        Ok(upload
            .parts
            .iter()
            .filter(|(number, _)| **number as usize > after)
            .take(most + 1)
            .map(|(number, part)| {
                (
                    *number,
                    part.content.etag(),
                    part.content.size,
                    part.content.crc64,
                    part.uploaded,
                )
            })
            .collect())
    })?;
    let truncated = parts.len() > most;
    let shown = &parts[..parts.len().min(most)];
    let mut xml = XmlWriter::document();
    xml.open("ListPartsResult");
    if encoded {
        xml.text("EncodingType", "url");
    }
    xml.text("Bucket", bucket);
    xml.text("Key", &written(key, encoded));
    xml.text("UploadId", cx.query("uploadId").unwrap_or_default());
    xml.text("StorageClass", "Standard");
    xml.text("PartNumberMarker", &after.to_string());
    let last = shown
        .last()
        .map_or_else(String::new, |(number, ..)| number.to_string());
    xml.text("NextPartNumberMarker", &last);
    xml.text("MaxParts", &most.to_string());
    xml.text("IsTruncated", if truncated { "true" } else { "false" });
    for (number, etag, size, crc, uploaded) in shown {
        xml.open("Part");
        xml.text("PartNumber", &number.to_string());
        xml.text("LastModified", &iso_millis(*uploaded));
        xml.text("ETag", &format!("\"{etag}\""));
        xml.text("HashCrc64ecma", &crc.to_string());
        xml.text("Size", &size.to_string());
        xml.close("Part");
    }
    xml.close("ListPartsResult");
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn list_uploads(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let bucket = cx.bucket()?;
    let encoded = url_encoding(cx)?;
    let most = number(cx, "max-uploads", 1000, 1..=1000)?;
    let prefix = cx.query("prefix").unwrap_or_default();
    let delimiter = cx.query("delimiter").unwrap_or_default();
    let key_marker = cx.query("key-marker").unwrap_or_default();
    let id_marker = cx.query("upload-id-marker").unwrap_or_default();
    let mut all: Vec<(String, String, jiff::Timestamp)> = cx.store.with_bucket(bucket, |b| {
        Ok(b.uploads
            .iter()
            .map(|(id, upload)| (upload.key.clone(), id.clone(), upload.started))
            .collect())
    })?;
    all.sort();
    // Everything under a rolled-up prefix was told by it, also when the last page ended with it.
    let told_before = (!delimiter.is_empty() && key_marker.ends_with(delimiter)).then_some(key_marker);
    all.retain(|(key, id, _)| {
        let after = key_marker.is_empty()
            || key.as_str() > key_marker
            || (key == key_marker && !id_marker.is_empty() && id.as_str() > id_marker);
        key.starts_with(prefix) && after && !told_before.is_some_and(|told| key.starts_with(told))
    });
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::<String>::new());
    // What the next page begins after.
    let (mut next, mut truncated) = ((String::new(), String::new()), false);
    for (key, id, started) in all {
        if prefixes.last().is_some_and(|told| key.starts_with(told)) {
            continue;
        }
        if uploads.len() + prefixes.len() == most {
            truncated = true;
            break;
        }
        let rest = &key[prefix.len()..];
        match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => {
                let rolled = key[..prefix.len() + at + delimiter.len()].to_owned();
                next = (rolled.clone(), String::new());
                prefixes.push(rolled);
            }
            None => {
                next = (key.clone(), id.clone());
                uploads.push((key, id, started));
            }
        }
    }
    let mut xml = XmlWriter::document();
    xml.open("ListMultipartUploadsResult");
    if encoded {
        xml.text("EncodingType", "url");
    }
    xml.text("Bucket", bucket);
    xml.text("KeyMarker", &written(key_marker, encoded));
    xml.text("UploadIdMarker", id_marker);
    xml.text("NextKeyMarker", &written(&next.0, encoded));
    xml.text("NextUploadIdMarker", &next.1);
    xml.text("Delimiter", &written(delimiter, encoded));
    xml.text("Prefix", &written(prefix, encoded));
    xml.text("MaxUploads", &most.to_string());
    xml.text("IsTruncated", if truncated { "true" } else { "false" });
    for (key, id, started) in &uploads {
        xml.open("Upload");
        xml.text("Key", &written(key, encoded));
        xml.text("UploadId", id);
        xml.text("StorageClass", "Standard");
        xml.text("Initiated", &iso_millis(*started));
        xml.close("Upload");
    }
    for prefix in &prefixes {
        xml.open("CommonPrefixes");
        xml.text("Prefix", &written(prefix, encoded));
        xml.close("CommonPrefixes");
    }
    xml.close("ListMultipartUploadsResult");
    Ok(Reply::new(200).xml(xml))
}
