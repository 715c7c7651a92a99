//! Signature version 4: `OSS4-HMAC-SHA256`.

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{Verifier, header_bytes, invalid_authorization, mismatch, oss_headers};
use crate::oss::clock::{iso_basic, parse_http_date, parse_iso_basic};
use crate::oss::error::OssError;
use crate::oss::request::OssRequest;

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// A signed URL lives seven days at most.
const MAX_EXPIRES_SECONDS: i64 = 604_800;

/// `AccessKeyId/20231203/cn-hangzhou/oss/aliyun_v4_request`.
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
}

/// The error codes differ between the header and the URL form.
struct ScopeCodes {
    shape: &'static str,
    date: &'static str,
}

impl<'a> Scope<'a> {
    fn parse(credential: &'a str, codes: &ScopeCodes) -> Result<Self, OssError> {
        let invalid = |why: &str, ec| OssError::invalid_argument(why, "Credential", credential).ec(ec);
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key_id, date, region, product, last] = parts[..] else {
            return Err(invalid(
                "Invalid credential: five parts are expected.",
                codes.shape,
            ));
        };
        if last != "aliyun_v4_request" || product != "oss" {
            return Err(invalid(
                "Invalid credential: it must end in /oss/aliyun_v4_request.",
                codes.shape,
            ));
        }
        if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid(
                "Invalid signing date in credential: yyyyMMdd is expected.",
                codes.date,
            ));
        }
        if access_key_id.is_empty() {
            return Err(invalid("Invalid access key id in credential.", "0002-00000206"));
        }
        Ok(Self {
            access_key_id,
            date,
            region,
        })
    }

    fn text(&self) -> String {
        format!("{}/{}/oss/aliyun_v4_request", self.date, self.region)
    }
}

pub(super) fn verify_header(verifier: &Verifier<'_>, request: &OssRequest) -> Result<(), OssError> {
    let authorization = request
        .header("authorization")
        .and_then(|text| text.strip_prefix(ALGORITHM))
        .ok_or_else(|| invalid_authorization("0002-00000202"))?;
    let (mut credential, mut additional, mut signature) = (None, None, None);
    for field in authorization.split(',') {
        let (name, value) = field
            .trim()
            .split_once('=')
            .ok_or_else(|| invalid_authorization("0002-00000202"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "AdditionalHeaders" => &mut additional,
            "Signature" => &mut signature,
            _ => return Err(invalid_authorization("0002-00000202")),
        };
        if slot.replace(value).is_some() {
            return Err(invalid_authorization("0002-00000202"));
        }
    }
    let (Some(credential), Some(signature)) = (credential, signature) else {
        return Err(invalid_authorization("0002-00000202"));
    };
    if additional.is_some_and(str::is_empty) {
        return Err(invalid_authorization("0002-00000209").detail("ArgumentName", "AdditionalHeaders"));
    }
    let scope = Scope::parse(
        credential,
        &ScopeCodes {
            shape: "0002-00000213",
            date: "0002-00000213",
        },
    )?;
    check_region(verifier, &scope)?;

    let at = match (request.header("x-oss-date"), request.header("date")) {
        (Some(text), _) => parse_iso_basic(text).ok_or_else(|| invalid_date(text))?,
        (None, Some(text)) => parse_http_date(text).ok_or_else(|| invalid_date(text))?,
        (None, None) => {
            return Err(
                OssError::access_denied("OSS authentication requires a valid Date.").ec("0002-00000503"),
            );
        }
    };
    verifier.check_skew(at)?;
    if request.header("x-oss-content-sha256") != Some("UNSIGNED-PAYLOAD") {
        return Err(OssError::invalid_argument(
            "The x-oss-content-sha256 header is required and must be UNSIGNED-PAYLOAD.",
            "x-oss-content-sha256",
            request.header("x-oss-content-sha256").unwrap_or_default(),
        ));
    }
    let secret = verifier.keyring.secret(
        scope.access_key_id,
        request.header("x-oss-security-token"),
        verifier.now,
    )?;
    check(request, &scope, at, additional, signature, &secret)
}

pub(super) fn verify_url(verifier: &Verifier<'_>, request: &OssRequest) -> Result<(), OssError> {
    let parameter = |name: &str| request.query.get(name).filter(|value| !value.is_empty());
    let missing = |name: &str, ec: &'static str| {
        OssError::invalid_argument(format!("Missing {name} in the signed URL."), name, "").ec(ec)
    };
    let version = parameter("x-oss-signature-version").unwrap_or_default();
    if version != ALGORITHM {
        return Err(OssError::invalid_argument(
            "Unknown signature version.",
            "x-oss-signature-version",
            version,
        ));
    }
    let signature =
        parameter("x-oss-signature").ok_or_else(|| missing("x-oss-signature", "0002-00000219"))?;
    let credential =
        parameter("x-oss-credential").ok_or_else(|| missing("x-oss-credential", "0002-00000224"))?;
    let date = parameter("x-oss-date").ok_or_else(|| missing("x-oss-date", "0002-00000503"))?;
    let expires = parameter("x-oss-expires").ok_or_else(|| missing("x-oss-expires", "0002-00000232"))?;
    let additional = request.query.get("x-oss-additional-headers");
    if additional.is_some_and(str::is_empty) {
        return Err(missing("x-oss-additional-headers", "0002-00000076"));
    }
    let scope = Scope::parse(
        credential,
        &ScopeCodes {
            shape: "0002-00000224",
            date: "0002-00000223",
        },
    )?;
    check_region(verifier, &scope)?;

    let at = parse_iso_basic(date).ok_or_else(|| invalid_date(date))?;
    let seconds = expires
        .parse::<i64>()
        .ok()
        .filter(|seconds| (1..=MAX_EXPIRES_SECONDS).contains(seconds))
        .ok_or_else(|| {
            OssError::invalid_argument(
                "x-oss-expires must be 1 to 604800 seconds.",
                "x-oss-expires",
                expires,
            )
            .ec("0002-00000232")
        })?;
    if verifier.now.duration_since(at) < -super::MAX_SKEW {
        return Err(OssError::access_denied("The signed URL is not valid yet.")
            .ec("0002-00000235")
            .detail("ServerTime", crate::oss::clock::iso_millis(verifier.now)));
    }
    let end = at
        .saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);
    if verifier.now > end {
        return Err(verifier.expired(end, "0002-00000069"));
    }
    let token = request
        .query
        .get("x-oss-security-token")
        .or_else(|| request.header("x-oss-security-token"));
    let secret = verifier
        .keyring
        .secret(scope.access_key_id, token, verifier.now)?;
    check(request, &scope, at, additional, signature, &secret)
}

fn check_region(verifier: &Verifier<'_>, scope: &Scope<'_>) -> Result<(), OssError> {
    if scope.region == verifier.region {
        return Ok(());
    }
    Err(OssError::invalid_argument(
        format!(
            "Invalid signing region in Authorization header: this server is in {}.",
            verifier.region
        ),
        "Region",
        scope.region,
    ))
}

fn invalid_date(text: &str) -> OssError {
    OssError::invalid_argument("The date of the request is invalid.", "x-oss-date", text).ec("0002-00000505")
}

fn check(
    request: &OssRequest,
    scope: &Scope<'_>,
    at: Timestamp,
    additional: Option<&str>,
    provided: &str,
    secret: &str,
) -> Result<(), OssError> {
    let stamp = iso_basic(at);
    if !stamp.starts_with(scope.date) {
        return Err(OssError::invalid_argument(
            "The signing date of the credential differs from the request's date.",
            "Credential",
            scope.date,
        ));
    }
    let additional = additional_headers(request, additional)?;
    let canonical = canonical_request(request, &additional);
    let string_to_sign = format!(
        "{ALGORITHM}\n{stamp}\n{}\n{}",
        scope.text(),
        hex::encode(Sha256::digest(&canonical))
    );

    let mut key = sign(format!("aliyun_v4{secret}").as_bytes(), scope.date.as_bytes());
    for part in [scope.region, "oss", "aliyun_v4_request"] {
        key = sign(&key, part.as_bytes());
    }
    if hex::encode(sign(&key, string_to_sign.as_bytes())) == provided {
        return Ok(());
    }
    Err(mismatch(
        scope.access_key_id,
        provided,
        string_to_sign.as_bytes(),
        Some(&canonical),
    ))
}

/// The extra headers that were signed: lower case, sorted, without those that are signed anyway.
fn additional_headers(request: &OssRequest, list: Option<&str>) -> Result<Vec<String>, OssError> {
    let mut names = Vec::new();
    for name in list
        .unwrap_or_default()
        .split(';')
        .filter(|name| !name.is_empty())
    {
        let name = name.to_ascii_lowercase();
        if !request.headers.contains_key(name.as_str()) {
            return Err(OssError::invalid_argument(
                "A header listed as signed is not in the request.",
                "AdditionalHeaders",
                &name,
            )
            .ec("0002-00000077"));
        }
        if !is_always_signed(&name) {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn is_always_signed(name: &str) -> bool {
    name.starts_with("x-oss-") || name == "content-type" || name == "content-md5"
}

fn canonical_request(request: &OssRequest, additional: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b'\n');

    out.push(b'/');
    if let Some(bucket) = &request.bucket {
        encode_into(&mut out, bucket.as_bytes(), false);
        out.push(b'/');
        encode_into(&mut out, request.key_bytes(), true);
    }
    out.push(b'\n');

    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = request
        .query
        .iter()
        .filter(|(name, _)| *name != "x-oss-signature")
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        if !value.is_empty() {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out.push(b'\n');

    let mut names = oss_headers(request);
    names.extend(["content-type", "content-md5"].map(str::to_owned));
    names.extend(additional.iter().cloned());
    names.sort();
    for name in names {
        if let Some(value) = header_bytes(request, &name) {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            out.extend_from_slice(&value);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
    out.extend_from_slice(additional.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(
        request
            .header("x-oss-content-sha256")
            .unwrap_or("UNSIGNED-PAYLOAD")
            .as_bytes(),
    );
    out
}

fn encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    encode_into(&mut out, text.as_bytes(), false);
    out
}

fn encode_into(out: &mut Vec<u8>, bytes: &[u8], keep_slash: bool) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b'/' if keep_slash => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
