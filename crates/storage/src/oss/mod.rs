//! Alibaba Cloud OSS.

pub(crate) mod answer;
mod ask;
mod bucket;
mod client;
mod copy;
mod credentials;
mod credentials_uri;
mod ecs;
pub(crate) mod endpoint;
mod get;
mod list;
mod multipart;
mod oidc;
mod orphans;
mod parts;
mod pieces;
mod put;
mod refresh;
mod resume;
mod sign;
mod transport;
mod upload_file;
mod xml;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, header};

use self::{
    client::{Client, OBJECT_ACL, PUBLIC_READ, Payload, Request, http_client},
    put::Receipt,
    sign::{Query, Signer},
};
pub use self::{
    credentials::{Credentials, CredentialsProvider, StaticCredentials},
    credentials_uri::CredentialsUri,
    ecs::EcsRole,
    oidc::OidcRole,
    refresh::{CredentialsSource, RefreshingCredentials},
};
use crate::{
    Body, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, OssClientKind,
    OssConfig, PutOptions, Result, RetryPolicy, RulesSection, RulesSupport, SignMethod, SignOptions,
    SignedUrl, StorageAdapter, StorageConfig, StorageRules, Stored, UploadFileOptions,
};

/// Keeps objects in a bucket of Alibaba Cloud OSS.
///
/// One HTTP client with one pool of connections; V4 signatures (V1 by setting); streams of any length with bounded memory,
/// in parts when they are long, and nothing left behind when they fail; CRC-64 compared both ways; 5 s to
/// connect and 30 s of silence, but no limit on a whole transfer.
///
/// Keys below `STORAGE_PUBLIC_PREFIXES` are stored with the access control `public-read`, everything else with that of the
/// bucket, which should be `private`. The bucket (and the account) must not block public access, and the credentials
/// need the right `oss:PutObjectAcl`. What was stored before the setting changed keeps its access.
///
/// Single requests are sent once: the [retry layer](crate::layers::RetryLayer) repeats them. The requests of an upload
/// from a stream are repeated here, because only here their bytes are still known.
pub struct OssAdapter {
    client: Arc<Client>,
    retry: RetryPolicy,
}

impl OssAdapter {
    /// An adapter from the settings; sends nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the variable.
    pub fn new(config: &StorageConfig) -> Result<Self> {
        Self::build(config, None)
    }

    /// An adapter with credentials from somewhere else.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the variable.
    pub fn with_credentials(
        config: &StorageConfig,
        credentials: Arc<dyn CredentialsProvider>,
    ) -> Result<Self> {
        Self::build(config, Some(credentials))
    }

    fn build(config: &StorageConfig, credentials: Option<Arc<dyn CredentialsProvider>>) -> Result<Self> {
        let oss = &config.oss;
        let missing = |variable: &str| Error::new(ErrorKind::Config, "configuration", variable, "is not set");
        client_kind(oss)?;
        let region = endpoint::region(oss.region.as_deref().ok_or_else(|| missing("OSS_REGION"))?)?;
        let bucket = endpoint::bucket(oss.bucket.as_deref().ok_or_else(|| missing("OSS_BUCKET"))?)?;
        let (traffic, public) = endpoint::endpoints(oss, config.public_url.as_ref(), &region, &bucket)?;
        let http = http_client(&traffic)?;
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => credentials::from_config(oss, &region)?,
        };
        let signer = Signer::new(oss.signature_version, &region, &bucket);
        let client = Arc::new(Client::new(
            http,
            traffic,
            public,
            signer,
            credentials,
            config.public_prefixes.clone(),
        ));
        Ok(Self {
            client,
            retry: RetryPolicy::default(),
        })
    }

    fn stored(&self, key: &Key, receipt: Receipt) -> Stored {
        Stored::new(
            key.as_str(),
            receipt.size,
            receipt.etag,
            Some(receipt.crc64),
            self.client.public_url(key),
        )
    }
}

/// Refuses a client that this build doesn't contain.
fn client_kind(oss: &OssConfig) -> Result<()> {
    match oss.client {
        OssClientKind::Sdk if !cfg!(feature = "oss-sdk") => {
            let why = "this build does not contain the `aliyun-oss-rust-sdk` adapter";
            let error = Error::new(ErrorKind::Config, "configuration", "OSS_CLIENT=sdk", why);
            Err(error.with_hint("leave OSS_CLIENT at `native`, or build with the feature `oss-sdk`"))
        }
        OssClientKind::Native | OssClientKind::Sdk => Ok(()),
    }
}

/// Everything in the settings that [`OssAdapter::new`] would refuse one by one, by variable; what isn't set is passed over.
pub(crate) fn mistakes(oss: &OssConfig) -> Vec<(&'static str, Error)> {
    // An endpoint is judged also where region or bucket can't be used.
    let (mut region, mut bucket) = ("cn-hangzhou".to_owned(), "bucket".to_owned());
    let mut mistakes = Vec::new();
    let mut note =
        |variable, result: Result<()>| mistakes.extend(result.err().map(|error| (variable, error)));
    note("OSS_CLIENT", client_kind(oss));
    if let Some(text) = &oss.region {
        note("OSS_REGION", endpoint::region(text).map(|good| region = good));
    }
    if let Some(text) = &oss.bucket {
        note("OSS_BUCKET", endpoint::bucket(text).map(|good| bucket = good));
    }
    if oss.endpoint.is_some() {
        note(
            "OSS_ENDPOINT",
            endpoint::endpoints(oss, None, &region, &bucket).map(drop),
        );
    }
    mistakes
}

impl fmt::Debug for OssAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OssAdapter")
            .field("bucket", &self.client.bucket())
            .field("region", &self.client.region())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageAdapter for OssAdapter {
    fn name(&self) -> &'static str {
        "oss"
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let length = body.length();
        let receipt = match body.into_parts() {
            Ok(bytes) => put::whole(&self.client, key, Payload::Bytes(bytes), options).await?,
            Err(stream) => put::stream(&self.client, key, stream, length, options, self.retry).await?,
        };
        Ok(self.stored(key, receipt))
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        let receipt = upload_file::upload_file(&self.client, key, path, options, self.retry).await?;
        Ok(self.stored(key, receipt))
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        get::open(&self.client, key, options, self.retry).await
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        get::head(&self.client, key, "metadata").await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        list::delete(&self.client, key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        list::delete_many(&self.client, keys).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let target = copy::copy(&self.client, from, to, self.retry, copy::AT_ONCE).await?;
        Ok(Stored::new(
            to.as_str(),
            target.size,
            target.etag,
            target.crc64,
            self.client.public_url(to),
        ))
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        list::list(&self.client, prefix, options).await
    }

    fn url(&self, key: &str) -> String {
        self.client.public_url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        let mut query = Query::new();
        if let Some(disposition) = options.response_disposition() {
            query.push(("response-content-disposition", disposition));
        }
        if let Some(content_type) = &options.response_content_type {
            query.push(("response-content-type", content_type.clone()));
        }
        let mut headers = HeaderMap::new();
        let mut to_send = Vec::new();
        if let (SignMethod::Put, Some(content_type)) = (options.method, &options.content_type) {
            let value = HeaderValue::from_str(content_type).map_err(|error| {
                let why = "the content type can't be sent as a header";
                Error::new(ErrorKind::InvalidInput, "sign url", key.as_str(), why).with_source(error)
            })?;
            headers.insert(header::CONTENT_TYPE, value);
            to_send.push(("content-type".to_owned(), content_type.clone()));
        }
        if options.method == SignMethod::Put && self.client.is_public(key) {
            headers.insert(OBJECT_ACL, HeaderValue::from_static(PUBLIC_READ));
            to_send.push((OBJECT_ACL.to_owned(), PUBLIC_READ.to_owned()));
        }
        // Whole seconds, rounded up.
        let expires = options.expires.as_secs() + u64::from(options.expires.subsec_nanos() > 0);
        let method = options.method.as_str();
        let (url, end) = self.client.presign(method, key, query, &headers, expires).await?;
        Ok(SignedUrl::new(url, options.method, to_send, end))
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        bucket::rules(&self.client, sections).await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        bucket::set_rules(&self.client, rules).await
    }

    fn rules_support(&self) -> RulesSupport {
        RulesSupport::ALL
    }

    /// Asks for an object that nobody stores: "no such key" proves network, name, region, clock and signature, and needs no
    /// right but the one to read.
    async fn check(&self) -> Result<()> {
        let mut request = Request::new("check", Method::GET, ".zhuji/check");
        request.subject = self.client.bucket().to_owned();
        match self.client.send(&request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
