//! Against signatures that the official clients made; see `tests/data/make_vectors.py`.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Query, Signer, Unsigned};
use crate::{SignatureVersion, oss::credentials::Credentials};

#[derive(Deserialize)]
struct Data {
    access_key_id: String,
    access_key_secret: String,
    bucket: String,
    region: String,
    time: Timestamp,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    version: String,
    method: String,
    key: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    token: Option<String>,
    in_url: bool,
    expires: u64,
    signature: String,
}

fn data() -> Data {
    serde_json::from_str(include_str!("../../../tests/data/v4_vectors.json")).unwrap()
}

fn query(pairs: &[(String, String)]) -> Query {
    // The names of real requests are literals.
    pairs
        .iter()
        .map(|(name, value)| (&*Box::leak(name.clone().into_boxed_str()), value.clone()))
        .collect()
}

fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    pairs.iter().map(pair).collect()
}

fn credentials(data: &Data, token: Option<&str>) -> Credentials {
    let credentials = Credentials::new(&data.access_key_id, &data.access_key_secret);
    match token {
        Some(token) => credentials.with_token(token, None),
        None => credentials,
    }
}

#[test]
fn every_signature_equals_that_of_the_official_clients() {
    let data = data();
    assert!(data.vectors.len() > 200);
    for vector in &data.vectors {
        let version = if vector.version == "v4" {
            SignatureVersion::V4
        } else {
            SignatureVersion::V1
        };
        let signer = Signer::new(version, &data.region, &data.bucket);
        let credentials = credentials(&data, vector.token.as_deref());
        let (query, mut headers) = (query(&vector.query), headers(&vector.headers));
        let request = Unsigned {
            method: &vector.method,
            key: &vector.key,
            query: &query,
        };
        let signature = if vector.in_url {
            let signed = signer.sign_query(&request, &headers, &credentials, data.time, vector.expires);
            let name = if version == SignatureVersion::V4 {
                "x-oss-signature"
            } else {
                "Signature"
            };
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(signed.as_bytes())
                .into_owned()
                .collect();
            pairs.into_iter().find(|(key, _)| key == name).unwrap().1
        } else {
            signer.sign_headers(&request, &mut headers, &credentials, data.time);
            let value = headers[header::AUTHORIZATION].to_str().unwrap();
            assert!(
                !value.contains("AdditionalHeaders"),
                "a blank list is refused by OSS"
            );
            let at = if version == SignatureVersion::V4 {
                "Signature="
            } else {
                ":"
            };
            value.rsplit_once(at).unwrap().1.to_owned()
        };
        let Vector {
            name, version, token, ..
        } = vector;
        assert_eq!(
            signature,
            vector.signature,
            "{version} {name}, token: {}",
            token.is_some()
        );
    }
}

#[test]
fn a_signed_url_carries_the_token_and_no_secret() {
    let data = data();
    let signer = Signer::new(SignatureVersion::V4, &data.region, &data.bucket);
    let credentials = credentials(&data, Some("to/ken+=="));
    let request = Unsigned {
        method: "GET",
        key: "a b",
        query: &Query::new(),
    };
    let query = signer.sign_query(&request, &HeaderMap::new(), &credentials, data.time, 60);
    assert!(query.contains("x-oss-security-token=to%2Fken%2B%3D%3D"));
    assert!(query.contains("x-oss-expires=60") && !query.contains(&data.access_key_secret));
    assert!(!format!("{credentials:?} {signer:?}").contains(&data.access_key_secret));
}

#[test]
fn the_kept_key_is_not_used_for_another_day_or_secret() {
    let data = data();
    let signer = Signer::new(SignatureVersion::V4, &data.region, &data.bucket);
    let sign = |signer: &Signer, secret: &str, now: Timestamp| {
        let credentials = Credentials::new(&data.access_key_id, secret);
        let request = Unsigned {
            method: "GET",
            key: "k",
            query: &Query::new(),
        };
        signer.sign_query(&request, &HeaderMap::new(), &credentials, now, 60)
    };
    let tomorrow = data.time + jiff::SignedDuration::from_hours(24);
    for (secret, now) in [
        ("one", data.time),
        ("two", data.time),
        ("two", tomorrow),
        ("one", data.time),
    ] {
        let fresh = Signer::new(SignatureVersion::V4, &data.region, &data.bucket);
        assert_eq!(sign(&signer, secret, now), sign(&fresh, secret, now));
    }
}
