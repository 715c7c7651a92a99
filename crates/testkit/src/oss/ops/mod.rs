//! OSS's operations, once a request is known to be allowed.

mod bucket;
mod copy;
mod cors;
mod delete;
mod lifecycle;
mod list;
mod multipart;
mod object;
mod read;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::body::Content;
use super::error::OssError;
use super::operation::Operation;
use super::reply::Reply;
use super::request::OssRequest;
use super::serve::Limits;
use super::store::Store;
use super::xml::{Element, parse};

pub(crate) use bucket::{check_public, new_bucket};
pub(crate) use cors::decorate;

/// Everything an operation may look at.
pub(crate) struct Cx<'a> {
    pub(crate) store: &'a Store,
    pub(crate) limits: &'a Limits,
    pub(crate) region: &'a str,
    pub(crate) request: &'a OssRequest,
    pub(crate) anonymous: bool,
    pub(crate) now: Timestamp,
}

impl<'a> Cx<'a> {
    pub(crate) fn bucket(&self) -> Result<&'a str, OssError> {
        self.request
            .bucket
            .as_deref()
            .ok_or_else(|| OssError::new(400, "InvalidBucketName", "No bucket."))
    }

    fn key(&self) -> Result<&'a str, OssError> {
        self.request.key()
    }

    fn query(&self, name: &str) -> Option<&'a str> {
        self.request.query.get(name)
    }
}

/// Carries an operation out.
pub(crate) async fn run(cx: &Cx<'_>, operation: Operation, body: Content) -> Result<Reply, OssError> {
    check_md5(cx.request, &body)?;
    match operation {
        Operation::ListBuckets => bucket::list_all(cx),
        Operation::PutBucket => bucket::put(cx).await,
        Operation::DeleteBucket => bucket::delete(cx).await,
        Operation::HeadBucket => bucket::head(cx),
        Operation::GetBucketInfo => bucket::info(cx),
        Operation::GetBucketLocation => bucket::location(cx),
        Operation::GetBucketStat => bucket::stat(cx),
        Operation::GetBucketAcl => bucket::get_acl(cx),
        Operation::PutBucketAcl => bucket::put_acl(cx).await,
        Operation::PutDocument(document) => bucket::put_document(cx, document, &body).await,
        Operation::GetDocument(document) => bucket::get_document(cx, document),
        Operation::DeleteDocument(document) => bucket::delete_document(cx, document).await,
        Operation::ListObjects => list::v1(cx),
        Operation::ListObjectsV2 => list::v2(cx),
        Operation::DeleteMultipleObjects => delete::many(cx, &body).await,
        Operation::DeleteObject => delete::one(cx).await,
        Operation::PutObject => object::put(cx, body).await,
        Operation::AppendObject => object::append(cx, body).await,
        Operation::GetObjectAcl => object::get_acl(cx),
        Operation::PutObjectAcl => object::put_acl(cx).await,
        Operation::CopyObject => copy::object(cx).await,
        Operation::GetObject => read::get(cx),
        Operation::HeadObject => read::head(cx),
        Operation::GetObjectMeta => read::brief(cx),
        Operation::InitiateMultipartUpload => multipart::initiate(cx),
        Operation::UploadPart => multipart::upload_part(cx, body),
        Operation::UploadPartCopy => copy::part(cx),
        Operation::ListParts => multipart::list_parts(cx),
        Operation::ListMultipartUploads => multipart::list_uploads(cx),
        Operation::CompleteMultipartUpload => multipart::complete(cx, &body).await,
        Operation::AbortMultipartUpload => multipart::abort(cx),
        Operation::Preflight => cors::preflight(cx),
    }
}

/// `Content-MD5`, if sent, must be 16 bytes in Base64 and right.
fn check_md5(request: &OssRequest, body: &Content) -> Result<(), OssError> {
    let Some(sent) = request.header("content-md5") else {
        return Ok(());
    };
    if STANDARD.decode(sent).ok().is_some_and(|bytes| bytes == body.md5) {
        return Ok(());
    }
    Err(
        OssError::new(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
            .ec("0017-00000503")
            .detail("Content-MD5", sent),
    )
}

/// The request's document, which must be well-formed.
fn document(body: &Content) -> Result<(String, Element), OssError> {
    let text = String::from_utf8(body.to_bytes().to_vec())
        .map_err(|_| OssError::malformed_xml("the document is not UTF-8"))?;
    let root = parse(&text).map_err(OssError::malformed_xml)?;
    Ok((text, root))
}

/// Headers that stay with an object.
const KEPT_HEADERS: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-oss-storage-class",
    "x-oss-server-side-encryption",
];

/// The headers of this request that stay with the object it makes.
fn kept_headers(request: &OssRequest) -> Result<BTreeMap<String, String>, OssError> {
    let mut kept = BTreeMap::new();
    let mut user_bytes = 0;
    for (name, value) in &request.headers {
        let name = name.as_str();
        let user = name.starts_with("x-oss-meta-");
        if !user && !KEPT_HEADERS.contains(&name) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes().trim_ascii()).into_owned();
        if user {
            user_bytes += name.len() + value.len();
        }
        kept.insert(name.to_owned(), value);
    }
    if user_bytes > 8 * 1024 {
        return Err(OssError::new(
            400,
            "InvalidArgument",
            "The user metadata is larger than 8 KB.",
        ));
    }
    if let Some(class) = kept.get("x-oss-storage-class")
        && !["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"].contains(&class.as_str())
    {
        return Err(OssError::invalid_argument(
            "Unknown storage class.",
            "x-oss-storage-class",
            class,
        ));
    }
    kept.entry("content-type".to_owned())
        .or_insert_with(|| "application/octet-stream".to_owned());
    Ok(kept)
}

/// The access control of the object that this request makes: `default` means the bucket's.
fn object_acl(request: &OssRequest) -> Result<String, OssError> {
    let acl = request.header("x-oss-object-acl").unwrap_or("default");
    if ["default", "private", "public-read", "public-read-write"].contains(&acl) {
        return Ok(acl.to_owned());
    }
    Err(OssError::invalid_argument(
        "no such object access control exists",
        "x-oss-object-acl",
        acl,
    ))
}

/// A number in the query within its limits.
fn number(
    cx: &Cx<'_>,
    name: &str,
    default: usize,
    limits: std::ops::RangeInclusive<usize>,
) -> Result<usize, OssError> {
    // The official Python client sends empty markers.
    let Some(text) = cx.query(name).filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    text.parse()
        .ok()
        .filter(|number| limits.contains(number))
        .ok_or_else(|| {
            OssError::invalid_argument(
                format!(
                    "Argument {name} must be an integer between {} and {}.",
                    limits.start(),
                    limits.end()
                ),
                name,
                text,
            )
        })
}

/// Whether names go out percent-encoded.
fn url_encoding(cx: &Cx<'_>) -> Result<bool, OssError> {
    match cx.query("encoding-type").map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(false),
        Some("url") => Ok(true),
        Some(other) => Err(OssError::invalid_argument(
            "Invalid Encoding Method specified in Request",
            "encoding-type",
            other,
        )),
    }
}

/// A name as it goes into a listing.
fn written(name: &str, url_encoded: bool) -> String {
    if url_encoded {
        percent_encoding::utf8_percent_encode(name, UNRESERVED).to_string()
    } else {
        name.to_owned()
    }
}

const UNRESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
