//! The handle that tests hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::auth::{Keyring, OssCredentials};
use super::body::Content;
use super::clock::Clock;
use super::disk::Disk;
use super::fault::{Fault, Faults};
use super::log::{OssRequestRecord, RequestLog};
use super::ops;
use super::request::check_bucket_name;
use super::serve::{Limits, Shared, accept};
use super::store::{Buckets, OssObjectType, Store};

/// How a server is to be. `OssServerOptions::default()` is right for most tests.
#[derive(Debug, Clone)]
pub struct OssServerOptions {
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub port: u16,
    /// The region that V4 signatures must name. Default: `cn-hangzhou`.
    pub region: String,
    /// The bucket that exists from the start, and that custom domains lead to. Default: `demo`.
    pub bucket: String,
    /// Default: random for each server.
    pub access_key_id: String,
    /// Default: random for each server.
    pub access_key_secret: String,
    /// The security token that must come with every signature. Default: none, and then none may come.
    pub security_token: Option<String>,
    /// Keeps objects, metadata and bucket settings in this directory and reads them at the start. Unfinished
    /// uploads are not kept. Default: memory only.
    pub data_dir: Option<PathBuf>,
    /// Whether V1 signatures are taken. Default: true; real buckets made since September 2025 refuse them.
    pub accept_v1: bool,
    /// Most bytes of one PutObject or part. Default: 5 GiB, as in OSS.
    pub max_put_bytes: u64,
    /// Least bytes of a part that is not the last. Default: 100 KiB, as in OSS.
    pub min_part_bytes: u64,
}

impl Default for OssServerOptions {
    fn default() -> Self {
        Self {
            port: 0,
            region: "cn-hangzhou".to_owned(),
            bucket: "demo".to_owned(),
            access_key_id: format!("LTAI{}", random(20)),
            access_key_secret: random(30),
            security_token: None,
            data_dir: None,
            accept_v1: true,
            max_put_bytes: 5 * 1024 * 1024 * 1024,
            min_part_bytes: 100 * 1024,
        }
    }
}

pub(crate) fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(length)
        .collect()
}

/// One stored object, as tests see it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OssObjectInfo {
    /// The bucket it lies in.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The ETag without quotes.
    pub etag: String,
    /// CRC-64 of the content.
    pub crc64: u64,
    /// How it came to be.
    pub object_type: OssObjectType,
    /// `content-type` and its kin and `x-oss-meta-*`, lower case.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Its own access control; `default` follows the bucket.
    pub acl: String,
}

/// What another service of this crate may do with a server.
#[derive(Debug)]
pub(crate) struct ServerHandle(Arc<Shared>);

impl ServerHandle {
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn add_temporary_credentials(&self, credentials: OssCredentials, expires: Timestamp) {
        self.0.keyring.add(credentials, expires);
    }
}

/// A running OSS server on 127.0.0.1. It stops when it is dropped.
///
/// See the [module page](super) for what it does and does not do.
#[derive(Debug)]
pub struct OssServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    credentials: OssCredentials,
    task: JoinHandle<()>,
}

impl OssServer {
    /// Starts a server.
    ///
    /// # Errors
    /// The port is taken, the bucket's name is not allowed, or the data directory can't be read.
    pub async fn start(options: OssServerOptions) -> std::io::Result<Self> {
        check_bucket_name(&options.bucket).map_err(|_| {
            std::io::Error::other(format!(
                "bucket {:?}: 3 to 63 lower-case letters, digits and hyphens are allowed",
                options.bucket
            ))
        })?;
        let disk = options.data_dir.clone().map(Disk::new);
        let buckets = match disk.clone() {
            None => Buckets::new(),
            Some(disk) => tokio::task::spawn_blocking(move || disk.load())
                .await
                .map_err(std::io::Error::other)??,
        };
        let store = Store::new(buckets, disk);
        let clock = Clock::default();
        store
            .change_bucket(&options.bucket, |before| {
                Ok((
                    before.cloned().unwrap_or_else(|| ops::new_bucket(clock.now())),
                    (),
                ))
            })
            .await
            .map_err(|error| std::io::Error::other(error.message))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let credentials = OssCredentials {
            access_key_id: options.access_key_id,
            access_key_secret: options.access_key_secret,
            security_token: options.security_token,
        };
        let shared = Arc::new(Shared {
            region: options
                .region
                .strip_prefix("oss-")
                .unwrap_or(&options.region)
                .to_owned(),
            bucket: options.bucket,
            accept_v1: options.accept_v1,
            limits: Limits {
                max_put_bytes: options.max_put_bytes,
                min_part_bytes: options.min_part_bytes,
            },
            keyring: Keyring::new(credentials.clone()),
            clock,
            store,
            log: RequestLog::default(),
            faults: Faults::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        tracing::debug!(%address, "OSS server started");
        Ok(Self {
            shared,
            address,
            credentials,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`: buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://oss.localhost:PORT`: buckets are in the host, as OSS wants it. Not every resolver knows names
    /// under `localhost`; give the client [`Self::address`] to connect to.
    pub fn virtual_host_endpoint(&self) -> String {
        format!("http://oss.localhost:{}", self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The region, without the `oss-` in front.
    pub fn region(&self) -> &str {
        &self.shared.region
    }

    /// The bucket that exists from the start.
    pub fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    /// The first accepted key's id.
    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    /// The first accepted key's secret.
    pub fn access_key_secret(&self) -> &str {
        &self.credentials.access_key_secret
    }

    /// The security token that must come with the first key.
    pub fn security_token(&self) -> Option<&str> {
        self.credentials.security_token.as_deref()
    }

    /// Accepts another key pair from now on.
    pub fn add_credentials(&self, credentials: OssCredentials) {
        self.shared.keyring.add(credentials, Timestamp::MAX);
    }

    /// Accepts a temporary key pair until `expires` by this server's clock, then refuses it with
    /// `SecurityTokenExpired`.
    pub fn add_temporary_credentials(&self, credentials: OssCredentials, expires: Timestamp) {
        self.shared.keyring.add(credentials, expires);
    }

    pub(crate) fn handle(&self) -> ServerHandle {
        ServerHandle(Arc::clone(&self.shared))
    }

    /// Refuses this key with `SecurityTokenExpired` from now on.
    pub fn expire_credentials(&self, access_key_id: &str) {
        self.shared.keyring.expire(access_key_id);
    }

    /// Sets the server's clock this far from the real one; negative is behind.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.shared.clock.set_offset(offset);
    }

    /// The requests so far (the last 20,000), in the order in which they were answered.
    pub fn requests(&self) -> Vec<OssRequestRecord> {
        self.shared.log.all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Multipart uploads that were neither completed nor aborted, in all buckets.
    pub fn uploads_open(&self) -> usize {
        self.shared
            .store
            .lock()
            .values()
            .map(|bucket| bucket.uploads.len())
            .sum()
    }

    /// Every object in every bucket, in order.
    pub fn objects(&self) -> Vec<OssObjectInfo> {
        let buckets = self.shared.store.lock();
        let all = buckets
            .iter()
            .flat_map(|(name, b)| b.objects.iter().map(move |(key, object)| (name, key, object)));
        all.map(|(bucket, key, object)| OssObjectInfo {
            bucket: bucket.clone(),
            key: key.clone(),
            size: object.meta.size,
            etag: object.meta.etag.clone(),
            crc64: object.meta.crc64,
            object_type: object.meta.kind,
            headers: object.meta.headers.clone(),
            acl: object.meta.acl.clone(),
        })
        .collect()
    }

    /// An object's bytes in the first bucket.
    pub fn object_bytes(&self, key: &str) -> Option<Bytes> {
        let object = self.shared.store.object(&self.shared.bucket, key).ok()?;
        Some(Content::from_chunks(object.chunks.clone()).to_bytes())
    }

    /// Lets something go wrong with the next matching request.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Takes back the faults that have not hit.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// How many faults have not hit yet.
    pub fn faults_pending(&self) -> u32 {
        self.shared.faults.pending()
    }

    /// The environment that points any Zhuji service, or an OSS client, at this server: lines for a shell.
    pub fn export_lines(&self) -> String {
        let mut lines = vec![
            format!("export OSS_REGION={}", self.region()),
            format!("export OSS_ENDPOINT={}", self.endpoint()),
            format!("export OSS_BUCKET={}", self.bucket()),
            format!("export OSS_ACCESS_KEY_ID={}", self.access_key_id()),
            format!("export OSS_ACCESS_KEY_SECRET={}", self.access_key_secret()),
        ];
        if let Some(token) = self.security_token() {
            lines.push(format!("export OSS_SECURITY_TOKEN={token}"));
        }
        lines.join("\n") + "\n"
    }

    /// Stops: open connections are cut, the port is free afterwards.
    pub async fn stop(mut self) {
        self.task.abort();
        // The task was told to end; that it did is all there is to know.
        let _ = (&mut self.task).await;
    }
}

impl Drop for OssServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
