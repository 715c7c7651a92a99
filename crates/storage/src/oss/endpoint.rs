//! Addresses: where traffic goes, and what other people are told.

use std::net::IpAddr;

use url::Url;

use crate::{Addressing, Error, ErrorKind, OssConfig, Result, encode};

/// How a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Everything before the key, without a final `/`: `https://bucket.host`, or `http://127.0.0.1:9000/bucket`.
    base: String,
    /// The same, taken apart once and not for every request.
    parsed: Url,
}

impl Endpoint {
    fn new(base: String) -> Option<Self> {
        let parsed = Url::parse(&base).ok()?;
        Some(Self { base, parsed })
    }

    /// The address of a request: [`url`](Self::url) with a query that is encoded already.
    pub(super) fn request_url(&self, key: &str, query: &str) -> Url {
        let mut url = self.parsed.clone();
        let folder = self.parsed.path().trim_end_matches('/');
        url.set_path(&format!("{folder}/{}", encode::path(key)));
        url.set_query((!query.is_empty()).then_some(query));
        url
    }

    /// The URL of a key (empty for the bucket), without a query.
    pub(crate) fn url(&self, key: &str) -> String {
        format!("{}/{}", self.base, encode::path(key))
    }

    /// The bucket's own address.
    pub(crate) fn as_url(&self) -> &Url {
        &self.parsed
    }

    pub(super) fn is_https(&self) -> bool {
        self.base.starts_with("https://")
    }

    /// Whether the address leads to this machine, past any proxy and name server.
    pub(super) fn is_loopback(&self) -> bool {
        match self.parsed.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        }
    }
}

/// Where traffic goes and the base of URLs for others.
pub(crate) fn endpoints(
    config: &OssConfig,
    public_url: Option<&Url>,
    region: &str,
    bucket: &str,
) -> Result<(Endpoint, Endpoint)> {
    let (traffic, public) = match &config.endpoint {
        Some(endpoint) => {
            // What browsers can reach, if it is one of Alibaba's own names.
            let public = endpoint.replacen("-internal.aliyuncs.com", ".aliyuncs.com", 1);
            (endpoint.clone(), public)
        }
        None => {
            let internal = if config.internal { "-internal" } else { "" };
            (
                format!("oss-{region}{internal}.aliyuncs.com"),
                format!("oss-{region}.aliyuncs.com"),
            )
        }
    };
    let traffic = parse(&traffic, config.addressing, bucket)?;
    let public = match public_url {
        Some(url) => Endpoint {
            base: url.as_str().trim_end_matches('/').to_owned(),
            parsed: url.clone(),
        },
        None => parse(&public, config.addressing, bucket)?,
    };
    Ok((traffic, public))
}

fn parse(text: &str, addressing: Addressing, bucket: &str) -> Result<Endpoint> {
    let refuse = |why: &str| Error::new(ErrorKind::Config, "configuration", "OSS_ENDPOINT", why);
    let text = text.trim();
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&text).map_err(|_| refuse("is neither a host nor a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("is not an http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.path() != "/" {
        return Err(refuse("has more than scheme, host and port"));
    }
    let host = url.host_str().ok_or_else(|| refuse("has no host"))?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let scheme = url.scheme();
    let ip = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok();
    let addressing = match addressing {
        Addressing::Auto if ip || host == "localhost" => Addressing::Path,
        Addressing::Auto => Addressing::Virtual,
        chosen => chosen,
    };
    let base = match addressing {
        Addressing::Path => format!("{scheme}://{host}{port}/{bucket}"),
        Addressing::Cname => format!("{scheme}://{host}{port}"),
        Addressing::Virtual if ip => {
            return Err(refuse("is an IP address, before which no bucket can stand")
                .with_hint("use a host name, or OSS_ADDRESSING=path"));
        }
        // The bucket's own domain name, copied from the console.
        _ if host.starts_with(&format!("{bucket}.")) => format!("{scheme}://{host}{port}"),
        _ => format!("{scheme}://{bucket}.{host}{port}"),
    };
    Endpoint::new(base).ok_or_else(|| refuse("is neither a host nor a URL"))
}

/// `cn-hangzhou` from `oss-cn-hangzhou` or `cn-hangzhou`.
pub(crate) fn region(text: &str) -> Result<String> {
    let region = text
        .trim()
        .strip_prefix("oss-")
        .unwrap_or(text.trim())
        .trim_end_matches("-internal");
    let good = !region.is_empty()
        && region
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        return Ok(region.to_owned());
    }
    let why = format!("{text:?} is not a region");
    Err(Error::new(ErrorKind::Config, "configuration", "OSS_REGION", why)
        .with_hint("write cn-hangzhou, for example"))
}

/// Refuses what can't be a bucket's name: it goes into host names and signatures.
pub(crate) fn bucket(text: &str) -> Result<String> {
    let text = text.trim();
    let good = (3..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        return Ok(text.to_owned());
    }
    let why = format!("{text:?} is not the name of a bucket: 3 to 63 of a-z, 0-9 and -");
    Err(Error::new(ErrorKind::Config, "configuration", "OSS_BUCKET", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(endpoint: Option<&str>, internal: bool, public: Option<&str>) -> (String, String) {
        let config = OssConfig {
            endpoint: endpoint.map(str::to_owned),
            internal,
            ..OssConfig::default()
        };
        let public = public.map(|url| Url::parse(url).unwrap());
        let (traffic, public) = endpoints(&config, public.as_ref(), "cn-hangzhou", "demo").unwrap();
        (traffic.url("a b"), public.url("a b"))
    }

    #[test]
    fn traffic_may_be_internal_and_urls_never_are() {
        let own = "https://demo.oss-cn-hangzhou.aliyuncs.com/a%20b".to_owned();
        assert_eq!(pair(None, false, None), (own.clone(), own.clone()));
        let internal = "https://demo.oss-cn-hangzhou-internal.aliyuncs.com/a%20b".to_owned();
        assert_eq!(pair(None, true, None), (internal.clone(), own.clone()));
        assert_eq!(
            pair(Some("oss-cn-hangzhou-internal.aliyuncs.com"), false, None),
            (internal, own.clone())
        );
        assert_eq!(
            pair(None, false, Some("https://files.example.com/")),
            (own, "https://files.example.com/a%20b".to_owned())
        );
    }

    #[test]
    fn stand_ins_for_oss_are_addressed_as_they_can_be() {
        assert_eq!(
            pair(Some("http://127.0.0.1:9100"), false, None).0,
            "http://127.0.0.1:9100/demo/a%20b"
        );
        assert_eq!(
            pair(Some("http://[::1]:9100/"), false, None).0,
            "http://[::1]:9100/demo/a%20b"
        );
        assert_eq!(
            pair(Some("http://oss.localhost:9100"), false, None).0,
            "http://demo.oss.localhost:9100/a%20b"
        );
        assert_eq!(
            pair(Some("demo.oss.example.com"), false, None).0,
            "https://demo.oss.example.com/a%20b"
        );
        let (local, _) = endpoints(
            &OssConfig {
                endpoint: Some("http://oss.localhost:1".into()),
                ..OssConfig::default()
            },
            None,
            "cn-hangzhou",
            "demo",
        )
        .unwrap();
        assert!(local.is_loopback() && !local.is_https());
    }

    #[test]
    fn a_request_goes_where_its_url_says() {
        for base in [
            "https://demo.oss-cn-hangzhou.aliyuncs.com",
            "http://127.0.0.1:9100/demo",
        ] {
            let endpoint = Endpoint::new(base.to_owned()).unwrap();
            for key in [
                "",
                "a b/c+%?#.pdf",
                ".../文献",
                ".zhuji/check",
                "a%2F..%2fb",
                "~!*'()[]{}|^`<>\"\\",
            ] {
                let url = endpoint.url(key);
                assert_eq!(endpoint.request_url(key, "").as_str(), url);
                assert_eq!(
                    endpoint.request_url(key, "uploads").as_str(),
                    format!("{url}?uploads")
                );
                assert_eq!(Url::parse(&url).unwrap().as_str(), url, "written as it is signed");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "ftp://x",
            "https://user:pw@x",
            "https://x/path",
            "https://x?q=1",
            "",
            "http://",
        ] {
            let error = parse(bad, Addressing::Auto, "demo").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!error.to_string().contains("pw@"));
        }
        assert_eq!(region("oss-cn-hangzhou").unwrap(), "cn-hangzhou");
        assert!(region("https://oss").is_err());
        assert!(bucket("Bad_Name").is_err());
    }
}
