//! TLS by rustls. The provider is passed explicitly: nothing is installed for the whole process.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Settings that trust the authorities in `ca_file` and nobody else, or those of the system.
///
/// # Errors
///
/// One sentence: the file is missing, unreadable or empty, or the system has no authorities.
pub(crate) fn settings(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_file {
        Some(path) => {
            from_file(path).map_err(|reason| format!("REDIS_CA_FILE: {}: {reason}", path.display()))?
        }
        None => from_system()?,
    };
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(settings))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(store)
}

fn from_system() -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(
            "this system has no trusted authorities (apt-get install -y ca-certificates), or name a \
                    file with REDIS_CA_FILE"
                .to_owned(),
        );
    }
    Ok(store)
}
