//! Writes that are acknowledged though the store can't be reached, and carried out when it can.

mod link;
mod lock;
mod queue;
mod replay;
mod room;
mod stage;

use std::{
    fmt,
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub(super) use self::lock::lock;
use self::{
    link::{Link, unreachable},
    queue::{Operation, Queue},
};
use super::merge::merge;
use crate::{
    Body, CorsRule, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions,
    Result, RulesSection, RulesSupport, SignMethod, SignOptions, SignedUrl, StorageAdapter, StorageRules,
    Stored, Swept, UploadFileOptions, UrlSigner,
    adapter::{file_body, no_result},
};

/// How much longer a read may take once the link is taken to be down.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a health check has for the store; when it takes longer, the link is probed in the background.
const CHECK: Duration = Duration::from_millis(400);
/// When it may be worth to ask again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Stands around the adapter of a store elsewhere, with a local one beside it.
///
/// - While the link is up and nothing waits for a key, its operations go straight to the store. A write that can't reach it is
///   kept on disk, synced, and acknowledged. A stream is written to disk first, because it can't be had twice.
/// - What waits is carried out in the order in which it was acknowledged, in the background, across restarts.
/// - Operations on a key for which something waits wait behind it, and reads of it are answered from here.
/// - Create-only stays what it is: while the link is down, what isn't here can't be promised to be new.
pub(super) struct OutboxAdapter {
    shared: Arc<Shared>,
    replay: JoinHandle<()>,
}

/// What the adapter and its background task share.
struct Shared {
    remote: Arc<dyn StorageAdapter>,
    spool: Arc<dyn StorageAdapter>,
    signer: Option<Arc<UrlSigner>>,
    queue: Queue,
    link: Link,
    /// Whether the link should be looked at though it is taken to be up.
    doubted: AtomicBool,
    /// Told when there is something to do.
    wake: Notify,
    /// Held: two processes would carry everything out twice, and in no order.
    _lock: File,
}

/// Where a write goes.
enum Way {
    Store,
    Queue,
}

impl OutboxAdapter {
    /// Reads what waits and starts to carry it out. At most `most` bytes may wait.
    pub(super) async fn open(
        remote: Arc<dyn StorageAdapter>,
        spool: Arc<dyn StorageAdapter>,
        signer: Option<Arc<UrlSigner>>,
        most: u64,
        lock: File,
    ) -> Result<Self> {
        describe();
        let shared = Arc::new(Shared {
            queue: Queue::load(Arc::clone(&spool), most).await?,
            remote,
            spool,
            signer,
            link: Link::new(),
            doubted: AtomicBool::new(false),
            wake: Notify::new(),
            _lock: lock,
        });
        let replay = tokio::spawn(replay::run(Arc::clone(&shared)));
        Ok(Self { shared, replay })
    }

    /// Where a write of this key goes now.
    fn way(&self, key: &Key, create_only: bool) -> Result<Way> {
        let Shared { queue, link, .. } = &*self.shared;
        if create_only {
            queue.check_absent(key)?;
        }
        match queue.latest(key) {
            Some(_) => Ok(Way::Queue),
            None if link.is_up() => Ok(Way::Store),
            None if create_only => {
                let why = "the link to the store is down, so nobody knows whether the object exists";
                Err(down("upload", key, why))
            }
            None => Ok(Way::Queue),
        }
    }

    /// Writes to the store, unless the link is lost meanwhile: then waiting longer would not help.
    async fn write<T>(
        &self,
        operation: &'static str,
        key: &Key,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        tokio::select! {
            result = work => self.noted(result),
            () = self.shared.link.until_lost() => Err(down(operation, key, "the link to the store was lost")),
        }
    }

    /// Reads from the store; with little patience once the link is down.
    async fn read<T>(
        &self,
        operation: &'static str,
        subject: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let lost = async {
            self.shared.link.until_lost().await;
            sleep(PATIENCE).await;
        };
        tokio::select! {
            result = work => self.noted(result),
            () = lost => Err(down(operation, subject, "the link to the store is down")),
        }
    }

    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && unreachable(error)
            && self.shared.link.lost(error)
        {
            self.shared.wake.notify_one();
        }
        result
    }

    /// The object as it waits here; `None` if the store has to be asked.
    async fn waiting(
        &self,
        operation: &'static str,
        key: &Key,
        options: &GetOptions,
    ) -> Result<Option<Download>> {
        let Shared { queue, spool, .. } = &*self.shared;
        loop {
            let Some((number, record)) = queue.latest(key) else {
                return Ok(None);
            };
            if record.operation == Operation::Delete {
                let why = "there is no such object";
                return Err(Error::new(ErrorKind::NotFound, operation, key.as_str(), why));
            }
            match spool.get(&record.data()?, options).await {
                Ok(mut download) => {
                    download.metadata = record.metadata(download.metadata);
                    return Ok(Some(download));
                }
                // It has been carried out since we looked.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && queue.latest(key).is_none_or(|(now, _)| now != number) => {}
                Err(error) => return Err(error.with_subject(key.as_str())),
            }
        }
    }
}

fn down(operation: &'static str, subject: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, subject, why)
        .with_hint(
            "it can be done again when the link is up; what is resident or waits in the outbox can be read",
        )
        .with_retry_after(Some(ASK_AGAIN))
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_gauge!(
        "zhuji_storage_outbox_objects",
        "Operations that wait for the link to the store"
    );
    describe_gauge!(
        "zhuji_storage_outbox_bytes",
        Unit::Bytes,
        "Bytes of uploads that wait for the link"
    );
    describe_gauge!(
        "zhuji_storage_outbox_oldest_seconds",
        Unit::Seconds,
        "Age of the operation that waits longest"
    );
    describe_counter!(
        "zhuji_storage_outbox_replayed_total",
        "Operations carried out after they had waited"
    );
    describe_gauge!(
        "zhuji_storage_outbox_failed",
        "Operations that the store refused for good, kept aside for an operator"
    );
}

impl Drop for OutboxAdapter {
    fn drop(&mut self) {
        self.replay.abort();
    }
}

impl fmt::Debug for OutboxAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxAdapter")
            .field("remote", &self.shared.remote)
            .field("spool", &self.shared.spool)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageAdapter for OutboxAdapter {
    fn name(&self) -> &'static str {
        self.shared.remote.name()
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let create_only = options.create_only;
        if let (Way::Store, Some(bytes)) = (self.way(key, create_only)?, body.bytes()) {
            let put = self.shared.remote.put(key, bytes.clone().into(), options);
            match self.write("upload", key, put).await {
                // Whether a write that may only create has been carried out, nobody knows.
                Err(error) if unreachable(&error) && !create_only => {}
                other => return other,
            }
        }
        let once = body.is_stream();
        let staged = self.stage(key, body, options).await?;
        if once && let Way::Store = self.way(key, create_only)? {
            match self.send(key, &staged.0, create_only).await {
                Err(error) if unreachable(&error) && !create_only => {}
                other => return other,
            }
        }
        self.keep(key, staged, create_only).await
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        if let Way::Store = self.way(key, options.put.create_only)? {
            let upload = self.shared.remote.upload_file(key, path, options);
            match self.write("upload", key, upload).await {
                Err(error) if unreachable(&error) && !options.put.create_only => {}
                other => return other,
            }
        }
        let body = file_body(key, path, options).await?;
        let staged = self.stage(key, body, &options.put).await?;
        self.keep(key, staged, options.put.create_only).await
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        match self.waiting("download", key, options).await? {
            Some(download) => Ok(download),
            None => {
                self.read("download", key, self.shared.remote.get(key, options))
                    .await
            }
        }
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        match self.waiting("metadata", key, &GetOptions::default()).await? {
            Some(download) => Ok(download.metadata),
            None => self.read("metadata", key, self.shared.remote.head(key)).await,
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        if let Way::Store = self.way(key, false)? {
            match self.write("delete", key, self.shared.remote.delete(key)).await {
                Err(error) if unreachable(&error) => {}
                other => return other,
            }
        }
        self.keep_delete(key).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let direct: Vec<Key> = keys
            .iter()
            .filter(|key| matches!(self.way(key, false), Ok(Way::Store)))
            .cloned()
            .collect();
        let mut answers = Vec::new().into_iter();
        if !direct.is_empty() {
            answers = self.shared.remote.delete_many(&direct).await.into_iter();
        }
        let mut asked = direct.iter().peekable();
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            let answer = asked
                .next_if(|next| *next == key)
                .map(|_| answers.next().unwrap_or_else(|| Err(no_result(key))));
            results.push(match answer.map(|answer| self.noted(answer)) {
                Some(Err(error)) if !unreachable(&error) => Err(error),
                Some(Ok(())) => Ok(()),
                Some(Err(_)) | None => self.keep_delete(key).await,
            });
        }
        results
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        let waits = |key| self.shared.queue.latest(key).is_some();
        if !waits(from) && !waits(to) {
            return self.read("copy", from, self.shared.remote.copy(from, to)).await;
        }
        let source = self.get(from, &GetOptions::default()).await?;
        let options = PutOptions::of(&source.metadata);
        let body = Body::stream(source.stream).with_length(source.metadata.size);
        self.put(to, body, &options).await
    }

    /// While the link is down, only what waits is known: that is not a listing.
    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        // First what waits: what is carried out meanwhile is then in both, and not in neither.
        let waiting = self.shared.queue.page(prefix, options);
        let mut page = self
            .read("list", prefix, self.shared.remote.list(prefix, options))
            .await?;
        let Some((keys, waiting)) = waiting else {
            return Ok(page);
        };
        page.entries.retain(|entry| !keys.contains(entry.key.as_str()));
        Ok(merge([page, waiting], options.limit))
    }

    fn url(&self, key: &str) -> String {
        self.shared.remote.url(key)
    }

    /// What is not in the store can't be fetched there: its address leads to this process, and so does an upload behind
    /// something that waits, or while the link is down.
    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        let Shared {
            queue, link, signer, ..
        } = &*self.shared;
        let here = queue.latest(key).is_some()
            || (options.method == SignMethod::Put && !link.is_up())
            || self.shared.remote.url_signer().is_some();
        match signer {
            Some(signer) if here => Ok(signer.sign(key, options)),
            _ => self.shared.remote.signed_url(key, options).await,
        }
    }

    /// The link may be down; the disk must work.
    async fn check(&self) -> Result<()> {
        self.shared.spool.check().await?;
        if !self.shared.link.is_up() {
            return Ok(());
        }
        match timeout(CHECK, self.shared.remote.check()).await {
            Ok(checked) => match self.noted(checked) {
                Err(error) if unreachable(&error) => Ok(()),
                other => other,
            },
            Err(_) => {
                self.shared.doubted.store(true, Ordering::Relaxed);
                self.shared.wake.notify_one();
                Ok(())
            }
        }
    }

    fn degraded(&self) -> Option<&'static str> {
        let Shared { queue, link, .. } = &*self.shared;
        if queue.has_failed() {
            Some("the outbox holds refused uploads")
        } else if !link.is_up() {
            Some("link down")
        } else if !queue.is_empty() {
            Some("uploads wait in the outbox")
        } else {
            None
        }
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        self.read("rules", self.name(), self.shared.remote.rules(sections))
            .await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        self.read("rules", self.name(), self.shared.remote.set_rules(rules))
            .await
    }

    fn rules_support(&self) -> RulesSupport {
        self.shared.remote.rules_support()
    }

    async fn served_cors(&self) -> Result<Vec<CorsRule>> {
        self.read("rules", self.name(), self.shared.remote.served_cors())
            .await
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.shared.remote.sweep(dry_run).await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.shared.signer.clone()
    }
}
