//! Signature version 1: HMAC-SHA1 over a few headers and the resource.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha1::Sha1;

use super::{Verifier, header_bytes, invalid_authorization, mismatch, oss_headers};
use crate::oss::clock::{parse_http_date, parse_iso_basic};
use crate::oss::error::OssError;
use crate::oss::request::OssRequest;

/// The query parameters that belong to the signed resource.
const SIGNED_PARAMETERS: &[&str] = &[
    "accessPoint",
    "accessPointPolicy",
    "acl",
    "append",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "bucketInfo",
    "callback",
    "callback-var",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "group",
    "httpsConfig",
    "inventory",
    "inventoryId",
    "lifecycle",
    "link",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectInfo",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "resourcePoolBuckets",
    "resourcePoolInfo",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "wormExtend",
    "wormId",
    "x-oss-ac-forward-allow",
    "x-oss-ac-source-ip",
    "x-oss-ac-subnet-mask",
    "x-oss-ac-vpc-id",
    "x-oss-access-point-name",
    "x-oss-async-process",
    "x-oss-process",
    "x-oss-redundancy-transition-taskid",
    "x-oss-request-payer",
    "x-oss-target-redundancy-type",
    "x-oss-traffic-limit",
    "x-oss-write-get-object-response",
];

pub(super) fn verify_header(verifier: &Verifier<'_>, request: &OssRequest) -> Result<(), OssError> {
    let (access_key_id, signature) = request
        .header("authorization")
        .and_then(|text| text.strip_prefix("OSS "))
        .and_then(|text| text.trim().split_once(':'))
        .filter(|(id, signature)| !id.is_empty() && !signature.is_empty())
        .ok_or_else(|| invalid_authorization("0002-00000202"))?;
    // `x-oss-date` wins over `Date`, in the check of the clock and in the signed text.
    let date = request
        .header("x-oss-date")
        .or_else(|| request.header("date"))
        .ok_or_else(|| {
            OssError::access_denied("OSS authentication requires a valid Date.").ec("0002-00000503")
        })?;
    let at = parse_http_date(date)
        .or_else(|| parse_iso_basic(date))
        .ok_or_else(|| {
            OssError::access_denied("OSS authentication requires a valid Date.").ec("0002-00000505")
        })?;
    verifier.check_skew(at)?;
    let secret = verifier.keyring.secret(
        access_key_id,
        request.header("x-oss-security-token"),
        verifier.now,
    )?;
    check(request, date, access_key_id, signature, &secret)
}

pub(super) fn verify_url(verifier: &Verifier<'_>, request: &OssRequest) -> Result<(), OssError> {
    let parameter = |name: &str| {
        request
            .query
            .get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| OssError::access_denied(format!("The signed URL lacks {name}.")))
    };
    let access_key_id = parameter("OSSAccessKeyId")?;
    let expires = parameter("Expires")?;
    let signature = parameter("Signature")?;
    let end = expires
        .parse::<i64>()
        .ok()
        .and_then(|at| Timestamp::from_second(at).ok())
        .ok_or_else(|| {
            OssError::invalid_argument("Expires must be a Unix time in seconds.", "Expires", expires)
                .ec("0002-00000070")
        })?;
    if verifier.now > end {
        return Err(verifier.expired(end, "0002-00000069"));
    }
    let token = request
        .query
        .get("security-token")
        .or_else(|| request.header("x-oss-security-token"));
    let secret = verifier.keyring.secret(access_key_id, token, verifier.now)?;
    check(request, expires, access_key_id, signature, &secret)
}

fn check(
    request: &OssRequest,
    date: &str,
    access_key_id: &str,
    provided: &str,
    secret: &str,
) -> Result<(), OssError> {
    let text = string_to_sign(request, date);
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(&text);
    if STANDARD.encode(mac.finalize().into_bytes()) == provided {
        return Ok(());
    }
    Err(mismatch(access_key_id, provided, &text, None))
}

fn string_to_sign(request: &OssRequest, date: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&header_bytes(request, "content-md5").unwrap_or_default());
    out.push(b'\n');
    out.extend_from_slice(&header_bytes(request, "content-type").unwrap_or_default());
    out.push(b'\n');
    out.extend_from_slice(date.as_bytes());
    out.push(b'\n');
    for name in oss_headers(request) {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&header_bytes(request, &name).unwrap_or_default());
        out.push(b'\n');
    }
    out.push(b'/');
    if let Some(bucket) = &request.bucket {
        out.extend_from_slice(bucket.as_bytes());
        out.push(b'/');
        // Version 1 signs the key as it is, not as it is written in the URL.
        out.extend_from_slice(request.key_bytes());
    }
    let mut pairs: Vec<(&str, &str)> = request
        .query
        .iter()
        .filter(|(name, _)| SIGNED_PARAMETERS.contains(name))
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        out.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
    out
}
