//! A stand-in for OSS that costs next to nothing, so that the clients are what is measured: it checks no signature and
//! stores nothing. Whatever is put is counted and summed (CRC-64, as OSS does); whatever is read is one byte, repeated;
//! the number at the end of a key is the object's size. All contenders use it alike.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::relay;

/// What every object consists of.
pub(super) const BYTE: u8 = 0x5a;
/// In a key: the answer to a put comes after a time that depends on the key, seldom long.
pub(super) const SKEWED: &str = "skewed";
const MEAN_SKEW: f64 = 0.005;
const SYSTEM_CERTIFICATES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
const CRC: &str = "x-oss-hash-crc64ecma";

/// Where it listens, on 127.0.0.1; the slow ones are 20 ms away.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) tls: u16,
    pub(super) plain_slow: u16,
    pub(super) tls_slow: u16,
}

#[derive(Default)]
struct State {
    uploads: Mutex<HashMap<String, BTreeMap<u32, (u64, u64)>>>,
    /// CRC-64 of so many bytes.
    sums: Mutex<HashMap<u64, u64>>,
}

/// Serves until standard input ends; prints the ports.
pub(super) fn run(folder: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = tls_config(folder)?;
    runtime.block_on(async {
        let state = Arc::new(State::default());
        let (plain, tls) = (listen().await?, listen().await?);
        let (plain_slow, tls_slow) = (listen().await?, listen().await?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let ports = Ports {
            plain: port(&plain)?,
            tls: port(&tls)?,
            plain_slow: port(&plain_slow)?,
            tls_slow: port(&tls_slow)?,
        };
        tokio::spawn(relay::run(plain_slow, ports.plain));
        tokio::spawn(relay::run(tls_slow, ports.tls));
        tokio::spawn(accept(plain, None, Arc::clone(&state)));
        tokio::spawn(accept(tls, Some(TlsAcceptor::from(config)), state));
        println!("{}", serde_json::to_string(&ports)?);
        anyhow::Ok(())
    })?;
    // The other end is held by who started this process.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn listen() -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).await
}

/// A certificate of its own; `ca.pem` in the folder is what clients have to trust.
fn tls_config(folder: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name = named("the authority of a benchmark");
    let key = rcgen::KeyPair::generate()?;
    let ca = authority.self_signed(&key)?;
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut certificate = rcgen::CertificateParams::new(names)?;
    certificate.distinguished_name = named("the server of a benchmark");
    let certificate = certificate.signed_by(&own, &issuer)?;
    // Among the system's own: what clients do with those is a part of what they cost.
    let mut bundle = ca.pem();
    for system in SYSTEM_CERTIFICATES {
        if let Ok(certificates) = std::fs::read_to_string(system) {
            bundle.push_str(&certificates);
            break;
        }
    }
    std::fs::write(std::path::Path::new(folder).join("ca.pem"), bundle)?;
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(own.serialize_der());
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    Ok(Arc::new(config))
}

/// OpenSSL takes a certificate for its own authority if both have one name.
fn named(name: &str) -> rcgen::DistinguishedName {
    let mut whole = rcgen::DistinguishedName::new();
    whole.push(rcgen::DnType::CommonName, name);
    whole
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let answer = service_fn(move |request| answer(Arc::clone(&state), request));
            let http = hyper::server::conn::http1::Builder::new();
            // A client that hangs up is no concern of this server.
            match tls {
                None => drop(http.serve_connection(TokioIo::new(socket), answer).await),
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        drop(http.serve_connection(TokioIo::new(socket), answer).await);
                    }
                }
            }
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Content>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let upload = parameter("uploadId");
    let response = match *request.method() {
        Method::PUT => {
            let (length, crc) = sum(request.into_body()).await;
            if let Some(upload) = upload {
                let number = parameter("partNumber").and_then(|number| number.parse().ok());
                if let Some(parts) = locked(&state.uploads).get_mut(&upload) {
                    parts.insert(number.unwrap_or(0), (length, crc));
                }
            } else if path.contains(SKEWED) {
                tokio::time::sleep(skew(&path)).await;
            }
            stored(crc).body(Content::empty())
        }
        Method::POST if upload.is_none() => {
            sum(request.into_body()).await;
            let id = format!("{:032X}", fastrand::u128(..));
            locked(&state.uploads).insert(id.clone(), BTreeMap::new());
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><InitiateMultipartUploadResult><Bucket>demo</Bucket>\
                 <Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            stored(0).body(Content::text(body))
        }
        Method::POST => {
            sum(request.into_body()).await;
            let parts = locked(&state.uploads).remove(&upload.unwrap_or_default());
            let crc = parts
                .unwrap_or_default()
                .into_values()
                .fold(0, |whole, (length, part)| {
                    checksum_combine(CrcAlgorithm::Crc64Xz, whole, part, length)
                });
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUploadResult><Location>x</Location>\
                 <Bucket>demo</Bucket><Key>k</Key><ETag>\"{crc:032X}\"</ETag></CompleteMultipartUploadResult>"
            );
            stored(crc).body(Content::text(body))
        }
        Method::GET | Method::HEAD => read(&state, &path, &request),
        _ => Response::builder()
            .status(StatusCode::NO_CONTENT)
            .body(Content::empty()),
    };
    Ok(response.unwrap_or_default())
}

fn read(
    state: &State,
    path: &str,
    request: &Request<Incoming>,
) -> Result<Response<Content>, hyper::http::Error> {
    let digits = path.rsplit(|c: char| !c.is_ascii_digit()).next();
    let size: u64 = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let crc = *locked(&state.sums).entry(size).or_insert_with(|| sum_of(size));
    let answer = stored(crc)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT");
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (answer, length) = match range {
        Some((first, last)) => {
            let first: u64 = first.parse().unwrap_or(0);
            let end = last.parse().map_or(size, |last: u64| (last + 1).min(size));
            let told = format!("bytes {first}-{}/{size}", end.saturating_sub(1));
            let answer = answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, told);
            (answer, end.saturating_sub(first))
        }
        None => (answer, size),
    };
    let answer = answer.header(CONTENT_LENGTH, length);
    if *request.method() == Method::HEAD {
        return answer.body(Content::empty());
    }
    answer.body(Content::repeated(length))
}

fn stored(crc: u64) -> hyper::http::response::Builder {
    Response::builder()
        .header(ETAG, format!("\"{crc:032X}\""))
        .header(CRC, crc)
        .header("x-oss-request-id", "5FE1A3B2C4D5E6F708192A3B")
        .header("server", "AliyunOSS")
}

async fn sum(mut body: Incoming) -> (u64, u64) {
    let (mut length, mut digest) = (0, Digest::new(CrcAlgorithm::Crc64Xz));
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            digest.update(data);
        }
    }
    (length, digest.finalize())
}

fn sum_of(size: u64) -> u64 {
    let (mut digest, mut left) = (Digest::new(CrcAlgorithm::Crc64Xz), size);
    while left > 0 {
        let piece = left.min(PIECES.len() as u64);
        digest.update(&PIECES[..piece as usize]);
        left -= piece;
    }
    digest.finalize()
}

/// Exponential: most are quick, a few are slow; the same key always the same.
fn skew(path: &str) -> Duration {
    let seed = path.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    });
    let share = fastrand::Rng::with_seed(seed).f64();
    Duration::from_secs_f64(-MEAN_SKEW * (1.0 - share).ln())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static PIECES: [u8; 256 * 1024] = [BYTE; 256 * 1024];

/// A text, or one byte so many times.
#[derive(Default)]
struct Content {
    text: Option<Bytes>,
    left: u64,
}

impl Content {
    fn empty() -> Self {
        Self::default()
    }

    fn text(text: String) -> Self {
        Self {
            left: text.len() as u64,
            text: Some(text.into()),
        }
    }

    fn repeated(left: u64) -> Self {
        Self { text: None, left }
    }
}

impl hyper::body::Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = match self.text.take() {
            Some(text) => text,
            None => Bytes::from_static(&PIECES[..self.left.min(PIECES.len() as u64) as usize]),
        };
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
