//! A part of a store that looks like a whole one.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{
    Body, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions, Result,
    RulesSection, SignOptions, SignedUrl, StorageAdapter, StorageRules, Stored, Swept, UploadFileOptions,
    UrlSigner, adapter::no_result, key::invalid,
};

/// Puts a prefix before every key on the way in and takes it off on the way out, errors included.
#[derive(Debug)]
pub struct PrefixLayer {
    inner: Arc<dyn StorageAdapter>,
    /// Ends in `/`.
    prefix: String,
}

impl PrefixLayer {
    /// Shows only what is below `prefix`.
    pub fn new(inner: Arc<dyn StorageAdapter>, prefix: &str) -> Self {
        Self {
            inner,
            prefix: format!("{}/", prefix.trim_end_matches('/')),
        }
    }

    fn full(&self, key: &str) -> Result<Key> {
        Key::new(format!("{}{key}", self.prefix))
    }

    fn short(&self, key: String) -> String {
        match key.strip_prefix(&self.prefix) {
            Some(rest) => rest.to_owned(),
            None => key,
        }
    }

    fn told(&self, error: Error) -> Error {
        match error.subject().strip_prefix(&self.prefix) {
            Some(rest) => {
                let rest = rest.to_owned();
                error.with_subject(rest)
            }
            None => error,
        }
    }

    /// What concerns the whole store is not for whoever sees a part of it.
    fn not_here(&self, operation: &'static str) -> Error {
        let why = "rules belong to the whole store, and this handle sees a part of it";
        Error::new(ErrorKind::Unsupported, operation, self.prefix.as_str(), why)
            .with_hint("use a handle without a prefix")
    }

    fn stored(&self, mut stored: Stored) -> Stored {
        stored.key = self.short(stored.key);
        stored
    }
}

#[async_trait]
impl StorageAdapter for PrefixLayer {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let stored = self.inner.put(&self.full(key)?, body, options).await;
        stored.map(|stored| self.stored(stored)).map_err(|e| self.told(e))
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        let stored = self.inner.upload_file(&self.full(key)?, path, options).await;
        stored.map(|stored| self.stored(stored)).map_err(|e| self.told(e))
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let mut download = self
            .inner
            .get(&self.full(key)?, options)
            .await
            .map_err(|e| self.told(e))?;
        download.metadata.key = self.short(download.metadata.key);
        Ok(download)
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        let mut metadata = self
            .inner
            .head(&self.full(key)?)
            .await
            .map_err(|e| self.told(e))?;
        metadata.key = self.short(metadata.key);
        Ok(metadata)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner
            .delete(&self.full(key)?)
            .await
            .map_err(|e| self.told(e))
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let full: Vec<Result<Key>> = keys.iter().map(|key| self.full(key)).collect();
        let good: Vec<Key> = full.iter().filter_map(|key| key.as_ref().ok().cloned()).collect();
        let mut deleted = self.inner.delete_many(&good).await.into_iter();
        full.into_iter()
            .map(|key| {
                key.and_then(|key| deleted.next().unwrap_or_else(|| Err(no_result(&key))))
                    .map_err(|e| self.told(e))
            })
            .collect()
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let copied = self.inner.copy(&self.full(from)?, &self.full(to)?).await;
        copied.map(|stored| self.stored(stored)).map_err(|e| self.told(e))
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        let full = format!("{}{prefix}", self.prefix);
        // The prefix of the scope is checked here, because only an invalid one could leave it.
        if Key::new(self.prefix.trim_end_matches('/')).is_err() {
            return Err(invalid(&full, "has an invalid prefix"));
        }
        let options = ListOptions {
            after: options
                .after
                .as_ref()
                .map(|after| format!("{}{after}", self.prefix)),
            ..options.clone()
        };
        let mut page = self.inner.list(&full, &options).await.map_err(|e| self.told(e))?;
        for entry in &mut page.entries {
            entry.key = self.short(std::mem::take(&mut entry.key));
        }
        for folder in &mut page.folders {
            *folder = self.short(std::mem::take(folder));
        }
        page.next = page.next.map(|next| self.short(next));
        Ok(page)
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(&format!("{}{key}", self.prefix))
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.inner
            .signed_url(&self.full(key)?, options)
            .await
            .map_err(|e| self.told(e))
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn rules(&self, _sections: &[RulesSection]) -> Result<StorageRules> {
        Err(self.not_here("rules"))
    }

    async fn set_rules(&self, _rules: &StorageRules) -> Result<()> {
        Err(self.not_here("rules"))
    }

    async fn sweep(&self, _dry_run: bool) -> Result<Swept> {
        Err(self.not_here("sweep"))
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}
