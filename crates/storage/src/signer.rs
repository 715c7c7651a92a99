//! Signed URLs of the adapters whose objects this process serves itself.

use std::{fmt, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::{Error, ErrorKind, Key, Result, SignOptions, SignedUrl, encode};

const EXPIRES: &str = "x-zhuji-expires";
const SIGNATURE: &str = "x-zhuji-signature";
const DISPOSITION: &str = "response-content-disposition";
const CONTENT_TYPE: &str = "response-content-type";

/// The shortest key that is accepted, in bytes.
pub(crate) const MIN_SIGNING_KEY: usize = 16;

/// The code of a refusal because of age alone.
pub(crate) const EXPIRED: &str = "Expired";

/// Signs and verifies URLs with HMAC-SHA256, over method, key, expiry, content type and response overrides.
///
/// The rules are those of an OSS V4 signed URL: a URL is good for one method; an upload must send exactly the content
/// type that was signed (none, if none was); nothing in the query can be changed, added or dropped.
pub struct UrlSigner {
    key: Vec<u8>,
    base: String,
}

/// What a verified URL grants, besides access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Answer with this content type instead of the stored one.
    pub response_content_type: Option<String>,
    /// Answer with this disposition instead of the stored one.
    pub response_disposition: Option<String>,
}

impl UrlSigner {
    /// A signer for URLs below `base` (`http://localhost:3001/uploads`).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the key is shorter than 16 bytes.
    pub fn new(key: impl Into<Vec<u8>>, base: impl Into<String>) -> Result<Self> {
        let (key, mut base) = (key.into(), base.into());
        if key.len() < MIN_SIGNING_KEY {
            let why = "the signing key is shorter than 16 bytes";
            return Err(
                Error::new(ErrorKind::Config, "configuration", "STORAGE_SIGNING_KEY", why)
                    .with_hint("generate one with `openssl rand -hex 32`"),
            );
        }
        base.truncate(base.trim_end_matches('/').len());
        Ok(Self { key, base })
    }

    /// The address of an object without a signature.
    pub fn url(&self, key: &str) -> String {
        format!("{}/{}", self.base, encode::path(key))
    }

    /// Signs a URL that starts being valid now.
    pub fn sign(&self, key: &Key, options: &SignOptions) -> SignedUrl {
        self.sign_at(key, options, Timestamp::now())
    }

    fn sign_at(&self, key: &Key, options: &SignOptions, now: Timestamp) -> SignedUrl {
        // Whole seconds, rounded up: a URL of one second lives for at least one.
        let lifetime = i64::try_from(options.expires.as_secs()).unwrap_or(i64::MAX / 2);
        let fraction = i64::from(options.expires.subsec_nanos() > 0 || now.subsec_nanosecond() > 0);
        let expires = now.as_second().saturating_add(lifetime).saturating_add(fraction);
        let grant = Grant {
            response_content_type: options.response_content_type.clone(),
            response_disposition: options.response_disposition(),
        };
        let signature = self
            .mac(
                options.method.as_str(),
                key,
                expires,
                options.content_type.as_deref(),
                &grant,
            )
            .finalize();
        let mut url = format!("{}?{EXPIRES}={expires}", self.url(key));
        for (name, value) in [
            (DISPOSITION, &grant.response_disposition),
            (CONTENT_TYPE, &grant.response_content_type),
        ] {
            if let Some(value) = value {
                url.push_str(&format!("&{name}={}", encode::value(value)));
            }
        }
        url.push_str(&format!("&{SIGNATURE}={}", hex::encode(signature.into_bytes())));
        let headers = options
            .content_type
            .iter()
            .map(|value| ("content-type".to_owned(), value.clone()))
            .collect();
        let expires_at = Timestamp::from_second(expires).unwrap_or(Timestamp::MAX);
        SignedUrl::new(url, options.method, headers, expires_at)
    }

    /// Checks the raw query of a request for `key`; `content_type` is the header the client sent, if any.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], always with the same text for a missing, unreadable or wrong signature; another one for a
    /// right signature that has expired.
    pub fn verify(&self, method: &str, key: &Key, query: &str, content_type: Option<&str>) -> Result<Grant> {
        let denied = |why: &str| Error::new(ErrorKind::Denied, "signature check", key.as_str(), why);
        let wrong = || denied("the address is not signed, or its signature does not match");
        let (mut expires, mut signature, mut grant) = (None, None, Grant::default());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                EXPIRES => &mut expires,
                SIGNATURE => &mut signature,
                DISPOSITION => &mut grant.response_disposition,
                CONTENT_TYPE => &mut grant.response_content_type,
                // Whoever adds a parameter must not get an answer that caches could mix up.
                _ => return Err(wrong()),
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(wrong());
            }
        }
        let expires: i64 = expires.and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        let signature = signature
            .and_then(|text| hex::decode(text).ok())
            .ok_or_else(wrong)?;
        // `verify_slice` compares in constant time.
        self.mac(
            method,
            key,
            expires,
            content_type.filter(|_| method == "PUT"),
            &grant,
        )
        .verify_slice(&signature)
        .map_err(|_| wrong())?;
        if Timestamp::now()
            .duration_until(Timestamp::from_second(expires).unwrap_or(Timestamp::MIN))
            .is_negative()
        {
            return Err(denied("the address has expired")
                .with_hint("ask for a new one")
                .with_code(EXPIRED));
        }
        Ok(grant)
    }

    fn mac(
        &self,
        method: &str,
        key: &str,
        expires: i64,
        content_type: Option<&str>,
        grant: &Grant,
    ) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        let expires = expires.to_string();
        let fields = [
            "zhuji-url-v1",
            method,
            key,
            &expires,
            content_type.unwrap_or(""),
            grant.response_content_type.as_deref().unwrap_or(""),
            grant.response_disposition.as_deref().unwrap_or(""),
        ];
        // Each field behind its length: no two different requests have the same bytes.
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        mac
    }
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner")
            .field("base", &self.base)
            .field("key", &"***")
            .finish()
    }
}

/// How long at least until a signed URL expires; for tests and for pages that refresh their links.
impl SignedUrl {
    /// Time left, zero if it has expired.
    pub fn time_left(&self) -> Duration {
        Duration::try_from(Timestamp::now().duration_until(self.expires_at)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SignMethod;

    fn signer() -> UrlSigner {
        UrlSigner::new(*b"0123456789abcdef", "http://localhost:3001/uploads/").unwrap()
    }

    fn query(url: &SignedUrl) -> String {
        url.as_str().split_once('?').unwrap().1.to_owned()
    }

    #[test]
    fn what_was_signed_is_granted_and_nothing_else() {
        let (signer, key) = (signer(), Key::new("a/文献+1.pdf").unwrap());
        let url = signer.sign(&key, &SignOptions::get().download_name("中 文.pdf"));
        assert!(
            url.as_str()
                .starts_with("http://localhost:3001/uploads/a/%E6%96%87%E7%8C%AE%2B1.pdf?")
        );
        let query = query(&url);
        let grant = signer.verify("GET", &key, &query, None).unwrap();
        assert!(grant.response_disposition.unwrap().contains("filename*=UTF-8''"));

        let other = Key::new("a/b").unwrap();
        assert!(signer.verify("GET", &other, &query, None).is_err());
        assert!(signer.verify("PUT", &key, &query, None).is_err());
        assert!(signer.verify("HEAD", &key, &query, None).is_err());
        assert!(signer.verify("GET", &key, &format!("{query}&x=1"), None).is_err());
        assert!(
            signer
                .verify("GET", &key, &format!("{query}&{query}"), None)
                .is_err()
        );
        assert!(signer.verify("GET", &key, "", None).is_err());
        assert!(
            signer
                .verify("GET", &key, &query.replace("attachment", "inline"), None)
                .is_err()
        );
        let stranger = UrlSigner::new(*b"fedcba9876543210", "http://x").unwrap();
        assert!(stranger.verify("GET", &key, &query, None).is_err());
    }

    #[test]
    fn an_upload_is_bound_to_its_content_type() {
        let (signer, key) = (signer(), Key::new("a.pdf").unwrap());
        let bound = query(&signer.sign(&key, &SignOptions::put("application/pdf")));
        signer
            .verify("PUT", &key, &bound, Some("application/pdf"))
            .unwrap();
        assert!(signer.verify("PUT", &key, &bound, Some("text/html")).is_err());
        assert!(signer.verify("PUT", &key, &bound, None).is_err());
        let none = SignOptions {
            method: SignMethod::Put,
            ..SignOptions::default()
        };
        let unbound = query(&signer.sign(&key, &none));
        signer.verify("PUT", &key, &unbound, None).unwrap();
        assert!(signer.verify("PUT", &key, &unbound, Some("text/html")).is_err());
    }

    #[test]
    fn expiry_is_checked_after_the_signature() {
        let (signer, key) = (signer(), Key::new("a").unwrap());
        let past = Timestamp::now() - Duration::from_secs(7200);
        let old = query(&signer.sign_at(&key, &SignOptions::get(), past));
        let error = signer.verify("GET", &key, &old, None).unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
        let shifted = old.replacen(EXPIRES, "x-zhuji-expires=99999999999&x", 1);
        assert!(
            !signer
                .verify("GET", &key, &shifted, None)
                .unwrap_err()
                .to_string()
                .contains("expired")
        );
    }

    #[test]
    fn short_keys_are_refused_and_none_is_shown() {
        assert_eq!(
            UrlSigner::new(*b"short", "x").unwrap_err().kind(),
            ErrorKind::Config
        );
        assert!(!format!("{:?}", signer()).contains("0123456789"));
    }
}
