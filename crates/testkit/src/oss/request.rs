//! What arrived, taken apart: host, bucket, key, query, headers.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::error::OssError;

/// Query parameters, decoded, in the order they were sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits and decodes. `+` means a space: the official Python client sends spaces that way, and its
    /// signatures cover the decoded text.
    pub(crate) fn parse(raw: &str) -> Result<Self, OssError> {
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((
                decode(&name.replace('+', " "))?,
                decode(&value.replace('+', " "))?,
            ));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

fn decode(text: &str) -> Result<String, OssError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| {
            OssError::new(
                400,
                "InvalidArgument",
                "A query parameter is not valid UTF-8 after decoding.",
            )
        })
}

/// How the bucket was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostStyle {
    /// `/bucket/key` on an IP address.
    Path,
    /// `bucket.oss…`.
    VirtualHost,
    /// A domain of the bucket's owner: the bucket is in the signature only.
    CustomDomain,
}

/// One request, before its body.
#[derive(Debug, Clone)]
pub(crate) struct OssRequest {
    pub(crate) method: Method,
    /// As on the wire.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) host: String,
    pub(crate) style: HostStyle,
    pub(crate) bucket: Option<String>,
    /// The decoded key; bytes that are no UTF-8 are refused with `InvalidObjectName` by [`Self::key`].
    key: Option<Vec<u8>>,
}

impl OssRequest {
    /// `default_bucket` answers for custom domains; `exists` tells which buckets there are.
    pub(crate) fn parse(
        parts: &http::request::Parts,
        default_bucket: &str,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Self, OssError> {
        let host = parts
            .headers
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .or_else(|| parts.uri.authority().map(|authority| authority.to_string()))
            .ok_or_else(|| OssError::new(400, "InvalidRequest", "The Host header is missing."))?;
        let path = parts.uri.path().to_owned();
        let query = Query::parse(parts.uri.query().unwrap_or(""))?;
        let (style, host_bucket) = place(&host, default_bucket, exists);
        let rest = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, raw_key) = match (style, host_bucket) {
            (HostStyle::Path, _) => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                (Some(bucket), key)
            }
            (_, bucket) => (bucket, rest),
        };
        let bucket = match bucket {
            Some(name) if !name.is_empty() => Some(
                percent_decode_str(name)
                    .decode_utf8()
                    .map(|name| name.into_owned())
                    .map_err(|_| invalid_bucket_name(name))?,
            ),
            _ => None,
        };
        let key = Some(raw_key)
            .filter(|key| !key.is_empty())
            .map(|key| percent_decode_str(key).collect());
        Ok(Self {
            method: parts.method.clone(),
            path,
            query,
            headers: parts.headers.clone(),
            host,
            style,
            bucket,
            key,
        })
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The key as text, for operations on objects.
    pub(crate) fn key(&self) -> Result<&str, OssError> {
        let bytes = self.key.as_deref().unwrap_or_default();
        let key = std::str::from_utf8(bytes).map_err(|_| invalid_object_name("it is not UTF-8"))?;
        check_key(key)?;
        Ok(key)
    }

    /// The key's bytes as they were sent, for the signature and the log.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// A header's value as text; empty and unreadable values count as absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
            .filter(|v| !v.is_empty())
    }
}

/// 1 to 1,023 bytes, no leading slash or backslash, no line break or NUL.
pub(crate) fn check_key(key: &str) -> Result<(), OssError> {
    if key.is_empty() {
        return Err(invalid_object_name("it is empty"));
    }
    if key.len() > 1023 {
        return Err(invalid_object_name("it is longer than 1023 bytes"));
    }
    if key.starts_with(['/', '\\']) {
        return Err(invalid_object_name("it starts with a slash or a backslash"));
    }
    if key.contains(['\r', '\n', '\0']) {
        return Err(invalid_object_name("it contains a line break or NUL"));
    }
    Ok(())
}

fn invalid_object_name(why: &str) -> OssError {
    OssError::new(400, "InvalidObjectName", "The specified object is not valid.")
        .ec("0016-00000002")
        .detail("ErrorDetail", why)
}

pub(crate) fn invalid_bucket_name(name: &str) -> OssError {
    OssError::new(400, "InvalidBucketName", "The specified bucket is not valid.").detail("BucketName", name)
}

/// 3 to 63 lower-case letters, digits and hyphens; no hyphen at either end.
pub(crate) fn check_bucket_name(name: &str) -> Result<(), OssError> {
    let ok = (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if ok {
        Ok(())
    } else {
        Err(invalid_bucket_name(name))
    }
}

fn place<'a>(
    host: &'a str,
    default_bucket: &'a str,
    exists: impl Fn(&str) -> bool,
) -> (HostStyle, Option<&'a str>) {
    let name = without_port(host);
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
        return (HostStyle::Path, None);
    }
    if is_service_domain(name) {
        return (HostStyle::VirtualHost, None);
    }
    if let Some((first, rest)) = name.split_once('.')
        && (is_service_domain(rest) || exists(first))
    {
        return (HostStyle::VirtualHost, Some(first));
    }
    (HostStyle::CustomDomain, Some(default_bucket))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// `oss.localhost`, `oss-cn-hangzhou.aliyuncs.com`, `oss-cn-hangzhou-internal.aliyuncs.com`, `oss-accelerate…`.
fn is_service_domain(name: &str) -> bool {
    name.eq_ignore_ascii_case("oss.localhost")
        || (name.starts_with("oss-") && name.ends_with(".aliyuncs.com"))
        || (name.starts_with("oss-") && name.ends_with(".localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str, host: &str) -> OssRequest {
        let (parts, ()) = http::Request::builder()
            .uri(uri)
            .header("host", host)
            .body(())
            .expect("a valid request")
            .into_parts();
        OssRequest::parse(&parts, "demo", |bucket| bucket == "demo").expect("parses")
    }

    #[test]
    fn the_three_ways_of_naming_a_bucket() {
        for (host, path, style, bucket, key) in [
            (
                "127.0.0.1:9100",
                "/demo/a/b.txt",
                HostStyle::Path,
                Some("demo"),
                "a/b.txt",
            ),
            ("[::1]:9100", "/demo/a", HostStyle::Path, Some("demo"), "a"),
            ("127.0.0.1:9100", "/", HostStyle::Path, None, ""),
            ("127.0.0.1", "/demo", HostStyle::Path, Some("demo"), ""),
            (
                "demo.oss.localhost:9100",
                "/a%20b",
                HostStyle::VirtualHost,
                Some("demo"),
                "a b",
            ),
            (
                "other.oss.localhost",
                "/a",
                HostStyle::VirtualHost,
                Some("other"),
                "a",
            ),
            (
                "demo.anything.example",
                "/a",
                HostStyle::VirtualHost,
                Some("demo"),
                "a",
            ),
            (
                "demo.oss-cn-hangzhou.aliyuncs.com",
                "/a//b",
                HostStyle::VirtualHost,
                Some("demo"),
                "a//b",
            ),
            ("oss.localhost", "/", HostStyle::VirtualHost, None, ""),
            (
                "files.hospital.example",
                "/a+b",
                HostStyle::CustomDomain,
                Some("demo"),
                "a+b",
            ),
        ] {
            let request = parse(path, host);
            assert_eq!(request.style, style, "{host}{path}");
            assert_eq!(request.bucket.as_deref(), bucket, "{host}{path}");
            assert_eq!(request.key_bytes(), key.as_bytes(), "{host}{path}");
        }
    }

    #[test]
    fn keys_follow_the_documented_shape() {
        for bad in ["/a", "\\a", "a\nb", "a\rb", "a\0b", &"k".repeat(1024)] {
            assert_eq!(
                check_key(bad).expect_err("refused").code,
                "InvalidObjectName",
                "{bad:?}"
            );
        }
        for good in [
            "a",
            "a//b",
            "a/",
            " a ",
            "\u{1F600}",
            "a?b#c%2F",
            "../a",
            &"k".repeat(1023),
        ] {
            assert!(check_key(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn bucket_names_follow_the_documented_shape() {
        for bad in ["ab", "-ab", "ab-", "Abc", "a_b", "a.b", &"b".repeat(64)] {
            assert!(check_bucket_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_bucket_name("demo-1").is_ok());
    }
}
