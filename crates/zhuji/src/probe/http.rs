//! One HTTP client for questions that are asked once.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

const CONNECT: Duration = Duration::from_secs(5);

/// Trusts the system's authorities, follows no redirect.
///
/// # Errors
/// One sentence: TLS can't be set up.
pub(crate) fn client() -> Result<reqwest::Client, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the HTTP client can't be built: {error}");
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("zhuji/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .build()
        .map_err(|error| failed(&error))
}

/// Why there was no answer, to the last cause; never the URL, which may be signed.
pub(crate) fn failure(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    match error.source() {
        _ if error.is_timeout() => "no answer in time".to_owned(),
        // Without a cause its own text is all there is, and holds the URL.
        None => "no answer".to_owned(),
        Some(_) => last.to_string(),
    }
}
