//! Trying again.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{
    Body, Download, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions, Result, RetryPolicy,
    RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules, Stored, Swept,
    UploadFileOptions, UrlSigner,
};

/// Repeats what failed with a retryable error. An upload is repeated only if its bytes are in memory, and not if it may
/// only create: when the answer to a first attempt was lost, a second one would fail on its own success.
#[derive(Debug)]
pub struct RetryLayer {
    inner: Arc<dyn StorageAdapter>,
    policy: RetryPolicy,
    name: &'static str,
}

impl RetryLayer {
    /// Repeats the operations of `inner`.
    pub fn new(inner: Arc<dyn StorageAdapter>, policy: RetryPolicy) -> Self {
        let name = inner.name();
        Self { inner, policy, name }
    }
}

#[async_trait]
impl StorageAdapter for RetryLayer {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        if options.create_only {
            return self.inner.put(key, body, options).await;
        }
        let Some(bytes) = body.bytes().cloned() else {
            return self.inner.put(key, body, options).await;
        };
        self.policy
            .run(self.name, || self.inner.put(key, bytes.clone().into(), options))
            .await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        // The adapter repeats its parts; all of it again would be too much.
        self.inner.upload_file(key, path, options).await
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        self.policy.run(self.name, || self.inner.get(key, options)).await
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.policy.run(self.name, || self.inner.head(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.policy.run(self.name, || self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut results = self.inner.delete_many(keys).await;
        // Only the keys that failed, each by itself and with the policy's patience.
        for (key, result) in keys.iter().zip(&mut results) {
            if result.as_ref().is_err_and(crate::Error::is_retryable) {
                *result = self.delete(key).await;
            }
        }
        results
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.policy.run(self.name, || self.inner.copy(from, to)).await
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        self.policy
            .run(self.name, || self.inner.list(prefix, options))
            .await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.policy
            .run(self.name, || self.inner.signed_url(key, options))
            .await
    }

    async fn check(&self) -> Result<()> {
        // The monitor asks again soon, and it wants to know about one failure too.
        self.inner.check().await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        self.policy.run(self.name, || self.inner.rules(sections)).await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        self.policy.run(self.name, || self.inner.set_rules(rules)).await
    }

    fn rules_support(&self) -> RulesSupport {
        self.inner.rules_support()
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.inner.sweep(dry_run).await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}
