//! `OSS4-HMAC-SHA256`.

use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Query, Signer, Unsigned, canonical_headers, encode_query};
use crate::{encode, oss::credentials::Credentials};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The key is the same for a whole day: four of the five HMACs of a request are saved.
#[derive(Clone, Default)]
pub(super) struct KeyCache(Arc<Mutex<Option<CachedKey>>>);

struct CachedKey {
    date: String,
    id: String,
    secret: [u8; 32],
    key: [u8; 32],
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

pub(super) fn headers(
    signer: &Signer,
    request: &Unsigned<'_>,
    headers: &mut HeaderMap,
    credentials: &Credentials,
    now: Timestamp,
) {
    let time = timestamp(now);
    insert(headers, "x-oss-date", &time);
    headers.insert("x-oss-content-sha256", HeaderValue::from_static(PAYLOAD));
    if let Some(token) = credentials.token() {
        insert(headers, "x-oss-security-token", token);
    }
    let scope = scope(signer, &time);
    let signature = signature(
        signer,
        request,
        request.query,
        headers,
        credentials,
        &time,
        &scope,
    );
    // No AdditionalHeaders: OSS refuses the field when it is blank, and we sign none beyond the default ones.
    let value = format!(
        "{ALGORITHM} Credential={}/{scope},Signature={signature}",
        credentials.id()
    );
    if let Ok(mut value) = HeaderValue::from_str(&value) {
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
    let time = timestamp(now);
    let scope = scope(signer, &time);
    let mut query: Query = request.query.clone();
    query.push(("x-oss-signature-version", ALGORITHM.to_owned()));
    query.push(("x-oss-credential", format!("{}/{scope}", credentials.id())));
    query.push(("x-oss-date", time.clone()));
    query.push(("x-oss-expires", expires.to_string()));
    if let Some(token) = credentials.token() {
        query.push(("x-oss-security-token", token.to_owned()));
    }
    let signature = signature(signer, request, &query, headers, credentials, &time, &scope);
    query.push(("x-oss-signature", signature));
    encode_query(&query)
}

fn signature(
    signer: &Signer,
    request: &Unsigned<'_>,
    query: &Query,
    headers: &HeaderMap,
    credentials: &Credentials,
    time: &str,
    scope: &str,
) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode::value(name).to_string(), encode::value(value).to_string()))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| {
            if value.is_empty() {
                name
            } else {
                format!("{name}={value}")
            }
        })
        .collect();

    let mut canonical = Sha256::new();
    canonical.update(request.method);
    canonical.update(format!(
        "\n/{}/{}\n",
        encode::value(&signer.bucket),
        encode::path(request.key)
    ));
    canonical.update(pairs.join("&"));
    canonical.update("\n");
    canonical.update(canonical_headers(headers, &["content-md5", "content-type"]));
    // The list of additional headers, which is empty.
    canonical.update("\n\n");
    canonical.update(PAYLOAD);

    let canonical = hex::encode(canonical.finalize());
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{canonical}");
    let key = signer.key_cache.get(signer, credentials, &time[..8]);
    hex::encode(hmac(&key, to_sign.as_bytes()))
}

impl KeyCache {
    fn get(&self, signer: &Signer, credentials: &Credentials, date: &str) -> [u8; 32] {
        // Compared by digest, so that the cache is not one more place that holds the secret.
        let secret: [u8; 32] = Sha256::digest(credentials.secret().as_bytes()).into();
        let cached = self.0.lock().ok();
        if let Some(cached) = cached.as_deref().and_then(Option::as_ref)
            && cached.date == date
            && cached.id == credentials.id()
            && cached.secret == secret
        {
            return cached.key;
        }
        let key = hmac(
            format!("aliyun_v4{}", credentials.secret()).as_bytes(),
            date.as_bytes(),
        );
        let key = hmac(&key, signer.region.as_bytes());
        let key = hmac(&key, b"oss");
        let key = hmac(&key, b"aliyun_v4_request");
        if let Some(mut cached) = cached {
            let (date, id) = (date.to_owned(), credentials.id().to_owned());
            *cached = Some(CachedKey {
                date,
                id,
                secret,
                key,
            });
        }
        key
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn timestamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn scope(signer: &Signer, time: &str) -> String {
    format!("{}/{}/oss/aliyun_v4_request", &time[..8], signer.region)
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(name.ends_with("token"));
        headers.insert(name, value);
    }
}
