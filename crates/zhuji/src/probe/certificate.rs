//! When the certificates end of the servers that this service talks to, or is reached by.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_cert::der::Decode;
use zhuji_cache::CacheConfig;
use zhuji_db_pool::DbConfig;
use zhuji_storage::StorageConfig;

use crate::settings::ServiceConfig;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How a PostgreSQL client asks for TLS: a length and a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A server that shows a certificate, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsEndpoint {
    /// The variable that names it.
    pub(crate) variable: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Asked in PostgreSQL's own way, and allowed to say no.
    postgres: bool,
}

/// Every one that the settings name, the database first.
pub(crate) fn endpoints(
    db: Option<&DbConfig>,
    storage: Option<&StorageConfig>,
    cache: Option<&CacheConfig>,
    service: Option<&ServiceConfig>,
) -> Vec<TlsEndpoint> {
    let mut found: Vec<TlsEndpoint> = Vec::new();
    let mut add = |variable, host: &str, port, postgres| {
        if !found.iter().any(|known| known.host == host && known.port == port) {
            found.push(TlsEndpoint {
                variable,
                host: host.to_owned(),
                port,
                postgres,
            });
        }
    };
    let places = db.map(DbConfig::addresses).unwrap_or_default();
    for place in places
        .iter()
        .filter(|place| !place.is_socket && place.ssl_mode != "disable")
    {
        add(place.variable, &place.host, place.port, true);
    }
    let oss = storage.and_then(StorageConfig::oss_addresses);
    let redis = cache
        .and_then(|cache| cache.redis_url.as_ref())
        .and_then(|url| Url::parse(url.expose()).ok());
    let base = service.and_then(|service| service.base_url.as_ref());
    let urls = [
        ("OSS_ENDPOINT", oss.as_ref().map(|(traffic, _)| traffic), "https"),
        (
            "STORAGE_PUBLIC_URL",
            oss.as_ref().map(|(_, public)| public),
            "https",
        ),
        ("REDIS_URL", redis.as_ref(), "rediss"),
        ("BASE_URL", base, "https"),
    ];
    for (variable, url, scheme) in urls {
        let Some(url) = url.filter(|url| url.scheme() == scheme) else {
            continue;
        };
        let port = url.port_or_known_default().unwrap_or(6379);
        if let Some(host) = url.host_str() {
            add(
                variable,
                host.trim_start_matches('[').trim_end_matches(']'),
                port,
                false,
            );
        }
    }
    found
}

impl TlsEndpoint {
    /// When the certificate that it shows ends; `None` if it speaks no TLS. Whether the certificate is trusted is not
    /// looked at: those who use the server find that out.
    ///
    /// # Errors
    /// One sentence: it can't be reached within 5 s, or shows nothing that is a certificate.
    pub(crate) async fn expiry(&self) -> Result<Option<Timestamp>, String> {
        match tokio::time::timeout(TIMEOUT, self.ask()).await {
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(certificate))) => not_after(&certificate).map(Some),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    async fn ask(&self) -> std::io::Result<Option<CertificateDer<'static>>> {
        let mut socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if self.postgres {
            socket.write_all(&SSL_REQUEST).await?;
            if socket.read_u8().await? != b'S' {
                return Ok(None);
            }
        }
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(looks_only()?).connect(name, socket).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(shown.map(|certificate| certificate.clone().into_owned()))
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let read = x509_cert::Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let ends = read.tbs_certificate.validity.not_after.to_unix_duration();
    i64::try_from(ends.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(|| "its end is no time".to_owned())
}

fn looks_only() -> std::io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(LooksOnly(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate: one that has ended, or that nobody signed, is what this is for. Nothing is sent to such a server
/// but the handshake.
#[derive(Debug)]
struct LooksOnly(Arc<CryptoProvider>);

impl ServerCertVerifier for LooksOnly {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_tls_is_asked_and_each_once() {
        let db = DbConfig::new("postgres://u:hunter2@db:5432/d?sslmode=require");
        let plain = DbConfig::new("postgres://u@db/d?sslmode=disable");
        let mut storage = StorageConfig {
            kind: "oss".to_owned(),
            ..StorageConfig::default()
        };
        storage.oss.region = Some("cn-hangzhou".to_owned());
        storage.oss.bucket = Some("demo".to_owned());
        let cache = CacheConfig {
            redis_url: Some("rediss://:hunter2@cache".into()),
            ..CacheConfig::default()
        };
        let found = endpoints(Some(&db), Some(&storage), Some(&cache), None);
        let told: Vec<_> = found
            .iter()
            .map(|at| (at.variable, at.host.as_str(), at.port))
            .collect();
        let expected = [
            ("DATABASE_URL", "db", 5432),
            ("OSS_ENDPOINT", "demo.oss-cn-hangzhou.aliyuncs.com", 443),
            ("REDIS_URL", "cache", 6379),
        ];
        assert_eq!(told, expected);
        assert!(!format!("{found:?}").contains("hunter2"));
        assert!(endpoints(Some(&plain), Some(&StorageConfig::default()), None, None).is_empty());
    }
}
