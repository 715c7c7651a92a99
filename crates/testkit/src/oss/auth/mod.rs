//! Who sent this: signatures of version 4 and version 1, in the header and in the URL.
//!
//! Written from the published description of the algorithms and proved by the official Python clients; it
//! shares no line with the client that it is there to judge.

mod v1;
mod v4;

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::clock::iso_millis;
use super::error::OssError;
use super::request::OssRequest;

/// How far a request's clock may be from the server's.
pub(crate) const MAX_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// A key pair that the server accepts, with the security token that must come with it (temporary credentials).
#[derive(Clone, PartialEq, Eq)]
pub struct OssCredentials {
    /// Identifies the key pair; sent in the clear.
    pub access_key_id: String,
    /// Signs; never sent.
    pub access_key_secret: String,
    /// Must accompany every request signed with this pair, when set.
    pub security_token: Option<String>,
}

impl std::fmt::Debug for OssCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OssCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("access_key_secret", &"***")
            .field("security_token", &self.security_token.as_ref().map(|_| "***"))
            .finish()
    }
}

/// The signature a request carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AuthScheme {
    /// No signature at all.
    #[default]
    Anonymous,
    /// Version 1 in the `Authorization` header.
    V1Header,
    /// Version 1 in the query.
    V1Url,
    /// Version 4 in the `Authorization` header.
    V4Header,
    /// Version 4 in the query.
    V4Url,
}

/// Which key pairs are accepted, and until when.
#[derive(Debug, Default)]
pub(crate) struct Keyring(Mutex<Vec<(OssCredentials, Timestamp)>>);

impl Keyring {
    pub(crate) fn new(first: OssCredentials) -> Self {
        Self(Mutex::new(vec![(first, Timestamp::MAX)]))
    }

    pub(crate) fn add(&self, credentials: OssCredentials, expires: Timestamp) {
        self.lock().push((credentials, expires));
    }

    pub(crate) fn expire(&self, access_key_id: &str) {
        for (credentials, expires) in self.lock().iter_mut() {
            if credentials.access_key_id == access_key_id {
                *expires = Timestamp::MIN;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(OssCredentials, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret for a key id, once the security token has been judged.
    fn secret(&self, access_key_id: &str, token: Option<&str>, now: Timestamp) -> Result<String, OssError> {
        let unknown = || {
            OssError::new(
                403,
                "InvalidAccessKeyId",
                "The OSS Access Key Id you provided does not exist in our records.",
            )
            .ec("0002-00000902")
            .detail("OSSAccessKeyId", access_key_id)
        };
        let known = self.lock();
        let (credentials, expires) = known
            .iter()
            .rev()
            .find(|(c, _)| c.access_key_id == access_key_id)
            .ok_or_else(unknown)?;
        match (&credentials.security_token, token) {
            // Temporary key ids are unknown to OSS without their token.
            (Some(_), None) => return Err(unknown()),
            (Some(expected), Some(token)) if expected == token => {}
            (None, None) => {}
            (_, Some(_)) => {
                return Err(OssError::new(
                    403,
                    "InvalidSecurityToken",
                    "The security token you provided is invalid.",
                )
                .ec("0002-00000008"));
            }
        }
        if *expires <= now {
            return Err(OssError::new(
                403,
                "SecurityTokenExpired",
                "The security token you provided has expired.",
            )
            .ec("0002-00000007"));
        }
        Ok(credentials.access_key_secret.clone())
    }
}

/// What a signature is checked against.
#[derive(Debug)]
pub(crate) struct Verifier<'a> {
    pub(crate) keyring: &'a Keyring,
    pub(crate) region: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) accept_v1: bool,
}

impl Verifier<'_> {
    /// The scheme of a request whose signature is right; an anonymous request is the caller's to judge.
    pub(crate) fn verify(&self, request: &OssRequest) -> Result<AuthScheme, OssError> {
        let scheme = scheme_of(request)?;
        if !self.accept_v1 && matches!(scheme, AuthScheme::V1Header | AuthScheme::V1Url) {
            return Err(OssError::new(
                403,
                "AccessDenied",
                "The OSS V1 signature is no longer accepted here; sign with version 4.",
            ));
        }
        match scheme {
            AuthScheme::Anonymous => {}
            AuthScheme::V1Header => v1::verify_header(self, request)?,
            AuthScheme::V1Url => v1::verify_url(self, request)?,
            AuthScheme::V4Header => v4::verify_header(self, request)?,
            AuthScheme::V4Url => v4::verify_url(self, request)?,
        }
        Ok(scheme)
    }

    fn check_skew(&self, at: Timestamp) -> Result<(), OssError> {
        if self.now.duration_since(at).abs() <= MAX_SKEW {
            return Ok(());
        }
        Err(OssError::new(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
        .ec("0002-00000504")
        .detail("MaxAllowedSkewMilliseconds", MAX_SKEW.as_millis().to_string())
        .detail("RequestTime", iso_millis(at))
        .detail("ServerTime", iso_millis(self.now)))
    }

    fn expired(&self, at: Timestamp, ec: &'static str) -> OssError {
        OssError::access_denied("Request has expired.")
            .ec(ec)
            .detail("Expires", iso_millis(at))
            .detail("ServerTime", iso_millis(self.now))
    }
}

pub(crate) fn scheme_of(request: &OssRequest) -> Result<AuthScheme, OssError> {
    let in_url = if request.query.has("x-oss-signature-version") || request.query.has("x-oss-signature") {
        Some(AuthScheme::V4Url)
    } else if request.query.has("Signature") || request.query.has("OSSAccessKeyId") {
        Some(AuthScheme::V1Url)
    } else {
        None
    };
    let Some(authorization) = request.headers.get(http::header::AUTHORIZATION) else {
        return Ok(in_url.unwrap_or(AuthScheme::Anonymous));
    };
    if in_url.is_some() {
        return Err(OssError::new(
            400,
            "InvalidArgument",
            "Only one way of signing is allowed: the Authorization header or the query.",
        ));
    }
    let text = authorization.to_str().unwrap_or_default();
    if text.starts_with("OSS4-HMAC-SHA256 ") {
        Ok(AuthScheme::V4Header)
    } else if text.starts_with("OSS ") {
        Ok(AuthScheme::V1Header)
    } else {
        Err(invalid_authorization("0002-00000202"))
    }
}

fn invalid_authorization(ec: &'static str) -> OssError {
    OssError::new(400, "InvalidArgument", "Authorization header is invalid.").ec(ec)
}

/// The refusal that tells the client what the server signed, so that the two can be compared line by line.
fn mismatch(
    access_key_id: &str,
    provided: &str,
    string_to_sign: &[u8],
    canonical: Option<&[u8]>,
) -> OssError {
    let bytes: Vec<String> = string_to_sign.iter().map(|b| format!("{b:02X}")).collect();
    let error = OssError::new(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and \
         signing method.",
    )
    .ec("0002-00000040")
    .detail("OSSAccessKeyId", access_key_id)
    .detail("SignatureProvided", provided)
    .detail("StringToSign", String::from_utf8_lossy(string_to_sign))
    .detail("StringToSignBytes", bytes.join(" "));
    match canonical {
        Some(canonical) => error.detail("CanonicalRequest", String::from_utf8_lossy(canonical)),
        None => error,
    }
}

/// Every value of a header, trimmed and joined with commas, as bytes (values may be UTF-8).
fn header_bytes(request: &OssRequest, name: &str) -> Option<Vec<u8>> {
    let mut values = request.headers.get_all(name).iter();
    let mut joined = values.next()?.as_bytes().trim_ascii().to_vec();
    for value in values {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes().trim_ascii());
    }
    Some(joined)
}

/// The names of all `x-oss-` headers, sorted, each once.
fn oss_headers(request: &OssRequest) -> Vec<String> {
    let mut names: Vec<String> = request
        .headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|n| n.starts_with("x-oss-"))
        .collect();
    names.sort();
    names
}
