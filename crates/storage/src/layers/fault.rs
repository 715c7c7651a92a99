//! Things that go wrong on order.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{TryStreamExt, stream};

use crate::{
    Body, ByteStream, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata,
    PutOptions, Result, RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules,
    Stored, Swept, UploadFileOptions, UrlSigner,
};

const INJECTED: &str = "a fault was injected";

/// One thing that goes wrong, when, and with which operation; for tests and drills. No environment variable turns it on: only
/// [`StorageFactory::with_faults`](crate::StorageFactory::with_faults) puts it into a stack.
///
/// ```
/// use std::time::Duration;
/// use zhuji_storage::{ErrorKind, layers::Fault};
///
/// let faults = [
///     Fault::latency(Duration::from_millis(20)),
///     Fault::error(ErrorKind::Unavailable).nth(3).on("upload"),
///     Fault::cut_body(1024).probability(0.1).on("download"),
/// ];
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    trigger: Trigger,
    operation: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Latency(Duration),
    Error(ErrorKind),
    Cut(u64),
}

#[derive(Clone, Copy, Debug)]
enum Trigger {
    Always,
    Nth(u64),
    Probability(f64),
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self {
            effect,
            trigger: Trigger::Always,
            operation: None,
        }
    }

    /// The call waits before it begins.
    pub fn latency(wait: Duration) -> Self {
        Self::new(Effect::Latency(wait))
    }

    /// The call fails with an error of this kind and does nothing else.
    pub fn error(kind: ErrorKind) -> Self {
        Self::new(Effect::Error(kind))
    }

    /// A download or an upload breaks after so many bytes, unless it is over by then. Of an upload, nothing may be stored.
    pub fn cut_body(bytes: u64) -> Self {
        Self::new(Effect::Cut(bytes))
    }

    /// Only the `n`th call it could hit, counted from 1. Default: every call.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.trigger = Trigger::Nth(n);
        self
    }

    /// Only this share of the calls, from 0.0 to 1.0. Default: every call.
    #[must_use]
    pub fn probability(mut self, share: f64) -> Self {
        self.trigger = Trigger::Probability(share);
        self
    }

    /// Only this operation, by its name in errors and metrics: `upload`, `download`, `metadata`, `delete`, `copy`, `list`,
    /// `sign url`, `check`, `rules`, `sweep`. Default: all.
    #[must_use]
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }
}

/// Lets calls of the adapter below it go wrong. It stands next to the adapter, so that retries, deadlines and metrics see
/// its faults as they would see real ones.
pub struct FaultLayer {
    inner: Arc<dyn StorageAdapter>,
    faults: Vec<Fault>,
    dice: Mutex<Dice>,
}

struct Dice {
    /// For each fault, how many calls it could have hit.
    calls: Vec<u64>,
    random: fastrand::Rng,
}

/// What hits one call.
#[derive(Default)]
struct Hit {
    wait: Duration,
    error: Option<ErrorKind>,
    cut: Option<u64>,
}

impl FaultLayer {
    /// Lets calls of `inner` go wrong; what happens at random is the same for the same seed and the same order of calls.
    pub fn new(inner: Arc<dyn StorageAdapter>, seed: u64, faults: impl IntoIterator<Item = Fault>) -> Self {
        let faults: Vec<Fault> = faults.into_iter().collect();
        let dice = Dice {
            calls: vec![0; faults.len()],
            random: fastrand::Rng::with_seed(seed),
        };
        Self {
            inner,
            faults,
            dice: Mutex::new(dice),
        }
    }

    fn roll(&self, operation: &str) -> Hit {
        let mut hit = Hit::default();
        // Numbers and a generator are whole whatever panicked elsewhere.
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, fault) in self.faults.iter().enumerate() {
            if fault.operation.as_deref().is_some_and(|only| only != operation) {
                continue;
            }
            dice.calls[index] += 1;
            let strikes = match fault.trigger {
                Trigger::Always => true,
                Trigger::Nth(n) => dice.calls[index] == n,
                Trigger::Probability(share) => dice.random.f64() < share,
            };
            match fault.effect {
                _ if !strikes => {}
                Effect::Latency(wait) => hit.wait += wait,
                Effect::Error(kind) => hit.error = hit.error.or(Some(kind)),
                Effect::Cut(bytes) => hit.cut = Some(hit.cut.unwrap_or(bytes).min(bytes)),
            }
        }
        hit
    }

    /// Waits and fails, if it is this call's turn; else says where its body is cut.
    async fn strike(&self, operation: &'static str, subject: &str) -> Result<Option<u64>> {
        let hit = self.roll(operation);
        if !hit.wait.is_zero() {
            tokio::time::sleep(hit.wait).await;
        }
        match hit.error {
            None => Ok(hit.cut),
            Some(kind) => Err(Error::new(kind, operation, subject, INJECTED)),
        }
    }
}

/// The first `limit` bytes, then an error if there are more.
fn cut(stream: ByteStream, limit: u64, operation: &'static str, subject: String) -> ByteStream {
    let state = (stream, limit, subject);
    ByteStream::new(stream::try_unfold(
        state,
        move |(mut stream, left, subject)| async move {
            let Some(mut chunk) = stream.try_next().await? else {
                return Ok(None);
            };
            let size = chunk.len() as u64;
            if size <= left {
                return Ok(Some((chunk, (stream, left - size, subject))));
            }
            if left == 0 {
                return Err(Error::new(ErrorKind::Unavailable, operation, subject, INJECTED));
            }
            let broken = Error::new(ErrorKind::Unavailable, operation, subject.as_str(), INJECTED);
            let rest = ByteStream::new(stream::once(async { Err(broken) }));
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            Ok(Some((chunk, (rest, 0, subject))))
        },
    ))
}

impl fmt::Debug for FaultLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultLayer")
            .field("inner", &self.inner)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageAdapter for FaultLayer {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let body = match self.strike("upload", key).await? {
            Some(limit) => Body::stream(cut(body.into_stream(), limit, "upload", key.to_string())),
            None => body,
        };
        self.inner.put(key, body, options).await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        match self.strike("upload", key).await? {
            // Its bytes don't pass here: the upload breaks before the first of them.
            Some(_) => Err(Error::new(
                ErrorKind::Unavailable,
                "upload",
                key.as_str(),
                INJECTED,
            )),
            None => self.inner.upload_file(key, path, options).await,
        }
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let limit = self.strike("download", key).await?;
        let mut download = self.inner.get(key, options).await?;
        if let Some(limit) = limit {
            download.stream = cut(download.stream, limit, "download", key.to_string());
        }
        Ok(download)
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.strike("metadata", key).await?;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.strike("delete", key).await?;
        self.inner.delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        match self.strike("delete", "many objects").await {
            Ok(_) => self.inner.delete_many(keys).await,
            Err(error) => {
                let each = |key: &Key| Err(Error::new(error.kind(), "delete", key.as_str(), INJECTED));
                keys.iter().map(each).collect()
            }
        }
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.strike("copy", from).await?;
        self.inner.copy(from, to).await
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        self.strike("list", prefix).await?;
        self.inner.list(prefix, options).await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.strike("sign url", key).await?;
        self.inner.signed_url(key, options).await
    }

    async fn check(&self) -> Result<()> {
        self.strike("check", self.inner.name()).await?;
        self.inner.check().await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        self.strike("rules", self.inner.name()).await?;
        self.inner.rules(sections).await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        self.strike("rules", self.inner.name()).await?;
        self.inner.set_rules(rules).await
    }

    fn rules_support(&self) -> RulesSupport {
        self.inner.rules_support()
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.strike("sweep", self.inner.name()).await?;
        self.inner.sweep(dry_run).await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryAdapter, Storage};

    fn storage(faults: impl IntoIterator<Item = Fault>) -> Storage {
        Storage::new(FaultLayer::new(Arc::new(MemoryAdapter::new()), 7, faults))
    }

    #[tokio::test]
    async fn the_nth_call_fails_and_no_other() {
        let storage = storage([Fault::error(ErrorKind::Unavailable).nth(3).on("upload")]);
        for call in 1..6 {
            storage.list("", Default::default()).await.unwrap();
            let result = storage.upload("a", "x").await;
            assert_eq!(result.is_err(), call == 3, "{call}");
        }
    }

    #[tokio::test]
    async fn chance_is_the_same_in_every_run() {
        let run = async || {
            let storage = storage([Fault::error(ErrorKind::Timeout).probability(0.3)]);
            let mut failed = Vec::new();
            for _ in 0..200 {
                failed.push(storage.upload("a", "x").await.is_err());
            }
            failed
        };
        let first = run().await;
        assert_eq!(first, run().await);
        let count = first.iter().filter(|failed| **failed).count();
        assert!((30..90).contains(&count), "{count} of 200 at 0.3");
    }

    #[tokio::test]
    async fn a_cut_upload_stores_nothing_and_a_cut_download_is_no_shorter_object() {
        let cut = storage([Fault::cut_body(4)]);
        assert_eq!(
            cut.upload("a", "12345").await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        assert!(!cut.exists("a").await.unwrap());
        cut.upload("a", "1234").await.unwrap();
        let cut = storage([Fault::cut_body(4).on("download")]);
        cut.upload("a", "12345").await.unwrap();
        let mut download = cut.download_stream("a", ()).await.unwrap();
        assert_eq!(download.stream.try_next().await.unwrap().unwrap(), "1234");
        let error = download.stream.try_next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        cut.upload("a", "1234").await.unwrap();
        assert_eq!(cut.download("a").await.unwrap(), "1234");
    }

    #[tokio::test]
    async fn latency_comes_before_the_call() {
        let wait = Duration::from_millis(80);
        let storage = storage([Fault::latency(wait).on("download")]);
        storage.upload("a", "x").await.unwrap();
        let started = std::time::Instant::now();
        storage.download("a").await.unwrap();
        assert!(started.elapsed() >= wait);
    }
}
