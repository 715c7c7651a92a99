//! The handle that product code holds.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::{
    Body, BoxError, Download, DownloadFileOptions, Entry, GetOptions, Key, ListOptions, ListPage, Metadata,
    PutOptions, Result, RulesDiff, RulesSection, SignOptions, SignedUrl, StorageAdapter, StorageRules,
    Stored, Swept, UploadFileOptions, UrlSigner, Verified, adapter::no_result, content,
    health_check::StorageCheck, key::check_prefix, layers::PrefixLayer, serve::ObjectServer, transfer,
    upload_many, verify,
};

/// Files, wherever the configuration says they are. Cheap to clone; all clones share one adapter.
///
/// Keys are text such as `pdfs/2025/a.pdf`; each method checks them by the rules of [`Key`] and fails with
/// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey). Every method may be cancelled by dropping its future: an upload that was
/// under way leaves the old object in place.
#[derive(Clone)]
pub struct Storage {
    /// Without prefix; what every scope of this handle stands on.
    root: Arc<dyn StorageAdapter>,
    /// `root`, behind the prefix layer if there is a prefix.
    adapter: Arc<dyn StorageAdapter>,
    prefix: Arc<str>,
    settings: Arc<Settings>,
}

/// What the handle itself needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Objects in flight in `upload_many`.
    pub(crate) concurrency: usize,
    /// Keys below these are readable without a signature.
    pub(crate) public_prefixes: Vec<String>,
    /// The largest upload over HTTP, in bytes.
    pub(crate) max_upload: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 10,
            public_prefixes: Vec::new(),
            max_upload: ObjectServer::DEFAULT_MAX_UPLOAD,
        }
    }
}

impl Storage {
    /// A handle straight on an adapter, without the layers that [`StorageFactory`](crate::StorageFactory) adds.
    pub fn new(adapter: impl StorageAdapter) -> Self {
        Self::with_settings(Arc::new(adapter), Settings::default())
    }

    /// A handle on an empty [`MemoryAdapter`](crate::MemoryAdapter).
    pub fn memory() -> Self {
        Self::new(crate::MemoryAdapter::new())
    }

    pub(crate) fn with_settings(adapter: Arc<dyn StorageAdapter>, settings: Settings) -> Self {
        Self {
            root: Arc::clone(&adapter),
            adapter,
            prefix: Arc::from(""),
            settings: Arc::new(settings),
        }
    }

    /// The same store, seen from below `prefix`: key `a` of `scoped("asl")` is key `asl/a` of this handle. Nothing outside
    /// the prefix can be named. Scopes nest. An invalid prefix shows as an invalid key in every call.
    #[must_use]
    pub fn scoped(&self, prefix: &str) -> Self {
        let prefix = format!("{}{}/", self.prefix, prefix.trim_end_matches('/'));
        let adapter = Arc::new(PrefixLayer::new(Arc::clone(&self.root), &prefix));
        Self {
            root: Arc::clone(&self.root),
            adapter,
            prefix: prefix.into(),
            settings: Arc::clone(&self.settings),
        }
    }

    /// The prefix of a scoped handle with its final `/`; empty for the whole store.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the adapter: `local`, `oss`, `memory` or a registered one. For logs; product code has no reason to branch
    /// on it.
    pub fn adapter_name(&self) -> &'static str {
        self.root.name()
    }

    /// Stores bytes under `key`, replacing an old object. The content type follows from the key's extension.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind) but `NotFound`.
    pub async fn upload(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Stored> {
        self.put(key, bytes.into().into(), PutOptions::default()).await
    }

    /// Stores bytes with a content type, a download name, metadata, or only if there is no such object yet.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), and `AlreadyExists` with `create_only`.
    pub async fn upload_with(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Stored> {
        self.put(key, bytes.into().into(), options).await
    }

    /// Stores what a stream yields, without holding it in memory whole. An `Err` in the stream aborts the upload: nothing is
    /// stored, and an older object stays.
    ///
    /// # Errors
    /// As [`upload_with`](Self::upload_with), and `Source` with the stream's own error as the cause.
    pub async fn upload_stream<S, E>(&self, key: &str, stream: S, options: PutOptions) -> Result<Stored>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.put(key, Body::stream(stream), options).await
    }

    /// Stores a [`Body`], the general form of the methods above (a stream of known length, for example).
    ///
    /// # Errors
    /// As [`upload_stream`](Self::upload_stream).
    pub async fn put(&self, key: &str, body: Body, mut options: PutOptions) -> Result<Stored> {
        let checked = Key::new(key)?;
        options.check(key)?;
        guess_type(&mut options, key);
        self.adapter.put(&checked, body, &options).await
    }

    /// Stores a local file. `options` can be [`UploadFileOptions`], [`PutOptions`] or `()`.
    ///
    /// On OSS in parts side by side, read from the disk as they are sent; with a
    /// [checkpoint](UploadFileOptions::checkpoint) a failed or killed upload goes on where it was, and without one it
    /// leaves nothing behind. A file that changes meanwhile is not stored.
    ///
    /// # Errors
    /// As [`upload_with`](Self::upload_with), and `Source` if the file can't be read or changes.
    pub async fn upload_file(
        &self,
        key: &str,
        path: impl AsRef<Path>,
        options: impl Into<UploadFileOptions>,
    ) -> Result<Stored> {
        let checked = Key::new(key)?;
        let mut options = options.into();
        options.check(key)?;
        guess_type(&mut options.put, key);
        self.adapter.upload_file(&checked, path.as_ref(), &options).await
    }

    /// Stores many objects, at most `STORAGE_CONCURRENCY` (default 10) at once, the next as soon as one is done. Results are in
    /// input order, and a failure of one doesn't stop the others.
    pub async fn upload_many<K, B>(&self, files: impl IntoIterator<Item = (K, B)>) -> Vec<Result<Stored>>
    where
        K: Into<String>,
        B: Into<Bytes>,
    {
        let files = files
            .into_iter()
            .map(|(key, bytes)| (key.into(), bytes.into()))
            .collect();
        upload_many::upload_many(self, files, self.settings.concurrency).await
    }

    /// Reads an object into memory.
    ///
    /// # Errors
    /// `NotFound`; `Integrity` if what arrives isn't what was stored.
    pub async fn download(&self, key: &str) -> Result<Bytes> {
        let download = self.download_stream(key, ()).await?;
        let length = download.length();
        download.stream.into_bytes_of(length).await
    }

    /// Reads an object into a local file. `options` can be [`DownloadFileOptions`] or `()`.
    ///
    /// Ranges of one version of the object are loaded side by side into a hidden file beside `path`, which replaces `path`
    /// when all of it is there, its checksum is that of the object, and the disk has it. With a
    /// [checkpoint](DownloadFileOptions::checkpoint) a failed or killed download goes on where it was; without one a
    /// failed or dropped one leaves nothing behind, and a killed one its hidden file.
    ///
    /// # Errors
    /// `NotFound`, `Changed` if the object is replaced meanwhile, `Integrity`; `NoSpace`, `ReadOnly`, `Denied` and
    /// `InvalidInput` for the local file.
    pub async fn download_file(
        &self,
        key: &str,
        path: impl AsRef<Path>,
        options: impl Into<DownloadFileOptions>,
    ) -> Result<Metadata> {
        let options = options.into();
        options.check(key)?;
        transfer::download_file(&self.adapter, &Key::new(key)?, path.as_ref(), &options).await
    }

    /// Opens an object, or a part of it, for reading. `options` can be a range (`0..1024`, `1024..`), `()` for all, or
    /// [`GetOptions`].
    ///
    /// On OSS a stream whose connection breaks goes on with the byte that is missing, of the same version of the object.
    ///
    /// # Errors
    /// `NotFound`, `InvalidRange`, `Changed`; later errors come through the stream (`Changed` if the object was replaced
    /// when the stream had to go on).
    pub async fn download_stream(&self, key: &str, options: impl Into<GetOptions>) -> Result<Download> {
        let options = options.into();
        if let Some(range) = options.range {
            range.check(key)?;
        }
        self.adapter.get(&Key::new(key)?, &options).await
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn metadata(&self, key: &str) -> Result<Metadata> {
        self.adapter.head(&Key::new(key)?).await
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// Everything but `NotFound`: a store that can't be reached is not a missing object.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        match self.metadata(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object. That there is none is no error.
    ///
    /// # Errors
    /// If it may still be there.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.adapter.delete(&Key::new(key)?).await
    }

    /// Removes many objects in as few requests as the back end allows; one result each, in input order.
    pub async fn delete_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Vec<Result<()>> {
        let checked: Vec<Result<Key>> = keys.into_iter().map(|key| Key::new(key)).collect();
        let good: Vec<Key> = checked
            .iter()
            .filter_map(|key| key.as_ref().ok().cloned())
            .collect();
        let mut deleted = self.adapter.delete_many(&good).await.into_iter();
        checked
            .into_iter()
            .map(|key| key.and_then(|key| deleted.next().unwrap_or_else(|| Err(no_result(&key)))))
            .collect()
    }

    /// Copies an object with its content type and metadata, replacing the target. The bytes don't pass through this process
    /// where the back end can copy.
    ///
    /// # Errors
    /// `NotFound` for the source.
    pub async fn copy(&self, from: &str, to: &str) -> Result<Stored> {
        self.adapter.copy(&Key::new(from)?, &Key::new(to)?).await
    }

    /// One page of the keys that start with `prefix` (not necessarily a whole folder; empty for all), in byte order.
    ///
    /// # Errors
    /// `InvalidInput` for a limit outside 1..=1000.
    pub async fn list(&self, prefix: &str, options: ListOptions) -> Result<ListPage> {
        check_prefix(prefix)?;
        options.check(prefix)?;
        self.adapter.list(prefix, &options).await
    }

    /// All keys that start with `prefix`, page by page as the stream is read.
    pub fn list_all(&self, prefix: &str) -> impl Stream<Item = Result<Entry>> + Send + 'static {
        enum Step {
            Page(Option<String>),
            Entries(std::vec::IntoIter<Entry>, Option<String>),
            End,
        }
        let (storage, prefix) = (self.clone(), prefix.to_owned());
        stream::try_unfold(Step::Page(None), move |mut step| {
            let (storage, prefix) = (storage.clone(), prefix.clone());
            async move {
                loop {
                    step = match step {
                        Step::End => return Ok(None),
                        Step::Page(after) => {
                            let options = ListOptions {
                                after,
                                ..ListOptions::default()
                            };
                            let page = storage.list(&prefix, options).await?;
                            Step::Entries(page.entries.into_iter(), page.next)
                        }
                        Step::Entries(mut entries, next) => match (entries.next(), next) {
                            (Some(entry), next) => return Ok(Some((entry, Step::Entries(entries, next)))),
                            (None, Some(next)) => Step::Page(Some(next)),
                            (None, None) => Step::End,
                        },
                    };
                }
            }
        })
    }

    /// The address of an object without a signature: readable by everyone if the key is below one of
    /// `STORAGE_PUBLIC_PREFIXES`, else only good as a name. An invalid key gives an address that answers 404.
    pub fn url(&self, key: &str) -> String {
        self.adapter.url(key)
    }

    /// An address that lets whoever holds it download (or, with [`SignOptions::put`], upload) the object until it expires.
    /// Whether there is such an object isn't looked at.
    ///
    /// # Errors
    /// `InvalidInput` for options that contradict one another, `Credential` if there are none to sign with.
    pub async fn signed_url(&self, key: &str, options: SignOptions) -> Result<SignedUrl> {
        options.check(key)?;
        self.adapter.signed_url(&Key::new(key)?, &options).await
    }

    /// The rules that the store has now.
    ///
    /// # Errors
    /// `Unsupported` for a scoped handle, because rules belong to the whole store, and for an adapter without rules;
    /// `Denied` if the credentials may not read them.
    pub async fn rules(&self) -> Result<StorageRules> {
        self.adapter.rules(&RulesSection::EACH).await
    }

    /// Makes the store's rules those of `rules`, section by section, and says what that changes; a dry run changes nothing.
    /// Applying the same rules again changes nothing either. What the adapter can't carry out is in the notes.
    ///
    /// # Errors
    /// `Config` for rules that contradict each other, and as [`rules`](Self::rules). Sections are replaced one after the
    /// other: after an error some may be new and others not.
    pub async fn apply_rules(&self, rules: &StorageRules, dry_run: bool) -> Result<RulesDiff> {
        rules.check()?;
        let have = self.adapter.rules(&rules.sections()).await?;
        let mut diff = RulesDiff::between(&have, rules, self.adapter.rules_support());
        if !dry_run {
            let mut changed = rules.clone();
            changed.keep_only(|section| {
                diff.changes
                    .iter()
                    .any(|change| change.section == section.as_str())
            });
            if !diff.is_empty() {
                self.adapter.set_rules(&changed).await?;
            }
            diff.applied = true;
        }
        Ok(diff)
    }

    /// Carries out the lifecycle rules now. The local adapter also does it by itself, every hour; OSS does it on its side.
    /// A dry run only says what would go.
    ///
    /// # Errors
    /// `Unsupported` for a scoped handle, and where the back end does it by itself.
    pub async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.adapter.sweep(dry_run).await
    }

    /// Reads the whole object and compares its size and CRC-64 with what was kept when it was stored.
    ///
    /// # Errors
    /// As [`download`](Self::download); that it is damaged is no error but [`Verified::Damaged`].
    pub async fn verify(&self, key: &str) -> Result<Verified> {
        verify::verify(self, key).await
    }

    /// A background check called `storage` for the health monitor.
    pub fn health_check(&self) -> Arc<dyn zhuji_health::Check> {
        Arc::new(StorageCheck::new(Arc::clone(&self.root)))
    }

    /// One cheap call that shows that the back end can be used, for start-up checks.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn check(&self) -> Result<()> {
        self.root.check().await
    }

    /// The signer of this store's URLs, if they lead to this process.
    pub fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.root.url_signer()
    }

    pub(crate) fn root(&self) -> &Arc<dyn StorageAdapter> {
        &self.root
    }

    pub(crate) fn max_upload(&self) -> u64 {
        self.settings.max_upload
    }

    pub(crate) fn public_prefixes(&self) -> &[String] {
        &self.settings.public_prefixes
    }
}

fn guess_type(options: &mut PutOptions, key: &str) {
    let guess = || content::guess_content_type(key).to_owned();
    options.content_type.get_or_insert_with(guess);
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("adapter", &self.root)
            .field("prefix", &self.prefix)
            .finish()
    }
}
