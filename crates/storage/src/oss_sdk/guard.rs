//! What is refused, because the SDK would do something else or nothing at all.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{ByteStream, Error, ErrorKind, Key, PutOptions, Result, StorageConfig};

/// The largest object, in bytes: the SDK holds it in memory whole.
pub(super) const LARGEST: u64 = 64 * 1024 * 1024;

const USE_NATIVE: &str = "use OSS_CLIENT=native";

pub(super) fn unsupported(operation: &'static str, subject: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, subject, why).with_hint(USE_NATIVE)
}

pub(super) fn too_large(operation: &'static str, key: &str) -> Error {
    unsupported(
        operation,
        key,
        "the object is larger than the 64 MiB that are held in memory for the SDK",
    )
}

/// Bytes that the SDK can store.
pub(super) fn check_size(key: &str, bytes: &Bytes) -> Result<()> {
    match bytes.len() as u64 {
        0 => {
            let why = "the SDK can't store an empty object: it sends no length with it";
            Err(unsupported("upload", key, why))
        }
        size if size > LARGEST => Err(too_large("upload", key)),
        _ => Ok(()),
    }
}

/// Options that the SDK would take and not send.
pub(super) fn check_put(key: &Key, options: &PutOptions) -> Result<()> {
    let why = if options.create_only {
        "the SDK can't ask OSS to create only"
    } else if !options.metadata.is_empty() {
        "the SDK sends no metadata"
    } else if options.content_disposition.is_some() {
        "the SDK sends no content disposition; give the download name to the signed URL"
    } else {
        return Ok(());
    };
    Err(unsupported("upload", key, why))
}

/// Whether the address that the SDK makes, by writing the key behind the base as it is, names this key. Else it would
/// read, replace or delete another one: that before the `?`, that with the `%2F` decoded, that without the last space.
pub(super) fn can_address(base: &str, key: &str) -> bool {
    let (Ok(base), Ok(url)) = (Url::parse(base), Url::parse(&format!("{base}/{key}"))) else {
        return false;
    };
    let path = format!("{}/{key}", base.path().trim_end_matches('/'));
    // A `%` in the key could not be told from one of the encoding.
    !key.contains('%')
        && url.query().is_none()
        && url.fragment().is_none()
        && percent_decode_str(url.path())
            .decode_utf8()
            .is_ok_and(|decoded| decoded == path)
}

/// A stream in memory, as far as it may be.
pub(super) async fn buffered(mut stream: ByteStream, key: &Key) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = stream.try_next().await? {
        if (whole.len() + chunk.len()) as u64 > LARGEST {
            return Err(too_large("upload", key));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Settings that the SDK can't honour, by variable.
pub(crate) fn mistakes(config: &StorageConfig) -> Vec<(&'static str, Error)> {
    let oss = &config.oss;
    let refused = [
        (
            "OSS_SECURITY_TOKEN",
            oss.security_token.is_some(),
            "the SDK sends no security token",
        ),
        (
            "ALIBABA_CLOUD_ROLE_ARN",
            oss.has_temporary_keys() && oss.access_key_id.is_none(),
            "the SDK knows access keys only, no roles",
        ),
        (
            "STORAGE_PUBLIC_PREFIXES",
            !config.public_prefixes.is_empty(),
            "the SDK can't store an object as public-read",
        ),
    ];
    refused
        .into_iter()
        .filter(|(_, given, _)| *given)
        .map(|(variable, _, why)| {
            let why = format!("{why}, and OSS_CLIENT is `sdk`");
            let error = Error::new(ErrorKind::Config, "configuration", variable, why);
            (variable, error.with_hint(USE_NATIVE))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASES: [&str; 2] = [
        "https://demo.oss-cn-hangzhou.aliyuncs.com",
        "http://127.0.0.1:9100/demo",
    ];

    #[test]
    fn keys_that_would_become_others_are_told_apart() {
        for base in BASES {
            for good in [
                "a/b.pdf",
                "with space",
                " leading",
                "plus+",
                "心脏病/文献.pdf",
                "~!*'()[]{}|^`<>\"",
                "...",
            ] {
                assert!(can_address(base, good), "{good:?}");
            }
            for bad in [
                "q?x=1",
                "a#b",
                "100%.txt",
                "a%2Fb",
                "back\\slash",
                "trailing ",
                "tab\tin",
                "%2e%2e/x",
            ] {
                assert!(!can_address(base, bad), "{bad:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_let_through_arrives_under_its_name(key in "[ -~é文\\t]{1,40}") {
            for base in BASES {
                if !can_address(base, &key) {
                    continue;
                }
                // As the HTTP library writes it on the wire.
                let url = Url::parse(&format!("{base}/{key}")).unwrap();
                let wire: http::Uri = url.as_str().parse().unwrap();
                prop_assert_eq!(wire.query(), None);
                let begin = if base.ends_with("/demo") { "/demo/" } else { "/" };
                let asked = wire.path().strip_prefix(begin).unwrap_or("");
                prop_assert_eq!(percent_decode_str(asked).decode_utf8().unwrap(), key.as_str());
            }
        }
    }
}
