//! The contenders: ours as the platform builds it, and each peer as its own documentation says.

use std::time::Duration;

use aliyun_oss_rust_sdk::{oss::OSS, request::RequestBuilder};
use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use opendal::Operator;
use ossify::ops::object::base::{GetObjectOperations, GetObjectParams, PutObjectOperations};
use zhuji_storage::{PutOptions, Storage, StorageConfig, StorageFactory};

use super::server::BYTE;

const BUCKET: &str = "demo";
const REGION: &str = "cn-hangzhou";
const ID: &str = "LTAI5tBench000000000";
const SECRET: &str = "benchbenchbenchbenchbenchbench";
/// What streams are made of.
const PIECE: usize = 64 * 1024;

pub(super) enum Client {
    /// V4 signatures, CRC-64 both ways, deadlines, retries, metrics: everything the factory adds.
    Ours(Storage),
    Sdk(OSS, String),
    Opendal(Operator),
    Ossify(ossify::Client),
    /// `reqwest` alone: nothing is signed, nothing is checked. The floor.
    Bare(reqwest::Client, String),
}

impl Client {
    pub(super) async fn new(name: &str, endpoint: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "ours" => {
                crate::suite::record_metrics()?;
                let config: StorageConfig = zhuji_config::load_from_pairs([
                    ("STORAGE_TYPE", "oss"),
                    ("OSS_REGION", REGION),
                    ("OSS_BUCKET", BUCKET),
                    ("OSS_ENDPOINT", endpoint),
                    ("OSS_ACCESS_KEY_ID", ID),
                    ("OSS_ACCESS_KEY_SECRET", SECRET),
                ])
                .map_err(|report| anyhow::anyhow!("{report}"))?;
                Self::Ours(StorageFactory::new().build(&config).await?)
            }
            "aliyun-oss-rust-sdk" => Self::Sdk(
                OSS::new(ID, SECRET, endpoint, BUCKET),
                format!("{endpoint}/{BUCKET}"),
            ),
            "opendal" => {
                opendal_http_transport_reqwest::install_default();
                let service = opendal::services::Oss::default()
                    .bucket(BUCKET)
                    .endpoint(endpoint)
                    .addressing_style("path")
                    .access_key_id(ID)
                    .access_key_secret(SECRET);
                Self::Opendal(Operator::new(service)?)
            }
            "ossify" => Self::Ossify(
                ossify::Client::builder()
                    .endpoint(endpoint)
                    .region(REGION)
                    .bucket(BUCKET)
                    .access_key_id(ID)
                    .access_key_secret(SECRET)
                    .url_style(ossify::UrlStyle::Path)
                    .http_timeout(Duration::from_secs(600))
                    .build()?,
            ),
            "reqwest" => Self::Bare(reqwest::Client::new(), format!("{endpoint}/{BUCKET}")),
            other => anyhow::bail!("there is no contender {other}"),
        })
    }

    pub(super) async fn put(&self, key: String, bytes: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Ours(storage) => drop(storage.upload(&key, bytes).await?),
            Self::Sdk(oss, base) => {
                let request = RequestBuilder::new().with_cdn(base);
                oss.pub_object_from_buffer(key, &bytes, request).await?;
            }
            Self::Opendal(operator) => drop(operator.write(&key, bytes).await?),
            Self::Ossify(client) => drop(client.put_object(key, bytes, None).await?),
            Self::Bare(client, base) => {
                let answer = client.put(format!("{base}/{key}")).body(bytes).send().await?;
                answer.error_for_status()?.bytes().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn get(&self, key: String, size: u64) -> anyhow::Result<()> {
        let length = match self {
            Self::Ours(storage) => storage.download(&key).await?.len(),
            Self::Sdk(oss, base) => oss
                .get_object(key, RequestBuilder::new().with_cdn(base))
                .await?
                .len(),
            Self::Opendal(operator) => operator.read(&key).await?.to_bytes().len(),
            Self::Ossify(client) => client.get_object(key, GetObjectParams::new(), None).await?.len(),
            Self::Bare(client, base) => {
                let answer = client.get(format!("{base}/{key}")).send().await?;
                answer.error_for_status()?.bytes().await?.len()
            }
        };
        ensure!(length as u64 == size, "{length} bytes arrived, not {size}");
        Ok(())
    }

    /// From a stream of unknown length.
    pub(super) async fn put_stream(&self, key: String, size: u64) -> anyhow::Result<()> {
        match self {
            Self::Ours(storage) => drop(
                storage
                    .upload_stream(&key, pieces(size), PutOptions::new())
                    .await?,
            ),
            Self::Opendal(operator) => {
                // 8 MiB × 4, the parts that its users are advised to take; without `concurrent` it sends one at a time.
                let writer = operator.writer_with(&key).chunk(8 << 20).concurrent(4);
                let mut writer = writer.await?;
                let mut pieces = std::pin::pin!(pieces(size));
                while let Some(piece) = pieces.try_next().await? {
                    writer.write(piece).await?;
                }
                writer.close().await?;
            }
            Self::Ossify(client) => drop(client.put_object_stream(key, pieces(size), None).await?),
            Self::Bare(client, base) => {
                let body = reqwest::Body::wrap_stream(pieces(size));
                let answer = client.put(format!("{base}/{key}")).body(body).send().await?;
                answer.error_for_status()?.bytes().await?;
            }
            Self::Sdk(..) => anyhow::bail!("it has no streams"),
        }
        Ok(())
    }

    /// Without keeping what was read, where the contender can do that.
    pub(super) async fn get_stream(&self, key: String, size: u64) -> anyhow::Result<()> {
        let mut length = 0;
        match self {
            Self::Ours(storage) => {
                let mut stream = storage.download_stream(&key, ()).await?.stream;
                while let Some(piece) = stream.try_next().await? {
                    length += piece.len() as u64;
                }
            }
            Self::Opendal(operator) => {
                let mut stream = operator.reader(&key).await?.into_bytes_stream(..).await?;
                while let Some(piece) = stream.try_next().await? {
                    length += piece.len() as u64;
                }
            }
            Self::Bare(client, base) => {
                let answer = client
                    .get(format!("{base}/{key}"))
                    .send()
                    .await?
                    .error_for_status()?;
                let mut stream = answer.bytes_stream();
                while let Some(piece) = stream.next().await {
                    length += piece?.len() as u64;
                }
            }
            // It has no stream: the object is read into memory.
            Self::Ossify(_) => return self.get(key, size).await,
            Self::Sdk(..) => anyhow::bail!("it has no streams"),
        }
        ensure!(length == size, "{length} bytes arrived, not {size}");
        Ok(())
    }

    /// Many objects, ten at a time: in a sliding window, or in batches of which each waits for its slowest.
    pub(super) async fn put_many(
        &self,
        keys: Vec<String>,
        bytes: Bytes,
        in_batches: bool,
    ) -> anyhow::Result<()> {
        let Self::Ours(storage) = self else {
            anyhow::bail!("this is measured with ours only");
        };
        if in_batches {
            for batch in keys.chunks(10) {
                let uploads = batch.iter().map(|key| storage.upload(key, bytes.clone()));
                for result in futures_util::future::join_all(uploads).await {
                    result?;
                }
            }
        } else {
            let files = keys.into_iter().map(|key| (key, bytes.clone()));
            for result in storage.upload_many(files).await {
                result.context("upload_many")?;
            }
        }
        Ok(())
    }
}

/// A stream of so many bytes, each piece freshly made as a socket or a file would make it.
fn pieces(size: u64) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::iter((0..size.div_ceil(PIECE as u64)).map(move |index| {
        let length = (size - index * PIECE as u64).min(PIECE as u64);
        Ok(Bytes::from(vec![BYTE; length as usize]))
    }))
}
