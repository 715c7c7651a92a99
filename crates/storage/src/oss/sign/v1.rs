//! The old HMAC-SHA1 signature, for private clouds that know no other.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use sha1::Sha1;

use super::{Query, Signer, Unsigned, canonical_headers, encode_query};
use crate::oss::credentials::Credentials;

/// Query parameters that are part of the signed resource; of those OSS knows, the ones that this client sends.
const SUB_RESOURCES: &[&str] = &[
    "acl",
    "append",
    "continuation-token",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "objectMeta",
    "partNumber",
    "position",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "stat",
    "symlink",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "x-oss-process",
];

pub(super) fn headers(
    signer: &Signer,
    request: &Unsigned<'_>,
    headers: &mut HeaderMap,
    credentials: &Credentials,
    now: Timestamp,
) {
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(value) = HeaderValue::from_str(&date) {
        headers.insert(header::DATE, value);
    }
    if let Some(mut token) = credentials
        .token()
        .and_then(|token| HeaderValue::from_str(token).ok())
    {
        token.set_sensitive(true);
        headers.insert("x-oss-security-token", token);
    }
    let signature = signature(signer, request, request.query, headers, credentials, &date);
    if let Ok(mut value) = HeaderValue::from_str(&format!("OSS {}:{signature}", credentials.id())) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
}

pub(super) fn query(
    signer: &Signer,
    request: &Unsigned<'_>,
    headers: &HeaderMap,
    credentials: &Credentials,
    now: Timestamp,
    expires: u64,
) -> String {
    let expires = now.as_second().saturating_add_unsigned(expires).to_string();
    let mut query: Query = request.query.clone();
    if let Some(token) = credentials.token() {
        query.push(("security-token", token.to_owned()));
    }
    let signature = signature(signer, request, &query, headers, credentials, &expires);
    query.push(("OSSAccessKeyId", credentials.id().to_owned()));
    query.push(("Expires", expires));
    query.push(("Signature", signature));
    encode_query(&query)
}

fn signature(
    signer: &Signer,
    request: &Unsigned<'_>,
    query: &Query,
    headers: &HeaderMap,
    credentials: &Credentials,
    date: &str,
) -> String {
    let header = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let mut sub_resources: Vec<&(&str, String)> = query
        .iter()
        .filter(|(name, _)| SUB_RESOURCES.contains(name))
        .collect();
    sub_resources.sort_unstable();
    let sub_resources: Vec<String> = sub_resources
        .into_iter()
        .map(|(name, value)| {
            if value.is_empty() {
                (*name).to_owned()
            } else {
                format!("{name}={value}")
            }
        })
        .collect();

    let mut mac = Hmac::<Sha1>::new_from_slice(credentials.secret().as_bytes())
        .expect("HMAC takes a key of any length");
    for line in [
        request.method.as_bytes(),
        header("content-md5"),
        header("content-type"),
        date.as_bytes(),
    ] {
        mac.update(line);
        mac.update(b"\n");
    }
    mac.update(&canonical_headers(headers, &[]));
    mac.update(format!("/{}/{}", signer.bucket, request.key).as_bytes());
    if !sub_resources.is_empty() {
        mac.update(format!("?{}", sub_resources.join("&")).as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}
