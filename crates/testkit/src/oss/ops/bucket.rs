//! Buckets: making, describing, settings kept as documents, access control.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::object::acl_document;
use super::{Cx, cors, document, lifecycle};
use crate::oss::body::Content;
use crate::oss::clock::iso_millis;
use crate::oss::error::OssError;
use crate::oss::operation::{Document, PublicAccess};
use crate::oss::reply::Reply;
use crate::oss::request::check_bucket_name;
use crate::oss::store::{BucketMeta, Object};
use crate::oss::xml::{Element, XmlWriter};

const OWNER: &str = "1234567890123456";

pub(super) fn owner(xml: &mut XmlWriter) {
    xml.open("Owner");
    xml.text("ID", OWNER);
    xml.text("DisplayName", OWNER);
    xml.close("Owner");
}

/// Whether a request without a signature may do this, by the access control of the object and its bucket.
pub(crate) fn check_public(cx: &Cx<'_>, access: PublicAccess) -> Result<(), OssError> {
    let acl = cx.store.with_bucket(cx.bucket()?, |bucket| {
        let object = cx.request.key().ok().and_then(|key| bucket.objects.get(key));
        Ok(match object.map(|object| object.meta.acl.as_str()) {
            Some(acl) if acl != "default" => acl.to_owned(),
            _ => bucket.meta.acl.clone(),
        })
    })?;
    let allowed = match access {
        PublicAccess::Always => true,
        PublicAccess::Read => acl.starts_with("public-read"),
        PublicAccess::Write => acl == "public-read-write",
        PublicAccess::Never => false,
    };
    if allowed {
        return Ok(());
    }
    Err(
        OssError::access_denied("You have no right to access this object because of bucket acl.")
            .ec("0003-00000001"),
    )
}

fn bucket_acl(cx: &Cx<'_>) -> Result<Option<String>, OssError> {
    let Some(acl) = cx.request.header("x-oss-acl") else {
        return Ok(None);
    };
    if ["private", "public-read", "public-read-write"].contains(&acl) {
        return Ok(Some(acl.to_owned()));
    }
    Err(OssError::invalid_argument(
        "no such bucket access control exists",
        "x-oss-acl",
        acl,
    ))
}

pub(super) async fn put(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let name = cx.bucket()?;
    check_bucket_name(name)?;
    let acl = bucket_acl(cx)?;
    cx.store
        .change_bucket(name, |before| {
            let mut meta = before.cloned().unwrap_or_else(|| new_bucket(cx.now));
            if let Some(acl) = acl {
                meta.acl = acl;
            }
            Ok((meta, ()))
        })
        .await?;
    Ok(Reply::new(200).header("location", format!("/{name}")))
}

/// A private bucket without settings.
pub(crate) fn new_bucket(created: jiff::Timestamp) -> BucketMeta {
    BucketMeta {
        created,
        acl: "private".to_owned(),
        documents: BTreeMap::new(),
    }
}

pub(super) async fn delete(cx: &Cx<'_>) -> Result<Reply, OssError> {
    cx.store.delete_bucket(cx.bucket()?).await?;
    Ok(Reply::new(204))
}

pub(super) fn head(cx: &Cx<'_>) -> Result<Reply, OssError> {
    cx.store.with_bucket(cx.bucket()?, |_| Ok(Reply::new(200)))
}

fn describe(cx: &Cx<'_>, xml: &mut XmlWriter, name: &str, meta: &BucketMeta) {
    xml.text("CreationDate", &iso_millis(meta.created));
    xml.text("ExtranetEndpoint", &format!("oss-{}.aliyuncs.com", cx.region));
    xml.text(
        "IntranetEndpoint",
        &format!("oss-{}-internal.aliyuncs.com", cx.region),
    );
    xml.text("Location", &format!("oss-{}", cx.region));
    xml.text("Name", name);
    xml.text("Region", cx.region);
    xml.text("StorageClass", "Standard");
}

pub(super) fn list_all(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let mut xml = XmlWriter::document();
    xml.open("ListAllMyBucketsResult");
    owner(&mut xml);
    xml.open("Buckets");
    let prefix = cx.query("prefix").unwrap_or_default();
    for (name, bucket) in cx
        .store
        .lock()
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
    {
        xml.open("Bucket");
        describe(cx, &mut xml, name, &bucket.meta);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    xml.close("ListAllMyBucketsResult");
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn info(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let name = cx.bucket()?;
    let meta = cx.store.with_bucket(name, |bucket| Ok(bucket.meta.clone()))?;
    let mut xml = XmlWriter::document();
    xml.open("BucketInfo");
    xml.open("Bucket");
    describe(cx, &mut xml, name, &meta);
    xml.text("DataRedundancyType", "LRS");
    owner(&mut xml);
    xml.open("AccessControlList");
    xml.text("Grant", &meta.acl);
    xml.close("AccessControlList");
    xml.close("Bucket");
    xml.close("BucketInfo");
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn location(cx: &Cx<'_>) -> Result<Reply, OssError> {
    head(cx)?;
    let mut xml = XmlWriter::document();
    xml.text("LocationConstraint", &format!("oss-{}", cx.region));
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn stat(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let (storage, objects, uploads) = cx.store.with_bucket(cx.bucket()?, |bucket| {
        let storage: u64 = bucket.objects.values().map(|object| object.meta.size).sum();
        Ok((storage, bucket.objects.len(), bucket.uploads.len()))
    })?;
    let mut xml = XmlWriter::document();
    xml.open("BucketStat");
    xml.text("Storage", &storage.to_string());
    xml.text("ObjectCount", &objects.to_string());
    xml.text("MultipartUploadCount", &uploads.to_string());
    xml.text("LiveChannelCount", "0");
    xml.text("LastModifiedTime", &cx.now.as_second().to_string());
    xml.text("StandardStorage", &storage.to_string());
    xml.text("StandardObjectCount", &objects.to_string());
    xml.close("BucketStat");
    Ok(Reply::new(200).xml(xml))
}

pub(super) fn get_acl(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let acl = cx
        .store
        .with_bucket(cx.bucket()?, |bucket| Ok(bucket.meta.acl.clone()))?;
    Ok(Reply::new(200).xml(acl_document(&acl)))
}

pub(super) async fn put_acl(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let acl = bucket_acl(cx)?
        .ok_or_else(|| OssError::invalid_argument("The x-oss-acl header is missing.", "x-oss-acl", ""))?;
    change_meta(cx, |meta| meta.acl = acl).await
}

async fn change_meta(cx: &Cx<'_>, change: impl FnOnce(&mut BucketMeta)) -> Result<Reply, OssError> {
    let name = cx.bucket()?;
    cx.store
        .change_bucket(name, |before| {
            let mut meta = before.cloned().ok_or_else(|| OssError::no_such_bucket(name))?;
            change(&mut meta);
            Ok((meta, Reply::new(200)))
        })
        .await
}

pub(super) async fn put_document(
    cx: &Cx<'_>,
    which: &'static Document,
    body: &Content,
) -> Result<Reply, OssError> {
    let (text, root) = document(body)?;
    let text = match which.name {
        "lifecycle" => {
            let overlap = cx.request.header("x-oss-allow-same-action-overlap") == Some("true");
            let mut xml = XmlWriter::document();
            xml.element(&lifecycle::accept(root, overlap)?);
            xml.finish()
        }
        "cors" => {
            cors::check(&root)?;
            text
        }
        "versioning" => {
            check_versioning(&root)?;
            text
        }
        _ => text,
    };
    change_document(cx, which, Some(text)).await
}

fn check_versioning(root: &Element) -> Result<(), OssError> {
    root.must_be("VersioningConfiguration", &["Status"])?;
    match root.child_text("Status").map(str::trim) {
        Some("Enabled" | "Suspended") => Ok(()),
        _ => Err(OssError::malformed_xml("Status must be Enabled or Suspended")),
    }
}

pub(super) async fn delete_document(cx: &Cx<'_>, which: &'static Document) -> Result<Reply, OssError> {
    change_document(cx, which, None).await.map(|_| Reply::new(204))
}

async fn change_document(
    cx: &Cx<'_>,
    which: &'static Document,
    text: Option<String>,
) -> Result<Reply, OssError> {
    let change = |documents: &mut BTreeMap<String, String>| match text {
        Some(text) => drop(documents.insert(which.name.to_owned(), text)),
        None => drop(documents.remove(which.name)),
    };
    if !cx.request.has_key() {
        return change_meta(cx, |meta| change(&mut meta.documents)).await;
    }
    let key = cx.key()?;
    cx.store
        .change_object(cx.bucket()?, key, |bucket| {
            let mut object = Object::clone(
                bucket
                    .objects
                    .get(key)
                    .ok_or_else(|| OssError::no_such_key(key))?,
            );
            change(&mut object.meta.documents);
            Ok((Some(Arc::new(object)), Reply::new(200)))
        })
        .await
}

pub(super) fn get_document(cx: &Cx<'_>, which: &'static Document) -> Result<Reply, OssError> {
    let found = if cx.request.has_key() {
        cx.store
            .object(cx.bucket()?, cx.key()?)?
            .meta
            .documents
            .get(which.name)
            .cloned()
    } else {
        cx.store
            .with_bucket(cx.bucket()?, |b| Ok(b.meta.documents.get(which.name).cloned()))?
    };
    let text = match (found, which.name) {
        (Some(text), _) => text,
        (None, "versioning") => empty("VersioningConfiguration", None),
        (None, "tagging") => empty("Tagging", Some("TagSet")),
        (None, name) => {
            return Err(OssError::new(
                404,
                which.missing,
                format!("The {name} configuration does not exist."),
            )
            .detail("BucketName", cx.bucket()?));
        }
    };
    Ok(Reply::new(200).document(text))
}

fn empty(root: &str, inner: Option<&str>) -> String {
    let mut xml = XmlWriter::document();
    xml.open(root);
    if let Some(inner) = inner {
        xml.open(inner);
        xml.close(inner);
    }
    xml.close(root);
    xml.finish()
}
