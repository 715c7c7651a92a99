//! Objects as plain files below one directory.

mod attributes;
mod errors;
mod list;
mod read;
mod root;
mod rules;
mod signing_key;
mod sweep;
mod temp;
mod temp_file;
mod write;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::task::JoinHandle;
use zhuji_config::Secret;

use self::{
    attributes::Attributes, errors::from_io, root::Root, sweep::Sweeper, temp::TempDir, temp_file::TempFile,
    write::Sidecars,
};
use crate::{
    Body, ByteStream, Download, Durability, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage,
    Metadata, PutOptions, Result, RulesSection, SignOptions, SignedUrl, StorageAdapter, StorageConfig,
    StorageRules, Stored, Swept, UrlSigner,
};

/// How much of a stream is collected before it goes to a blocking thread.
const FLUSH: usize = 1024 * 1024;

/// Keeps each object as a plain file below a root directory, readable with ordinary tools.
///
/// - **Atomic**: a write goes to a temporary file in `.zhuji/tmp` and is renamed; with [`Durability::Fsync`] file and
///   directory are synced first. What a killed process leaves is removed at the next start.
/// - **Confined**: paths are resolved beneath the root without following symbolic links, by the kernel where it can.
/// - **Whole**: content type, disposition, metadata and CRC-64 are kept with the file (extended attribute, else
///   a sidecar) and appear with the content at once; a full read is checked against the CRC-64.
///
/// - **Kept tidy**: the lifecycle rules of `.zhuji/rules.json` are carried out when the store is opened and every hour, in the
///   background, until the last handle is dropped.
///
/// A file that was put there by other means is an object too; its ETag follows from size and time.
/// What a file system can't do and OSS can: hold `a` and `a/b` together ([`ErrorKind::Conflict`]).
pub struct LocalAdapter {
    inner: Arc<Inner>,
    path: PathBuf,
    /// Stops when this is dropped; none in a store that is only read.
    _sweeper: Option<Sweeper>,
}

struct Inner {
    root: Root,
    /// `None` in a store that is open for reading only.
    temp: Option<Arc<TempDir>>,
    sidecars: Sidecars,
    signer: Arc<UrlSigner>,
    /// Held while `.zhuji/rules.json` is replaced.
    rules: Mutex<()>,
}

/// How a [`LocalAdapter`] is opened.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Default: [`Durability::Fsync`].
    pub durability: Durability,
    /// Base of the URLs that an [`ObjectServer`](crate::serve::ObjectServer) answers. Default:
    /// `http://localhost:3001/uploads`.
    pub base_url: String,
    /// Key of signed URLs. Default: random, kept in `.zhuji/signing.key`.
    pub signing_key: Option<Secret>,
    /// Keep metadata in sidecar files though the file system has extended attributes; for backups that lose attributes.
    pub sidecars: bool,
    /// Only read: the directory must exist, nothing in it is created, swept or changed, and every write is
    /// [`ErrorKind::ReadOnly`]. For tools that look at a store, and for read-only media.
    pub read_only: bool,
    /// How often the lifecycle rules are carried out after the first time. Default: 1 h.
    pub sweep_every: Duration,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            base_url: "http://localhost:3001/uploads".to_owned(),
            signing_key: None,
            sidecars: false,
            read_only: false,
            sweep_every: Duration::from_secs(3600),
        }
    }
}

impl LocalAdapter {
    /// Opens (and creates) the directory, sweeps what dead writers left, and makes sure that it can be written.
    ///
    /// # Errors
    /// `Denied`, `ReadOnly`, `NoSpace` as the file system says; `Config` for a short signing key, or with
    /// [`LocalOptions::read_only`] if there is no such directory.
    pub async fn open(path: impl AsRef<Path>, options: LocalOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let opened = path.clone();
        let sweep_every = options.sweep_every.max(Duration::from_millis(1));
        let task = tokio::task::spawn_blocking(move || open(&opened, options));
        let inner = Arc::new(blocking("opening", "storage directory", task).await??);
        let sweeper = inner.temp.is_some().then(|| Sweeper::start(&inner, sweep_every));
        Ok(Self {
            inner,
            path,
            _sweeper: sweeper,
        })
    }

    pub(crate) async fn from_config(config: &StorageConfig) -> Result<Self> {
        let options = LocalOptions {
            durability: config.durability,
            base_url: config.served_base(),
            signing_key: config.signing_key.clone(),
            ..LocalOptions::default()
        };
        Self::open(&config.local_dir, options).await
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(operation, key, tokio::task::spawn_blocking(move || work(&inner))).await?
    }

    async fn put_stream(&self, key: &Key, stream: ByteStream, options: &PutOptions) -> Result<(u64, u64)> {
        let mut writing: Option<JoinHandle<Result<TempFile>>> = None;
        let outcome = self.write_stream(key, stream, &mut writing).await;
        // Also after an error: when this returns, the temporary file is gone.
        let temp = match writing {
            Some(task) => Some(blocking("upload", key, task).await?),
            None => None,
        };
        let rest = outcome?;
        let temp = temp.transpose()?;
        let (subject, key, options) = (key.clone(), key.clone(), options.clone());
        self.run("upload", &subject, move |inner| {
            let temp = inner.append(temp, &rest, &key)?;
            inner.commit(temp, &key, &options)
        })
        .await
    }

    /// Writes full buffers on a blocking thread while the next one is collected; returns what is left over.
    async fn write_stream(
        &self,
        key: &Key,
        mut stream: ByteStream,
        writing: &mut Option<JoinHandle<Result<TempFile>>>,
    ) -> Result<Vec<Bytes>> {
        let (mut pending, mut size) = (Vec::new(), 0);
        while let Some(chunk) = stream.try_next().await? {
            size += chunk.len();
            pending.push(chunk);
            if size < FLUSH {
                continue;
            }
            let temp = match writing.take() {
                Some(task) => Some(blocking("upload", key, task).await??),
                None => None,
            };
            let (inner, key, full) = (Arc::clone(&self.inner), key.clone(), std::mem::take(&mut pending));
            size = 0;
            *writing = Some(tokio::task::spawn_blocking(move || {
                inner.append(temp, &full, &key)
            }));
        }
        Ok(pending)
    }

    fn stored(&self, key: &Key, (size, crc): (u64, u64)) -> Stored {
        Stored::new(
            key.as_str(),
            size,
            format!("{crc:016x}-{size:x}"),
            Some(crc),
            self.inner.signer.url(key),
        )
    }
}

fn open(path: &Path, options: LocalOptions) -> Result<Inner> {
    let subject = "storage directory";
    let failed = |error: std::io::Error| match from_io("opening", subject, error) {
        error if error.kind() == ErrorKind::NotFound => Error::new(
            ErrorKind::Config,
            "opening",
            subject,
            "the path leads through something that isn't a directory",
        )
        .with_hint("check STORAGE_LOCAL_DIR"),
        error => error,
    };
    let sync = options.durability == Durability::Fsync;
    let (root, temp) = if options.read_only {
        let missing = |error: std::io::Error| match from_io("opening", subject, error) {
            error if error.kind() == ErrorKind::NotFound => Error::new(
                ErrorKind::Config,
                "opening",
                subject,
                "there is no such directory",
            ),
            error => error,
        };
        (Root::open_existing(path, sync).map_err(missing)?, None)
    } else {
        let root = Root::open(path, sync).map_err(failed)?;
        let temp = Arc::new(TempDir::create(&root).map_err(failed)?);
        leftovers(&root, false);
        (root, Some(temp))
    };
    let key = match (options.signing_key, &temp) {
        (Some(key), _) => key.expose().as_bytes().to_vec(),
        (None, Some(temp)) => signing_key::load_or_create(&root, temp).map_err(failed)?,
        (None, None) => signing_key::load_or_random(&root).map_err(failed)?,
    };
    let signer = Arc::new(UrlSigner::new(key, options.base_url)?);
    let sidecars = Sidecars::new(options.sidecars, attributes::any_sidecar(&root));
    let inner = Inner {
        root,
        temp,
        sidecars,
        signer,
        rules: Mutex::new(()),
    };
    inner.probe()?;
    Ok(inner)
}

/// Removes what interrupted writes left, and counts it.
fn leftovers(root: &Root, everywhere: bool) -> u64 {
    match (TempDir::sweep(root, everywhere), attributes::sweep(root)) {
        (Ok(0), Ok(0)) => 0,
        (Ok(files), Ok(sidecars)) => {
            tracing::info!(files, sidecars, "removed what interrupted writes had left");
            (files + sidecars) as u64
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "could not look for interrupted writes");
            0
        }
    }
}

impl Inner {
    /// A new temporary file.
    fn temp_file(&self, operation: &'static str, subject: &str) -> Result<TempFile> {
        let temp = self.writable(operation, subject)?;
        temp.file().map_err(|error| from_io(operation, subject, error))
    }

    fn writable(&self, operation: &'static str, subject: &str) -> Result<&Arc<TempDir>> {
        self.temp.as_ref().ok_or_else(|| {
            let why = "the store is open for reading only";
            Error::new(ErrorKind::ReadOnly, operation, subject, why)
        })
    }

    fn remove(&self, key: &Key) -> Result<()> {
        self.writable("delete", key)?;
        write::remove(&self.root, key, &self.sidecars).map_err(|error| from_io("delete", key, error))
    }

    /// Writes to a temporary file, a new one if there is none yet.
    fn append(&self, temp: Option<TempFile>, chunks: &[Bytes], key: &str) -> Result<TempFile> {
        let failed = |error| from_io("upload", key, error);
        let mut temp = match temp {
            Some(temp) => temp,
            None => self.temp_file("upload", key)?,
        };
        for chunk in chunks {
            temp.write(chunk).map_err(failed)?;
        }
        Ok(temp)
    }

    fn commit(&self, temp: TempFile, key: &str, options: &PutOptions) -> Result<(u64, u64)> {
        write::commit(&self.root, temp, key, options, &self.sidecars)
    }

    /// Shows that a file can be written, or in a store that is only read, that the directory is there.
    fn probe(&self) -> Result<()> {
        let failed = |error| from_io("check", "storage directory", error);
        if self.temp.is_none() {
            return self.root.dir("").map(drop).map_err(failed);
        }
        let mut file = self.temp_file("check", "storage directory")?;
        file.write(b"zhuji").map_err(failed)
    }

    fn copy(&self, from: &Key, to: &Key) -> Result<(u64, u64)> {
        use std::io::Read;
        let failed = |error| from_io("copy", from, error);
        let (mut file, metadata) = attributes::open(&self.root, from).map_err(failed)?;
        let mut temp = self.temp_file("copy", from)?;
        let options = Attributes::to_options(&metadata);
        // The checksum goes with the bytes: a copy of damaged ones is as damaged, and found out when it is read.
        if let Some(crc) = metadata.crc64
            && temp.take(&file, metadata.size, crc).map_err(failed)?
        {
            return self.commit(temp, to, &options);
        }
        let mut buffer = vec![0_u8; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            temp.write(&buffer[..count]).map_err(failed)?;
        }
        if metadata.crc64.is_some_and(|crc| crc != temp.crc.value()) {
            let why = "the bytes on the disk are not those that were stored (CRC-64 differs)";
            return Err(Error::new(ErrorKind::Integrity, "copy", from.as_str(), why));
        }
        self.commit(temp, to, &options)
    }
}

/// Waits for work on a blocking thread. If the waiting future is dropped, the work ends by itself and cleans up.
async fn blocking<T>(operation: &'static str, subject: &str, task: JoinHandle<T>) -> Result<T> {
    task.await.map_err(|error| {
        let why = if error.is_panic() {
            "a bug: the worker panicked"
        } else {
            "the runtime is shutting down"
        };
        Error::new(ErrorKind::Unexpected, operation, subject, why).with_source(error)
    })
}

impl fmt::Debug for LocalAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAdapter")
            .field("path", &self.path)
            .field("sync", &self.inner.root.sync)
            .finish()
    }
}

#[async_trait]
impl StorageAdapter for LocalAdapter {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let written = match body.into_parts() {
            Ok(bytes) => {
                let (subject, key, options) = (key.clone(), key.clone(), options.clone());
                self.run("upload", &subject, move |inner| {
                    let temp = inner.append(None, &[bytes], &key)?;
                    inner.commit(temp, &key, &options)
                })
                .await?
            }
            Err(stream) => self.put_stream(key, stream, options).await?,
        };
        Ok(self.stored(key, written))
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let (subject, options) = (key.clone(), options.clone());
        let opened = self
            .run("download", key, move |inner| {
                read::open(&inner.root, &subject, &options)
            })
            .await?;
        Ok(opened.into_download(key))
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        let subject = key.clone();
        self.run("metadata", key, move |inner| {
            read::head(&inner.root, &subject, "metadata")
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let subject = key.clone();
        self.run("delete", key, move |inner| inner.remove(&subject)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let (owned, count) = (keys.to_vec(), keys.len());
        let removed = self.run("delete", "many objects", move |inner| {
            Ok(owned.iter().map(|key| inner.remove(key)).collect::<Vec<_>>())
        });
        removed.await.unwrap_or_else(|error| {
            let again = || Error::new(error.kind(), "delete", "many objects", error.to_string());
            (0..count).map(|_| Err(again())).collect()
        })
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let (source, target) = (from.clone(), to.clone());
        let written = self
            .run("copy", from, move |inner| inner.copy(&source, &target))
            .await?;
        Ok(self.stored(to, written))
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        let (subject, options) = (prefix.to_owned(), options.clone());
        self.run("list", prefix, move |inner| {
            list::list(&inner.root, &subject, &options).map_err(|error| from_io("list", &subject, error))
        })
        .await
    }

    fn url(&self, key: &str) -> String {
        self.inner.signer.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        Ok(self.inner.signer.sign(key, options))
    }

    async fn check(&self) -> Result<()> {
        self.run("check", "storage directory", |inner| inner.probe())
            .await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        let sections = sections.to_vec();
        self.run("rules", "storage directory", move |inner| {
            Ok(rules::load(&inner.root)?.only(&sections))
        })
        .await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        let rules = rules.clone();
        self.run("rules", "storage directory", move |inner| {
            let temp = inner.writable("rules", "storage directory")?;
            let _turn = inner.rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules::replace(&inner.root, temp, &rules)
        })
        .await
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.run("sweep", "storage directory", move |inner| {
            sweep::sweep(inner, dry_run, &AtomicBool::new(false))
        })
        .await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        Some(Arc::clone(&self.inner.signer))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::Storage;

    #[tokio::test]
    async fn everything_works_on_a_kernel_without_openat2() {
        works_with(|inner| Inner {
            root: inner.root.without_openat2(),
            ..inner
        })
        .await;
    }

    #[tokio::test]
    async fn everything_works_on_a_file_system_without_unnamed_files() {
        works_with(|inner| Inner {
            temp: Some(Arc::new(TempDir::create(&inner.root).unwrap().only_named())),
            ..inner
        })
        .await;
    }

    async fn works_with(change: impl FnOnce(Inner) -> Inner) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/secret"), "outside").unwrap();
        let path = dir.path().join("root");
        let inner = change(open(&path, LocalOptions::default()).unwrap());
        let storage = Storage::new(LocalAdapter {
            inner: Arc::new(inner),
            path: path.clone(),
            _sweeper: None,
        });
        let options = PutOptions::new().content_type("text/csv").metadata("n", "1");
        storage
            .upload_with("a/b/c", "content", options.clone())
            .await
            .unwrap();
        let again = storage.upload_with("a/b/c", "other", options.create_only()).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        storage.upload("d/e", "replaced").await.unwrap();
        storage.copy("a/b/c", "d/e").await.unwrap();
        assert_eq!(storage.download("d/e").await.unwrap(), "content");
        assert_eq!(storage.metadata("d/e").await.unwrap().user["n"], "1");
        let page = storage.list("", ListOptions::new()).await.unwrap();
        assert_eq!(page.entries.len(), 2);
        std::os::unix::fs::symlink("../outside", path.join("link")).unwrap();
        for result in [
            storage.upload("link/secret", "x").await.map(drop),
            storage.upload("link/new/x", "x").await.map(drop),
            storage.copy("a/b/c", "link/secret").await.map(drop),
            storage.download("link/secret").await.map(drop),
            storage.delete("link/secret").await,
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
        }
        assert_eq!(
            std::fs::read(dir.path().join("outside/secret")).unwrap(),
            b"outside"
        );
        storage.delete("a/b/c").await.unwrap();
        assert!(!path.join("a").exists());
    }
}
