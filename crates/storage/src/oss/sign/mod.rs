//! Signatures of OSS requests, over headers or in a URL.

mod v1;
mod v4;

use http::HeaderMap;
use jiff::Timestamp;

use super::credentials::Credentials;
use crate::{SignatureVersion, encode};

/// Names and raw values of a query; a name with an empty value is a flag such as `uploads`.
pub(super) type Query = Vec<(&'static str, String)>;

/// What a signature depends on, besides the request.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) version: SignatureVersion,
    /// `cn-hangzhou`, without `oss-`.
    pub(super) region: String,
    pub(super) bucket: String,
    key_cache: v4::KeyCache,
}

/// The request as the signature sees it. Its resource is always `/bucket/key`, whatever the URL looks like: with a custom
/// domain the bucket appears nowhere else.
#[derive(Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    /// Raw; empty for the bucket itself.
    pub(super) key: &'a str,
    pub(super) query: &'a Query,
}

impl Signer {
    pub(super) fn new(version: SignatureVersion, region: &str, bucket: &str) -> Self {
        Self {
            version,
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            key_cache: v4::KeyCache::default(),
        }
    }

    /// Adds date, token and `authorization` to the headers. All headers that are part of a signature must be there.
    pub(super) fn sign_headers(
        &self,
        request: &Unsigned<'_>,
        headers: &mut HeaderMap,
        credentials: &Credentials,
        now: Timestamp,
    ) {
        match self.version {
            SignatureVersion::V4 => v4::headers(self, request, headers, credentials, now),
            SignatureVersion::V1 => v1::headers(self, request, headers, credentials, now),
        }
    }

    /// The complete query of a signed URL.
    pub(super) fn sign_query(
        &self,
        request: &Unsigned<'_>,
        headers: &HeaderMap,
        credentials: &Credentials,
        now: Timestamp,
        expires: u64,
    ) -> String {
        match self.version {
            SignatureVersion::V4 => v4::query(self, request, headers, credentials, now, expires),
            SignatureVersion::V1 => v1::query(self, request, headers, credentials, now, expires),
        }
    }
}

/// A query as it goes over the wire.
pub(super) fn encode_query(query: &Query) -> String {
    let mut text = String::new();
    for (name, value) in query {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&encode::value(name).to_string());
        if !value.is_empty() {
            text.push('=');
            text.push_str(&encode::value(value).to_string());
        }
    }
    text
}

/// `x-oss-*` headers and those in `more`, in order, as `name:value\n`.
fn canonical_headers(headers: &HeaderMap, more: &[&str]) -> Vec<u8> {
    let mut lines: Vec<(&str, &[u8])> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-oss-") || more.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    lines.sort_unstable();
    let mut text = Vec::with_capacity(256);
    for (name, value) in lines {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value.trim_ascii());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests;
