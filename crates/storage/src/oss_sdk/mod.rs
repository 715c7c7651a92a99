//! Alibaba Cloud OSS through the `aliyun-oss-rust-sdk` crate.

mod answer;
mod guard;

use std::{fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use aliyun_oss_rust_sdk::{
    error::OssError,
    metadata::ObjectMetadata,
    oss::OSS,
    request::{RequestBuilder, RequestType},
    url::UrlApi,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};

pub(crate) use self::guard::mistakes;
use self::guard::{LARGEST, buffered, can_address, too_large, unsupported};
use crate::{
    Body, ByteStream, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata,
    PutOptions, Result, RetryPolicy, SignMethod, SignOptions, SignedUrl, StorageAdapter, StorageConfig,
    Stored,
    crc::crc64,
    oss::endpoint::{self, Endpoint},
};

/// Longest wait for an answer, besides what a slow network needs for the bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The slowest transfer that is still given time to end, in bytes per second.
const SLOWEST: u64 = 64 * 1024;
/// How often a read is begun again because the object was replaced in the middle of it.
const READS: usize = 3;

/// Keeps objects in a bucket of Alibaba Cloud OSS through the `aliyun-oss-rust-sdk` crate (`OSS_CLIENT=sdk`, feature
/// `oss-sdk`). [`OssAdapter`](crate::OssAdapter) is the one to use; this one is for comparison, and for who must use that crate.
///
/// What it can't do is [`ErrorKind::Unsupported`]: lists, copies, ranges, `create_only`, metadata, a download name that
/// is stored with the object, keys the crate would change on the way (with `%`, `?`, `#`, `\` or a space at the end), empty
/// objects, and those over 64 MiB, because they are held in memory whole, twice while they are stored. Signatures are V1, which OSS
/// refuses to new accounts and buckets; credentials are a plain access key; public prefixes are refused at the start.
///
/// Each request opens a connection of its own. A read is two requests (what is known of the object, then the bytes) and so
/// is a write (the bytes, then what OSS made of them), so that CRC-64 can be compared both ways; the object's own
/// metadata is not read. A missing bucket looks like a missing object, except to [`check`](StorageAdapter::check).
pub struct OssSdkAdapter {
    sdk: OSS,
    bucket: String,
    /// Where traffic goes, without a final `/`.
    traffic: String,
    public: Endpoint,
}

impl OssSdkAdapter {
    /// An adapter from the settings; sends nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the variable.
    pub fn new(config: &StorageConfig) -> Result<Self> {
        if let Some((_, error)) = mistakes(config).into_iter().next() {
            return Err(error);
        }
        let oss = &config.oss;
        let missing = |variable: &str| Error::new(ErrorKind::Config, "configuration", variable, "is not set");
        let region = endpoint::region(oss.region.as_deref().ok_or_else(|| missing("OSS_REGION"))?)?;
        let bucket = endpoint::bucket(oss.bucket.as_deref().ok_or_else(|| missing("OSS_BUCKET"))?)?;
        let id = oss
            .access_key_id
            .as_ref()
            .ok_or_else(|| missing("OSS_ACCESS_KEY_ID"))?;
        let secret = oss
            .access_key_secret
            .as_ref()
            .ok_or_else(|| missing("OSS_ACCESS_KEY_SECRET"))?;
        let (traffic, public) = endpoint::endpoints(oss, config.public_url.as_ref(), &region, &bucket)?;
        let traffic = traffic.url("").trim_end_matches('/').to_owned();
        // Every request is given its address below; the SDK itself knows virtual-host style only.
        let sdk = OSS::new(
            id.expose().trim(),
            secret.expose().trim(),
            traffic.as_str(),
            bucket.as_str(),
        );
        tracing::warn!(
            bucket,
            "OSS_CLIENT=sdk: V1 signatures, a connection for every request, objects up to 64 MiB, no lists and no copies"
        );
        Ok(Self {
            sdk,
            bucket,
            traffic,
            public,
        })
    }

    fn request(&self) -> RequestBuilder {
        RequestBuilder::new().with_cdn(&self.traffic)
    }

    /// Refuses a key that the SDK would ask for under another name.
    fn key<'k>(&self, operation: &'static str, key: &'k Key) -> Result<&'k str> {
        if can_address(&self.traffic, key) {
            return Ok(key.as_str());
        }
        let why = "the SDK does not encode keys and would ask for another object";
        Err(unsupported(operation, key, why))
    }

    async fn head_of(&self, operation: &'static str, key: &Key) -> Result<Metadata> {
        let name = self.key(operation, key)?;
        let found = call(
            operation,
            key,
            0,
            self.sdk.get_object_metadata(name, self.request()),
        )
        .await?;
        metadata(key, &found).ok_or_else(|| {
            let why = "the answer does not say how long the object is";
            Error::new(ErrorKind::Unexpected, operation, key.as_str(), why).with_retryable(true)
        })
    }

    /// Stores bytes, and compares their checksum with that of what is stored now.
    async fn put_bytes(&self, key: &Key, bytes: &Bytes, options: &PutOptions) -> Result<Stored> {
        guard::check_size(key, bytes)?;
        let (name, size, crc) = (self.key("upload", key)?, bytes.len() as u64, crc64(bytes));
        let mut request = self.request();
        request.content_type.clone_from(&options.content_type);
        call(
            "upload",
            key,
            size,
            self.sdk.pub_object_from_buffer(name, bytes, request),
        )
        .await?;
        let stored = self.head_of("upload", key).await?;
        if stored.size != size || stored.crc64.is_some_and(|theirs| theirs != crc) {
            let why =
                "the object is not what was sent; it was damaged on the way or replaced in the same moment";
            return Err(Error::new(ErrorKind::Integrity, "upload", key.as_str(), why).with_retryable(true));
        }
        Ok(Stored::new(
            key.as_str(),
            size,
            stored.etag,
            Some(crc),
            self.public.url(key),
        ))
    }
}

impl fmt::Debug for OssSdkAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OssSdkAdapter")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageAdapter for OssSdkAdapter {
    fn name(&self) -> &'static str {
        "oss-sdk"
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        guard::check_put(key, options)?;
        match body.into_parts() {
            Ok(bytes) => self.put_bytes(key, &bytes, options).await,
            Err(stream) => {
                let bytes = buffered(stream, key).await?;
                // Only here the bytes of a stream are still known.
                let store = || self.put_bytes(key, &bytes, options);
                RetryPolicy::default().run(self.name(), store).await
            }
        }
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        if options.range.is_some() {
            return Err(unsupported(
                "download",
                key,
                "the SDK can't ask for a part of an object",
            ));
        }
        let name = self.key("download", key)?;
        for _ in 0..READS {
            let known = self.head_of("download", key).await?;
            if options
                .if_match
                .as_ref()
                .is_some_and(|etag| etag.trim_matches('"') != known.etag)
            {
                let why = "the object is not the one that was asked for any more";
                return Err(Error::new(ErrorKind::Changed, "download", key.as_str(), why));
            }
            if known.size > LARGEST {
                return Err(too_large("download", key));
            }
            let bytes = call(
                "download",
                key,
                known.size,
                self.sdk.get_object(name, self.request()),
            )
            .await?;
            // The SDK keeps no header of this answer: only the bytes tell whether they are those of `known`.
            if bytes.len() as u64 == known.size && known.crc64.is_none_or(|crc| crc == crc64(&bytes)) {
                return Ok(Download::new(known, None, ByteStream::once(bytes.into())));
            }
        }
        let why = "the bytes are not those of the object: they were damaged on the way, or it is replaced all the time";
        Err(Error::new(ErrorKind::Integrity, "download", key.as_str(), why).with_retryable(true))
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.head_of("metadata", key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let name = self.key("delete", key)?;
        match call("delete", key, 0, self.sdk.delete_object(name, self.request())).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    async fn copy(&self, from: &Key, _to: &Key) -> Result<Stored> {
        Err(unsupported("copy", from, "the SDK can't copy"))
    }

    async fn list(&self, prefix: &str, _options: &ListOptions) -> Result<ListPage> {
        Err(unsupported("list", prefix, "the SDK can't list"))
    }

    fn url(&self, key: &str) -> String {
        self.public.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        // Whole seconds, rounded up.
        let expires = options.expires.as_secs() + u64::from(options.expires.subsec_nanos() > 0);
        let seconds = i64::try_from(expires).unwrap_or(i64::MAX);
        let mut request = RequestBuilder::new()
            .with_cdn(self.public.url("").trim_end_matches('/'))
            .with_expire(seconds);
        if let Some(disposition) = options.response_disposition() {
            request = request.parameters_put("response-content-disposition", &disposition);
        }
        if let Some(content_type) = &options.response_content_type {
            request = request.parameters_put("response-content-type", content_type);
        }
        let mut to_send = Vec::new();
        if let Some(content_type) = &options.content_type {
            to_send.push(("content-type".to_owned(), content_type.clone()));
            request = request.with_content_type(content_type);
        }
        // Here the SDK encodes the key.
        let url = match options.method {
            SignMethod::Put => self.sdk.sign_upload_url(key.as_str(), &request),
            method => {
                request.method = match method {
                    SignMethod::Head => RequestType::Head,
                    _ => RequestType::Get,
                };
                self.sdk.sign_download_url(key.as_str(), &request)
            }
        };
        let end = Timestamp::now().checked_add(SignedDuration::from_secs(seconds));
        let end = end.unwrap_or(Timestamp::MAX);
        Ok(SignedUrl::new(url, options.method, to_send, end))
    }

    /// Asks for an object that nobody stores, as [`OssAdapter`](crate::OssAdapter) does.
    async fn check(&self) -> Result<()> {
        let asked = self.sdk.get_object(".zhuji/check", self.request());
        match call("check", &self.bucket, 0, asked).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Runs one call of the SDK with a deadline, which it has not itself; and takes its panics (at a header that is not
/// ASCII, for one) for failures.
async fn call<T>(
    operation: &'static str,
    subject: &str,
    bytes: u64,
    call: impl Future<Output = Result<T, OssError>>,
) -> Result<T> {
    let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST);
    match tokio::time::timeout(patience, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(result)) => result.map_err(|error| answer::error(operation, subject, error)),
        Ok(Err(_)) => {
            let why = "the SDK can't read the answer, and panicked";
            Err(Error::new(ErrorKind::Unexpected, operation, subject, why))
        }
        Err(_) => {
            let why = format!("no answer within {} s", patience.as_secs());
            Err(Error::new(ErrorKind::Timeout, operation, subject, why))
        }
    }
}

/// What the SDK tells of an object: not the caller's own metadata, which it reads and throws away.
fn metadata(key: &Key, found: &ObjectMetadata) -> Option<Metadata> {
    let size = found.content_length()?.parse().ok()?;
    let modified = found
        .last_modified()
        .and_then(|time| Timestamp::from_second(time.timestamp()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let mut metadata = Metadata::new(key.as_str(), size, found.etag().unwrap_or_default(), modified);
    metadata.crc64 = found.crc64().and_then(|text| text.trim().parse().ok());
    if let Some(content_type) = found.content_type() {
        metadata.content_type = content_type;
    }
    metadata.content_disposition = found.content_disposition();
    Some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_sdk_is_an_error() {
        let panicking = async {
            std::panic::resume_unwind(Box::new("a header that is not ASCII"));
            #[expect(unreachable_code, reason = "gives the future its type")]
            Ok(())
        };
        let error = call("metadata", "k", 0, panicking).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Unexpected, false)
        );
    }
}
