//! `OSS4-HMAC-SHA256`.

use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Query, Signer, Unsigned, canonical_headers, encode_query};
use crate::{encode, oss::credentials::Credentials};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// What all requests of one second have in common; its key is good for the whole day. Making it anew each time costs more
/// than the rest of the signature.
#[derive(Clone, Default)]
pub(super) struct KeyCache(Arc<Mutex<Option<Arc<Prepared>>>>);

struct Prepared {
    second: i64,
    /// `20251116T103000Z`
    time: String,
    /// `20251116/cn-hangzhou/oss/aliyun_v4_request`
    scope: String,
    id: String,
    secret: [u8; 32],
    /// With the day's key in it.
    mac: Hmac<Sha256>,
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
    let prepared = signer.key_cache.get(signer, credentials, now);
    insert(headers, "x-oss-date", &prepared.time);
    headers.insert("x-oss-content-sha256", HeaderValue::from_static(PAYLOAD));
    if let Some(token) = credentials.token() {
        insert(headers, "x-oss-security-token", token);
    }
    let signature = signature(signer, request, request.query, headers, &prepared);
    // No AdditionalHeaders: OSS refuses the field when it is blank, and we sign none beyond the default ones.
    let value = format!(
        "{ALGORITHM} Credential={}/{},Signature={signature}",
        prepared.id, prepared.scope
    );
    if let Ok(mut value) = HeaderValue::try_from(value) {
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
    let prepared = signer.key_cache.get(signer, credentials, now);
    let mut query: Query = request.query.clone();
    query.push(("x-oss-signature-version", ALGORITHM.to_owned()));
    let credential = format!("{}/{}", prepared.id, prepared.scope);
    query.push(("x-oss-credential", credential));
    query.push(("x-oss-date", prepared.time.clone()));
    query.push(("x-oss-expires", expires.to_string()));
    if let Some(token) = credentials.token() {
        query.push(("x-oss-security-token", token.to_owned()));
    }
    let signature = signature(signer, request, &query, headers, &prepared);
    query.push(("x-oss-signature", signature));
    encode_query(&query)
}

fn signature(
    signer: &Signer,
    request: &Unsigned<'_>,
    query: &Query,
    headers: &HeaderMap,
    prepared: &Prepared,
) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode::value(name).to_string(), encode::value(value).to_string()))
        .collect();
    pairs.sort_unstable();

    let mut canonical = String::with_capacity(512);
    canonical.push_str(request.method);
    canonical.push_str("\n/");
    canonical.extend(encode::value(&signer.bucket));
    canonical.push('/');
    canonical.extend(encode::path(request.key));
    canonical.push('\n');
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            canonical.push('&');
        }
        canonical.push_str(name);
        if !value.is_empty() {
            canonical.push('=');
            canonical.push_str(value);
        }
    }
    canonical.push('\n');
    let mut digest = Sha256::new_with_prefix(canonical);
    digest.update(canonical_headers(headers, &["content-md5", "content-type"]));
    // The list of additional headers, which is empty.
    digest.update("\n\n");
    digest.update(PAYLOAD);

    let mut mac = prepared.mac.clone();
    for part in [ALGORITHM, &prepared.time, &prepared.scope] {
        mac.update(part.as_bytes());
        mac.update(b"\n");
    }
    mac.update(hex::encode(digest.finalize()).as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

impl KeyCache {
    fn get(&self, signer: &Signer, credentials: &Credentials, now: Timestamp) -> Arc<Prepared> {
        // Compared by digest, so that the cache is not one more place that holds the secret.
        let secret: [u8; 32] = Sha256::digest(credentials.secret().as_bytes()).into();
        let second = now.as_second();
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same_keys = |one: &&Arc<Prepared>| one.id == credentials.id() && one.secret == secret;
        let before = cached.as_ref().filter(same_keys);
        if let Some(same) = before.filter(|one| one.second == second) {
            return Arc::clone(same);
        }
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let scope = format!("{date}/{}/oss/aliyun_v4_request", signer.region);
        let mac = match before.filter(|one| one.scope == scope) {
            Some(same_day) => same_day.mac.clone(),
            None => keyed(&day_key(signer, credentials, date)),
        };
        let prepared = Arc::new(Prepared {
            second,
            time,
            scope,
            id: credentials.id().to_owned(),
            secret,
            mac,
        });
        *cached = Some(Arc::clone(&prepared));
        prepared
    }
}

fn day_key(signer: &Signer, credentials: &Credentials, date: &str) -> [u8; 32] {
    let key = format!("aliyun_v4{}", credentials.secret());
    let key = hmac(key.as_bytes(), date);
    let key = hmac(&key, &signer.region);
    let key = hmac(&key, "oss");
    hmac(&key, "aliyun_v4_request")
}

fn hmac(key: &[u8], data: &str) -> [u8; 32] {
    keyed(key).chain_update(data).finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(name.ends_with("token"));
        headers.insert(name, value);
    }
}
