//! Objects as plain files below one directory.

mod attributes;
mod errors;
mod inner;
mod list;
mod listed;
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
    sync::{Arc, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::task::JoinHandle;
use zhuji_config::Secret;

use self::{
    errors::from_io,
    inner::{Inner, open},
    sweep::Sweeper,
    temp_file::TempFile,
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
/// - **Atomic**: a write goes to a file without a name (where there are none, to one in `.zhuji/tmp`) and gets its name when
///   it is whole; with [`Durability::Fsync`] file and directory are synced before that is acknowledged. What a killed
///   process leaves is removed at the next start.
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
            list::list(&inner.root, &inner.listed, &subject, &options)
                .map_err(|error| from_io("list", &subject, error))
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

#[cfg(test)]
mod tests;
