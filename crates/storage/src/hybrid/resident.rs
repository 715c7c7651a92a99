//! Which side a key lives on.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::{merge::merge, rules};
use crate::{
    Body, CorsRule, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions,
    Result, RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules, Stored, Swept,
    UploadFileOptions, UrlSigner, adapter::no_result, object::after_folder,
};

/// Sends operations on resident keys to one adapter and those on all other keys to another. Nothing about a resident object,
/// not even its name, reaches the other adapter.
#[derive(Debug)]
pub(super) struct ResidentRouter {
    resident: Arc<dyn StorageAdapter>,
    shared: Arc<dyn StorageAdapter>,
    /// Each ends in `/`, and none lies below another.
    prefixes: Vec<String>,
}

impl ResidentRouter {
    /// The prefixes have been checked.
    pub(super) fn new(
        resident: Arc<dyn StorageAdapter>,
        shared: Arc<dyn StorageAdapter>,
        prefixes: &[String],
    ) -> Self {
        let mut sorted = prefixes.to_vec();
        sorted.sort_unstable();
        let mut prefixes: Vec<String> = Vec::new();
        for prefix in sorted {
            if !prefixes.iter().any(|above| prefix.starts_with(above.as_str())) {
                prefixes.push(prefix);
            }
        }
        Self {
            resident,
            shared,
            prefixes,
        }
    }

    /// The resident prefix that a key, or what begins like one, lies below.
    fn above(&self, key: &str) -> Option<&str> {
        let mut prefixes = self.prefixes.iter().map(String::as_str);
        prefixes.find(|prefix| key.starts_with(prefix))
    }

    fn of(&self, key: &str) -> &Arc<dyn StorageAdapter> {
        match self.above(key) {
            Some(_) => &self.resident,
            None => &self.shared,
        }
    }

    async fn shared_page(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        let mut options = options.clone();
        // A page may have ended with a resident key; where the next one begins must not tell it.
        if let Some(resident) = options.after.as_deref().and_then(|after| self.above(after)) {
            options.after = Some(after_folder(resident));
        }
        let mut page = self.shared.list(prefix, &options).await?;
        // What lies there from other times can't be read under these names.
        page.entries.retain(|entry| self.above(&entry.key).is_none());
        page.folders.retain(|folder| self.above(folder).is_none());
        Ok(page)
    }

    /// The keys below one resident prefix, which begins with `prefix` and is longer.
    async fn resident_page(&self, prefix: &str, resident: &str, options: &ListOptions) -> Result<ListPage> {
        let Some(delimiter) = options.delimiter else {
            return self.resident.list(resident, options).await;
        };
        // It ends in the delimiter: on this level all of it is one folder, if there is anything.
        let end = resident[prefix.len()..].find(delimiter).unwrap_or_default();
        let any = ListOptions {
            after: options.after.clone(),
            limit: 1,
            delimiter: None,
        };
        let found = self.resident.list(resident, &any).await?;
        let folder = &resident[..prefix.len() + end + delimiter.len_utf8()];
        Ok(ListPage {
            folders: found.entries.iter().take(1).map(|_| folder.to_owned()).collect(),
            ..ListPage::default()
        })
    }
}

#[async_trait]
impl StorageAdapter for ResidentRouter {
    fn name(&self) -> &'static str {
        self.shared.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        self.of(key).put(key, body, options).await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        self.of(key).upload_file(key, path, options).await
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        self.of(key).get(key, options).await
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.of(key).head(key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.of(key).delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let (resident, shared): (Vec<Key>, Vec<Key>) =
            keys.iter().cloned().partition(|key| self.above(key).is_some());
        let (resident, shared) = tokio::join!(
            async {
                if resident.is_empty() {
                    Vec::new()
                } else {
                    self.resident.delete_many(&resident).await
                }
            },
            async {
                if shared.is_empty() {
                    Vec::new()
                } else {
                    self.shared.delete_many(&shared).await
                }
            },
        );
        let (mut resident, mut shared) = (resident.into_iter(), shared.into_iter());
        keys.iter()
            .map(|key| {
                let result = match self.above(key) {
                    Some(_) => resident.next(),
                    None => shared.next(),
                };
                result.unwrap_or_else(|| Err(no_result(key)))
            })
            .collect()
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        match (self.above(from), self.above(to)) {
            (Some(_), Some(_)) => self.resident.copy(from, to).await,
            (None, None) => self.shared.copy(from, to).await,
            (Some(_), None) => {
                let why = "the object is resident: it must not be copied to a key that is kept elsewhere";
                Err(Error::new(ErrorKind::Denied, "copy", from.as_str(), why)
                    .with_hint("copy it to a key below one of STORAGE_RESIDENT_PREFIXES"))
            }
            (None, Some(_)) => {
                let source = self.shared.get(from, &GetOptions::default()).await?;
                let options = PutOptions::of(&source.metadata);
                let body = Body::stream(source.stream).with_length(source.metadata.size);
                self.resident.put(to, body, &options).await
            }
        }
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        if self.above(prefix).is_some() {
            return self.resident.list(prefix, options).await;
        }
        let mut pages = vec![self.shared_page(prefix, options).await?];
        for resident in self
            .prefixes
            .iter()
            .filter(|resident| resident.starts_with(prefix))
        {
            pages.push(self.resident_page(prefix, resident, options).await?);
        }
        Ok(merge(pages, options.limit))
    }

    fn url(&self, key: &str) -> String {
        self.of(key).url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        match (self.shared.url_signer(), self.resident.url_signer()) {
            // This process serves both, and one server knows one signer.
            (Some(theirs), Some(ours)) if !Arc::ptr_eq(&theirs, &ours) => Ok(ours.sign(key, options)),
            _ => self.of(key).signed_url(key, options).await,
        }
    }

    async fn check(&self) -> Result<()> {
        self.resident.check().await?;
        self.shared.check().await
    }

    fn degraded(&self) -> Option<&'static str> {
        self.resident.degraded().or_else(|| self.shared.degraded())
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        let resident = self.resident.rules(sections).await?;
        let shared = self.shared.rules(sections).await?;
        Ok(rules::join(resident, shared, &self.prefixes))
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        let (resident, shared) = rules::split(rules, &self.prefixes);
        self.resident.set_rules(&resident).await?;
        self.shared.set_rules(&shared).await
    }

    fn rules_support(&self) -> RulesSupport {
        self.shared.rules_support()
    }

    async fn served_cors(&self) -> Result<Vec<CorsRule>> {
        self.resident.served_cors().await
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        let mut swept = self.resident.sweep(dry_run).await?;
        match self.shared.sweep(dry_run).await {
            Ok(shared) => swept.add(shared),
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
        Ok(swept)
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.resident.url_signer()
    }
}
