//! Objects in memory: for tests and for the smallest demonstrations.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    Body, ByteStream, ContentRange, Download, Entry, Error, ErrorKind, GetOptions, Key, ListOptions,
    ListPage, Metadata, PutOptions, Result, RulesSection, SignOptions, SignedUrl, StorageAdapter,
    StorageRules, Stored, Swept, UrlSigner, crc::crc64, listing::PageBuilder,
};

/// Keeps objects in memory until the last handle is dropped. Everything that other adapters do works here, signed URLs
/// included, so a test written against it means something.
pub struct MemoryAdapter {
    objects: RwLock<BTreeMap<Key, Arc<Object>>>,
    rules: RwLock<StorageRules>,
    signer: Arc<UrlSigner>,
}

struct Object {
    bytes: Bytes,
    metadata: Metadata,
}

impl MemoryAdapter {
    /// An empty store whose signed URLs lead to `http://localhost:3001/uploads`.
    pub fn new() -> Self {
        let signer = UrlSigner::new(random_key(), "http://localhost:3001/uploads");
        Self::with_signer(signer.expect("a random key of 32 bytes is long enough"))
    }

    /// An empty store with this signer for its URLs.
    pub fn with_signer(signer: UrlSigner) -> Self {
        Self {
            objects: RwLock::default(),
            rules: RwLock::default(),
            signer: Arc::new(signer),
        }
    }

    // The map is valid after every statement, so a panic elsewhere while it was locked has done it no harm.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Arc<Object>>> {
        self.objects
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Key, Arc<Object>>> {
        self.objects
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn find(&self, operation: &'static str, key: &Key) -> Result<Arc<Object>> {
        let found = self.read().get(key).cloned();
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                operation,
                key.as_str(),
                "there is no such object",
            )
        })
    }

    fn store(&self, object: Object, key: &Key, create_only: bool) -> Result<Stored> {
        let metadata = &object.metadata;
        let (size, etag, crc64) = (metadata.size, metadata.etag.clone(), metadata.crc64);
        let mut objects = self.write();
        if create_only && objects.contains_key(key) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "upload",
                key.as_str(),
                "the object exists",
            ));
        }
        objects.insert(key.clone(), Arc::new(object));
        Ok(Stored::new(key.as_str(), size, etag, crc64, self.signer.url(key)))
    }
}

/// 32 bytes from the operating system's random source.
pub(crate) fn random_key() -> Vec<u8> {
    // A v4 UUID has 122 random bits; the digest of four of them has 256 good ones.
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(uuid::Uuid::new_v4().as_bytes());
    }
    digest.finalize().to_vec()
}

impl Default for MemoryAdapter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAdapter")
            .field("objects", &self.read().len())
            .finish()
    }
}

#[async_trait]
impl StorageAdapter for MemoryAdapter {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let bytes = match body.into_parts() {
            // A small slice of a large buffer would keep all of it alive.
            Ok(bytes) => Bytes::copy_from_slice(&bytes),
            Err(stream) => stream.into_bytes().await?,
        };
        let crc = crc64(&bytes);
        let size = bytes.len() as u64;
        let mut metadata = Metadata::new(
            key.as_str(),
            size,
            format!("{crc:016x}-{size:x}"),
            Timestamp::now(),
        );
        metadata.crc64 = Some(crc);
        if let Some(content_type) = &options.content_type {
            metadata.content_type.clone_from(content_type);
        }
        metadata
            .content_disposition
            .clone_from(&options.content_disposition);
        metadata.user.clone_from(&options.metadata);
        self.store(Object { bytes, metadata }, key, options.create_only)
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let object = self.find("download", key)?;
        let metadata = object.metadata.clone();
        if options
            .if_match
            .as_ref()
            .is_some_and(|etag| *etag != metadata.etag)
        {
            return Err(Error::new(
                ErrorKind::Changed,
                "download",
                key.as_str(),
                "the object has been replaced",
            ));
        }
        let Some(range) = options.range else {
            return Ok(Download::new(
                metadata,
                None,
                ByteStream::once(object.bytes.clone()),
            ));
        };
        let range = range.resolve("download", key, metadata.size)?;
        let bytes = object.bytes.slice(range.start as usize..range.end as usize);
        let part = ContentRange {
            start: range.start,
            end: range.end,
            total: metadata.size,
        };
        Ok(Download::new(metadata, Some(part), ByteStream::once(bytes)))
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        Ok(self.find("metadata", key)?.metadata.clone())
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.write().remove(key);
        Ok(())
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let source = self.find("copy", from)?;
        let mut metadata = source.metadata.clone();
        to.as_str().clone_into(&mut metadata.key);
        metadata.last_modified = Timestamp::now();
        self.store(
            Object {
                bytes: source.bytes.clone(),
                metadata,
            },
            to,
            false,
        )
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        let objects = self.read();
        let start = options.after.as_deref().filter(|after| *after >= prefix);
        let range = match start {
            Some(after) => (Bound::Excluded(after), Bound::Unbounded),
            None => (Bound::Included(prefix), Bound::Unbounded),
        };
        let mut page = PageBuilder::new(prefix, options);
        for (key, object) in objects.range::<str, _>(range) {
            if !key.starts_with(prefix) {
                break;
            }
            let metadata = &object.metadata;
            let entry = || {
                Entry::new(
                    key.as_str(),
                    metadata.size,
                    metadata.etag.clone(),
                    metadata.last_modified,
                )
            };
            if !page.offer(key, entry) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn url(&self, key: &str) -> String {
        self.signer.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        Ok(self.signer.sign(key, options))
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        let rules = self
            .rules
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(rules.clone().only(sections))
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        let mut kept = self
            .rules
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.replace(rules);
        kept.versioning = None;
        Ok(())
    }

    /// Only when asked: what is in memory goes with the process anyway.
    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        let rules = self.rules(&[RulesSection::Lifecycle]).await?;
        let (rules, now) = (rules.lifecycle.unwrap_or_default(), Timestamp::now());
        let mut swept = Swept {
            dry_run,
            ..Swept::default()
        };
        self.write().retain(|key, object| {
            let metadata = &object.metadata;
            let expired = rules
                .iter()
                .any(|rule| rule.has_expired(key, metadata.last_modified, now));
            if expired {
                swept.note(key, metadata.size);
            }
            !expired || dry_run
        });
        Ok(swept)
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        Some(Arc::clone(&self.signer))
    }
}
