//! No operation waits for ever.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Body, ByteStream, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata,
    PutOptions, Result, RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules,
    Stored, Swept, UploadFileOptions, UrlSigner,
};

/// How long the parts of an operation may take. A transfer as a whole has no limit as long as it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// An operation without a stream, all attempts together; an upload of bytes gets one more second for each 64 KiB.
    /// Default: 90 s.
    pub operation: Duration,
    /// Silence of the source of an upload, or of the object that is read. Default: 60 s.
    pub idle: Duration,
    /// How long an upload may work on what it has taken before it takes more; longer for streams of many gigabytes, whose
    /// parts are larger. Default: 180 s.
    pub store: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            operation: Duration::from_secs(90),
            idle: Duration::from_secs(60),
            store: Duration::from_secs(180),
        }
    }
}

/// Puts deadlines on every operation; the error says what was being waited for.
#[derive(Debug)]
pub struct TimeoutLayer {
    inner: Arc<dyn StorageAdapter>,
    timeouts: Timeouts,
}

impl TimeoutLayer {
    /// Watches over `inner`.
    pub fn new(inner: Arc<dyn StorageAdapter>, timeouts: Timeouts) -> Self {
        Self { inner, timeouts }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        subject: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(late(operation, subject, "the back end did not answer", limit)),
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        subject: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.within(self.timeouts.operation, operation, subject, work)
            .await
    }

    async fn put_stream(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let progress = Arc::new(Progress::default());
        let length = body.length();
        let body = body.map_stream(|stream| {
            ByteStream::new(Watched {
                stream,
                progress: Arc::clone(&progress),
            })
        });
        let mut storing = std::pin::pin!(self.inner.put(key, body, options));
        let Timeouts { idle, store, .. } = self.timeouts;
        let length = length.unwrap_or(0);
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            tokio::select! {
                stored = &mut storing => return stored,
                () = sleep(idle.min(store) / 4) => {}
            }
            let moved = progress.moved.load(Ordering::Relaxed);
            if moved != seen {
                (seen, since) = (moved, Instant::now());
            } else if progress.waiting.load(Ordering::Relaxed) {
                if since.elapsed() >= idle {
                    return Err(late("upload", key, "the sender of the stream was silent", idle));
                }
            } else {
                let store = store + for_large_parts(moved.max(length / 10));
                if since.elapsed() >= store {
                    return Err(late("upload", key, "the back end took nothing more", store));
                }
            }
        }
    }
}

/// What is taken from a long stream grows with it, up to two parts of a thousandth each: as long as these may need at 64 KiB
/// a second.
fn for_large_parts(taken: u64) -> Duration {
    Duration::from_secs(2 * (taken / 1000) / (64 * 1024))
}

fn late(operation: &'static str, subject: &str, what: &str, limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        operation,
        subject,
        format!("{what} for {limit:?}"),
    )
}

/// What the watcher of an upload can see of it.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes that have been taken from the source.
    moved: AtomicU64,
    /// Whether the source has been asked and has nothing yet.
    waiting: AtomicBool,
}

struct Watched {
    stream: ByteStream,
    progress: Arc<Progress>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(cx);
        self.progress
            .waiting
            .store(polled.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.progress
                .moved
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        polled
    }
}

fn watched_download(stream: ByteStream, key: String, idle: Duration) -> ByteStream {
    ByteStream::new(stream::unfold(Some((stream, key)), move |state| async move {
        let (mut stream, key) = state?;
        match timeout(idle, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some((stream, key)))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(_) => Some((Err(late("download", &key, "no data came", idle)), None)),
        }
    }))
}

#[async_trait]
impl StorageAdapter for TimeoutLayer {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        if body.is_stream() {
            return self.put_stream(key, body, options).await;
        }
        let more = Duration::from_secs(body.length().unwrap_or(0) / (64 * 1024));
        self.within(
            self.timeouts.operation + more,
            "upload",
            key,
            self.inner.put(key, body, options),
        )
        .await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        // As long as the file needs: each of its requests has a deadline of its own.
        self.inner.upload_file(key, path, options).await
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let mut download = self.call("download", key, self.inner.get(key, options)).await?;
        download.stream = watched_download(download.stream, key.to_string(), self.timeouts.idle);
        Ok(download)
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.call("metadata", key, self.inner.head(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.call("delete", key, self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        // One more second for each ten keys: an adapter may have to delete them one by one.
        let limit = self.timeouts.operation + Duration::from_secs(keys.len() as u64 / 10);
        match timeout(limit, self.inner.delete_many(keys)).await {
            Ok(results) => results,
            Err(_) => {
                let late = |key: &Key| Err(late("delete", key, "the back end did not answer", limit));
                keys.iter().map(late).collect()
            }
        }
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        // A local copy moves every byte; it has as long as the largest of them may need.
        self.within(
            self.timeouts.operation * 20,
            "copy",
            from,
            self.inner.copy(from, to),
        )
        .await
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        self.call("list", prefix, self.inner.list(prefix, options)).await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.call("sign url", key, self.inner.signed_url(key, options))
            .await
    }

    async fn check(&self) -> Result<()> {
        self.call("check", "the store", self.inner.check()).await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        self.call("rules", self.inner.name(), self.inner.rules(sections))
            .await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        self.call("rules", self.inner.name(), self.inner.set_rules(rules))
            .await
    }

    fn rules_support(&self) -> RulesSupport {
        self.inner.rules_support()
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        // It looks at every object.
        self.within(
            self.timeouts.operation * 20,
            "sweep",
            self.inner.name(),
            self.inner.sweep(dry_run),
        )
        .await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}
