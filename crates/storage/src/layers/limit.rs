//! A bound on what runs at once.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Body, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions, Result,
    RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules, Stored, Swept,
    UploadFileOptions, UrlSigner,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Lets so many operations run at once; the others wait for up to 30 s. Uploads from streams, which last as long as
/// their source, have slots of their own, so that slow senders can't keep quick calls out. A download needs its slot
/// only until it is open: whoever reads one object while writing another would else wait for himself.
#[derive(Debug)]
pub struct LimitLayer {
    inner: Arc<dyn StorageAdapter>,
    calls: Semaphore,
    streams: Semaphore,
}

impl LimitLayer {
    /// At most `at_once` operations, and as many streaming uploads.
    pub fn new(inner: Arc<dyn StorageAdapter>, at_once: usize) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner,
            calls: Semaphore::new(at_once),
            streams: Semaphore::new(at_once),
        }
    }

    async fn slot<'a>(
        &'a self,
        semaphore: &'a Semaphore,
        operation: &'static str,
        subject: &str,
    ) -> Result<SemaphorePermit<'a>> {
        // The common case needs no timer.
        if let Ok(permit) = semaphore.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout(PATIENCE, semaphore.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let why = format!("waited {} s for a free slot", PATIENCE.as_secs());
                Err(Error::new(ErrorKind::Timeout, operation, subject, why))
            }
        }
    }
}

#[async_trait]
impl StorageAdapter for LimitLayer {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let slots = if body.is_stream() {
            &self.streams
        } else {
            &self.calls
        };
        let _slot = self.slot(slots, "upload", key).await?;
        self.inner.put(key, body, options).await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        let _slot = self.slot(&self.streams, "upload", key).await?;
        self.inner.upload_file(key, path, options).await
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let _slot = self.slot(&self.calls, "download", key).await?;
        self.inner.get(key, options).await
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        let _slot = self.slot(&self.calls, "metadata", key).await?;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let _slot = self.slot(&self.calls, "delete", key).await?;
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        match self.slot(&self.calls, "delete", "many objects").await {
            Ok(_slot) => self.inner.delete_many(keys).await,
            Err(_) => {
                let busy = |key: &Key| {
                    Err(Error::new(
                        ErrorKind::Timeout,
                        "delete",
                        key.as_str(),
                        "no slot became free in time",
                    ))
                };
                keys.iter().map(busy).collect()
            }
        }
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let _slot = self.slot(&self.calls, "copy", from).await?;
        self.inner.copy(from, to).await
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        let _slot = self.slot(&self.calls, "list", prefix).await?;
        self.inner.list(prefix, options).await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.inner.signed_url(key, options).await
    }

    async fn check(&self) -> Result<()> {
        // Not behind the queue: a busy store is not an ill one.
        self.inner.check().await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        let _slot = self.slot(&self.calls, "rules", self.name()).await?;
        self.inner.rules(sections).await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        let _slot = self.slot(&self.calls, "rules", self.name()).await?;
        self.inner.set_rules(rules).await
    }

    fn rules_support(&self) -> RulesSupport {
        self.inner.rules_support()
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        let _slot = self.slot(&self.calls, "sweep", self.name()).await?;
        self.inner.sweep(dry_run).await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}
