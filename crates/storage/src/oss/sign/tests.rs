//! Against signatures that the official clients made; see `tests/data/make_vectors.py` and `make_vectors_ali_oss.mjs`.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Query, Signer, Unsigned};
use crate::{
    Addressing, OssConfig, SignatureVersion,
    oss::{credentials::Credentials, endpoint::endpoints},
};

#[derive(Deserialize)]
struct Data {
    access_key_id: String,
    access_key_secret: String,
    bucket: String,
    region: String,
    time: Timestamp,
    urls: Vec<WholeUrl>,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct WholeUrl {
    version: String,
    cname: bool,
    method: String,
    key: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    token: Option<String>,
    url: String,
}

/// What `ali-oss` made of the same cases, in the same order.
#[derive(Deserialize)]
struct AliOss {
    signatures: Vec<String>,
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

fn version(name: &str) -> SignatureVersion {
    match name {
        "v4" => SignatureVersion::V4,
        "v1" => SignatureVersion::V1,
        other => panic!("signature version {other}"),
    }
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
    let node = include_str!("../../../tests/data/ali_oss_signatures.json");
    let node: AliOss = serde_json::from_str(node).unwrap();
    assert!(data.vectors.len() > 500 && node.signatures.len() == data.vectors.len());
    for (vector, node) in data.vectors.iter().zip(&node.signatures) {
        let version = version(&vector.version);
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
        assert_eq!(&signature, node, "ali-oss: {version} {name}");
    }
}

/// Every kind of case that a client has been seen to get wrong is among the vectors.
#[test]
fn the_vectors_cover_what_others_get_wrong() {
    let data = data();
    let has = |what: &str, test: &dyn Fn(&Vector) -> bool| {
        for version in ["v4", "v1"] {
            let found = data.vectors.iter().filter(|vector| vector.version == version);
            for token in [false, true] {
                let found = found.clone().filter(|vector| vector.token.is_some() == token);
                assert!(found.into_iter().any(test), "{version}, token {token}: no {what}");
            }
        }
    };
    for part in ["%2F", "+", "?", "&", "#", "😀", "文献", "//", "%", "a b", "\\"] {
        has(&format!("key with {part}"), &|v| {
            v.key.contains(part) && !v.in_url
        });
        has(&format!("URL of a key with {part}"), &|v| {
            v.key.contains(part) && v.in_url
        });
    }
    has("key that ends in a slash", &|v| v.key.ends_with('/'));
    has("key with outer spaces", &|v| {
        v.key.starts_with(' ') && v.key.ends_with(' ')
    });
    let put_url = |v: &Vector| v.in_url && v.method == "PUT";
    has("signed PUT with a type", &|v| put_url(v) && !v.headers.is_empty());
    has("signed PUT without a type", &|v| {
        put_url(v) && v.headers.is_empty()
    });
    let header = |v: &Vector, name: &str| v.headers.iter().any(|(found, _)| found == name);
    has("metadata and type", &|v| {
        header(v, "x-oss-meta-title") && header(v, "content-type")
    });
    has("Chinese download name", &|v| {
        v.query
            .iter()
            .any(|(n, value)| n == "response-content-disposition" && value.contains("UTF-8''%E6"))
    });
    has("request without any header", &|v| {
        v.headers.is_empty() && !v.in_url
    });
    for name in [
        "uploads",
        "uploadId",
        "delete",
        "acl",
        "lifecycle",
        "cors",
        "versioning",
        "continuation-token",
    ] {
        has(name, &|v| v.query.iter().any(|(found, _)| found == name));
    }
    has("slash in a value", &|v| {
        v.query
            .iter()
            .any(|(_, value)| value.contains('/') && value.contains('+'))
    });
}

#[test]
fn whole_urls_equal_those_of_the_official_client() {
    let data = data();
    assert!(data.urls.iter().any(|url| url.cname) && data.urls.iter().any(|url| !url.cname));
    for expected in &data.urls {
        let WholeUrl {
            method, key, cname, ..
        } = expected;
        let signer = Signer::new(version(&expected.version), &data.region, &data.bucket);
        let credentials = credentials(&data, expected.token.as_deref());
        let (query, headers) = (query(&expected.query), headers(&expected.headers));
        let request = Unsigned {
            method,
            key,
            query: &query,
        };
        let query = signer.sign_query(&request, &headers, &credentials, data.time, 3600);
        // The domain is in the address only; what is signed is the bucket.
        let config = OssConfig {
            endpoint: cname.then(|| "files.example.com".to_owned()),
            addressing: if *cname {
                Addressing::Cname
            } else {
                Addressing::Auto
            },
            ..OssConfig::default()
        };
        let (address, _) = endpoints(&config, None, &data.region, &data.bucket).unwrap();
        let parse = |text: &str| url::Url::parse(text).unwrap();
        let url = parse(&format!("{}?{query}", address.url(key)));
        let theirs = parse(&expected.url);
        let case = format!("{} {method} {key} cname {cname}", expected.version);
        assert_eq!(url.host_str(), theirs.host_str(), "{case}");
        let decoded = |url: &url::Url| {
            let path = percent_encoding::percent_decode_str(url.path())
                .decode_utf8()
                .unwrap();
            let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            pairs.sort();
            (path.into_owned(), pairs)
        };
        assert_eq!(decoded(&url), decoded(&theirs), "{case}");
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
