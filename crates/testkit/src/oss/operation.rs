//! Which of OSS's operations a request asks for.

use http::Method;

use super::error::OssError;
use super::request::OssRequest;

/// Settings that the server checks and keeps as the document that was put, without acting on them (`cors` is the exception).
pub(crate) struct Document {
    pub(crate) name: &'static str,
    /// What a missing one is called.
    pub(crate) missing: &'static str,
    put: &'static str,
    get: &'static str,
    delete: &'static str,
}

pub(crate) const BUCKET_DOCUMENTS: &[Document] = &[
    Document {
        name: "cors",
        missing: "NoSuchCORSConfiguration",
        put: "PutBucketCors",
        get: "GetBucketCors",
        delete: "DeleteBucketCors",
    },
    Document {
        name: "lifecycle",
        missing: "NoSuchLifecycle",
        put: "PutBucketLifecycle",
        get: "GetBucketLifecycle",
        delete: "DeleteBucketLifecycle",
    },
    Document {
        name: "versioning",
        missing: "",
        put: "PutBucketVersioning",
        get: "GetBucketVersioning",
        delete: "DeleteBucketVersioning",
    },
    Document {
        name: "tagging",
        missing: "",
        put: "PutBucketTags",
        get: "GetBucketTags",
        delete: "DeleteBucketTags",
    },
];

pub(crate) const OBJECT_DOCUMENTS: &[Document] = &[Document {
    name: "tagging",
    missing: "",
    put: "PutObjectTagging",
    get: "GetObjectTagging",
    delete: "DeleteObjectTagging",
}];

/// One operation, named as OSS names it.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    ListBuckets,
    PutBucket,
    DeleteBucket,
    HeadBucket,
    GetBucketInfo,
    GetBucketLocation,
    GetBucketStat,
    GetBucketAcl,
    PutBucketAcl,
    PutDocument(&'static Document),
    GetDocument(&'static Document),
    DeleteDocument(&'static Document),
    ListObjects,
    ListObjectsV2,
    DeleteMultipleObjects,
    ListMultipartUploads,
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    GetObjectMeta,
    DeleteObject,
    AppendObject,
    GetObjectAcl,
    PutObjectAcl,
    InitiateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    Preflight,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "ListBuckets",
            Self::PutBucket => "PutBucket",
            Self::DeleteBucket => "DeleteBucket",
            Self::HeadBucket => "HeadBucket",
            Self::GetBucketInfo => "GetBucketInfo",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::GetBucketStat => "GetBucketStat",
            Self::GetBucketAcl => "GetBucketAcl",
            Self::PutBucketAcl => "PutBucketAcl",
            Self::PutDocument(document) => document.put,
            Self::GetDocument(document) => document.get,
            Self::DeleteDocument(document) => document.delete,
            Self::ListObjects => "ListObjects",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::DeleteMultipleObjects => "DeleteMultipleObjects",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::PutObject => "PutObject",
            Self::CopyObject => "CopyObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::GetObjectMeta => "GetObjectMeta",
            Self::DeleteObject => "DeleteObject",
            Self::AppendObject => "AppendObject",
            Self::GetObjectAcl => "GetObjectACL",
            Self::PutObjectAcl => "PutObjectACL",
            Self::InitiateMultipartUpload => "InitiateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::ListParts => "ListParts",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::Preflight => "OptionObject",
        }
    }

    /// What a request without a signature may do where the access control list lets everybody read or write.
    pub(crate) fn public_access(self) -> PublicAccess {
        match self {
            Self::GetObject | Self::HeadObject | Self::GetObjectMeta => PublicAccess::Read,
            Self::PutObject
            | Self::AppendObject
            | Self::InitiateMultipartUpload
            | Self::UploadPart
            | Self::CompleteMultipartUpload
            | Self::AbortMultipartUpload
            | Self::DeleteObject => PublicAccess::Write,
            Self::Preflight => PublicAccess::Always,
            _ => PublicAccess::Never,
        }
    }

    /// Whether the body is an object's bytes, which may be large; else it is a small document.
    pub(crate) fn carries_object(self) -> bool {
        matches!(self, Self::PutObject | Self::AppendObject | Self::UploadPart)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublicAccess {
    Never,
    Read,
    Write,
    Always,
}

/// Parameters that change how an operation answers but not which one it is.
const MODIFIERS: &[&str] = &[
    // signatures
    "x-oss-signature-version",
    "x-oss-signature",
    "x-oss-credential",
    "x-oss-date",
    "x-oss-expires",
    "x-oss-additional-headers",
    "x-oss-security-token",
    "security-token",
    "OSSAccessKeyId",
    "Expires",
    "Signature",
    // listings
    "list-type",
    "prefix",
    "delimiter",
    "marker",
    "max-keys",
    "start-after",
    "continuation-token",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "upload-id-marker",
    "max-uploads",
    "part-number-marker",
    "max-parts",
    // object operations
    "uploadId",
    "partNumber",
    "position",
    "sequential",
    "x-oss-traffic-limit",
    "x-oss-request-payer",
];

/// The operation, or 501 for what this server does not do: it must not answer as if it had.
pub(crate) fn classify(request: &OssRequest) -> Result<Operation, OssError> {
    let query = &request.query;
    let method = request.method.clone();
    if method == Method::OPTIONS {
        return Ok(Operation::Preflight);
    }
    let mut sub_resource = None;
    for (name, value) in query.iter() {
        if MODIFIERS.contains(&name) || name.starts_with("response-") {
            continue;
        }
        let known_document = BUCKET_DOCUMENTS
            .iter()
            .chain(OBJECT_DOCUMENTS)
            .any(|d| d.name == name);
        match name {
            "uploads" | "delete" | "append" | "acl" | "objectMeta" | "bucketInfo" | "location" | "stat" => {
                sub_resource = Some(name);
            }
            _ if known_document => sub_resource = Some(name),
            // OSS passes over parameters it does not know; a bare word or one of its own is a sub-resource.
            _ if value.is_empty() || name.starts_with("x-oss-") || name == "versionId" => {
                return Err(OssError::not_implemented(name));
            }
            _ => {}
        }
    }
    for header in ["x-oss-callback", "x-oss-symlink-target"] {
        if request.headers.contains_key(header) {
            return Err(OssError::not_implemented(header));
        }
    }
    if request.bucket.is_none() {
        return match (method, sub_resource) {
            (Method::GET, None) if !request.has_key() => Ok(Operation::ListBuckets),
            // OSS takes requests on named endpoints in virtual-host style only.
            _ if request.has_key() => Err(OssError::new(
                403,
                "SecondLevelDomainForbidden",
                "The bucket you are attempting to access must be addressed using OSS third level domain.",
            )),
            _ => Err(OssError::not_implemented("service")),
        };
    }
    if request.has_key() {
        object_operation(request, &method, sub_resource)
    } else {
        bucket_operation(request, &method, sub_resource)
    }
}

fn bucket_operation(
    request: &OssRequest,
    method: &Method,
    sub_resource: Option<&str>,
) -> Result<Operation, OssError> {
    let document = sub_resource.and_then(|name| BUCKET_DOCUMENTS.iter().find(|d| d.name == name));
    Ok(match (method.as_str(), sub_resource, document) {
        ("PUT", _, Some(document)) => Operation::PutDocument(document),
        ("GET", _, Some(document)) => Operation::GetDocument(document),
        // Versioning can be suspended, never taken back.
        ("DELETE", Some("versioning"), _) => return Err(method_not_allowed(method)),
        ("DELETE", _, Some(document)) => Operation::DeleteDocument(document),
        ("PUT", None, _) => Operation::PutBucket,
        ("PUT", Some("acl"), _) => Operation::PutBucketAcl,
        ("GET", Some("acl"), _) => Operation::GetBucketAcl,
        ("GET", Some("bucketInfo"), _) => Operation::GetBucketInfo,
        ("GET", Some("location"), _) => Operation::GetBucketLocation,
        ("GET", Some("stat"), _) => Operation::GetBucketStat,
        ("GET", Some("uploads"), _) => Operation::ListMultipartUploads,
        ("GET", None, _) if request.query.get("list-type") == Some("2") => Operation::ListObjectsV2,
        ("GET", None, _) => Operation::ListObjects,
        ("HEAD", None, _) => Operation::HeadBucket,
        ("DELETE", None, _) => Operation::DeleteBucket,
        ("POST", Some("delete"), _) => Operation::DeleteMultipleObjects,
        (_, Some(name), _) => return Err(OssError::not_implemented(name)),
        // A form upload from a browser (PostObject) would come here.
        ("POST", None, _) => return Err(OssError::not_implemented("PostObject")),
        _ => return Err(method_not_allowed(method)),
    })
}

fn object_operation(
    request: &OssRequest,
    method: &Method,
    sub_resource: Option<&str>,
) -> Result<Operation, OssError> {
    let query = &request.query;
    let document = sub_resource.and_then(|name| OBJECT_DOCUMENTS.iter().find(|d| d.name == name));
    let upload = query.has("uploadId");
    let copies = request.headers.contains_key("x-oss-copy-source");
    Ok(match (method.as_str(), sub_resource, document) {
        ("PUT", _, Some(document)) => Operation::PutDocument(document),
        ("GET", _, Some(document)) => Operation::GetDocument(document),
        ("DELETE", _, Some(document)) => Operation::DeleteDocument(document),
        ("PUT", None, _) if upload && copies => Operation::UploadPartCopy,
        ("PUT", None, _) if upload => Operation::UploadPart,
        ("PUT", None, _) if query.has("partNumber") => {
            return Err(OssError::new(400, "InvalidArgument", "uploadId is missing."));
        }
        ("PUT", None, _) if copies => Operation::CopyObject,
        ("PUT", None, _) => Operation::PutObject,
        ("PUT", Some("acl"), _) => Operation::PutObjectAcl,
        ("GET", Some("acl"), _) => Operation::GetObjectAcl,
        ("GET", None, _) if upload => Operation::ListParts,
        ("GET", None, _) => Operation::GetObject,
        ("HEAD", None, _) => Operation::HeadObject,
        ("HEAD" | "GET", Some("objectMeta"), _) => Operation::GetObjectMeta,
        ("DELETE", None, _) if upload => Operation::AbortMultipartUpload,
        ("DELETE", None, _) => Operation::DeleteObject,
        ("POST", Some("append"), _) => Operation::AppendObject,
        ("POST", Some("uploads"), _) => Operation::InitiateMultipartUpload,
        ("POST", None, _) if upload => Operation::CompleteMultipartUpload,
        (_, Some(name), _) => return Err(OssError::not_implemented(name)),
        _ => return Err(method_not_allowed(method)),
    })
}

fn method_not_allowed(method: &Method) -> OssError {
    OssError::new(
        405,
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
    )
    .detail("Method", method.as_str())
}
