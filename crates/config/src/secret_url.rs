use std::fmt;

use url::Url;

use crate::redact;

/// A URL that may hold a password or a signed query: `Debug` and `Display` leave user, password, query and fragment
/// out, and so do reports and `config show`.
///
/// ```
/// use zhuji_config::{SecretUrl, Url};
///
/// let url = SecretUrl::new(Url::parse("https://user:pw@host/path?signature=abc").unwrap());
/// assert_eq!(url.to_string(), "https://***@host/path?***");
/// assert_eq!(url.expose().password(), Some("pw"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL. Do not log what this returns.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::url_parts(self.0.as_str()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
