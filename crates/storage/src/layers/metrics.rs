//! What an adapter does, as numbers.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Instant,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tracing::{Instrument, field};

use crate::{
    Body, ByteStream, Download, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions,
    Result, RulesSection, RulesSupport, SignOptions, SignedUrl, StorageAdapter, StorageRules, Stored, Swept,
    UploadFileOptions, UrlSigner,
};

/// Failures that somebody is woken for.
const WATCHED: [ErrorKind; 7] = [
    ErrorKind::Denied,
    ErrorKind::Credential,
    ErrorKind::Signature,
    ErrorKind::ClockSkew,
    ErrorKind::Timeout,
    ErrorKind::Unavailable,
    ErrorKind::NoSpace,
];

/// Emits `zhuji_storage_operations_total`, `…_errors_total` (by kind), `…_operation_seconds`, `…_bytes_total` (in and out)
/// and `…_in_flight`. The seconds of a download end when it is opened; its bytes are counted as they pass.
///
/// They go to the recorder that is installed when the layer is made.
#[derive(Debug)]
pub struct MetricsLayer {
    inner: Arc<dyn StorageAdapter>,
    name: &'static str,
    meters: Arc<Meters>,
}

/// Looked up once: by name and labels at every call, that costs as much as a signature.
struct Meters {
    adapter: &'static str,
    in_flight: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    /// How many, and how long, by operation.
    operations: [(&'static str, OnceLock<(Counter, Histogram)>); OPERATIONS.len()],
}

const OPERATIONS: [&str; 11] = [
    "upload",
    "download",
    "metadata",
    "delete",
    "delete_many",
    "copy",
    "list",
    "check",
    "rules",
    "set_rules",
    "sweep",
];

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

impl Meters {
    fn new(adapter: &'static str) -> Self {
        let bytes =
            |direction| counter!("zhuji_storage_bytes_total", "adapter" => adapter, "direction" => direction);
        Self {
            adapter,
            in_flight: gauge!("zhuji_storage_in_flight", "adapter" => adapter),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            operations: OPERATIONS.map(|operation| (operation, OnceLock::new())),
        }
    }

    fn operation(&self, name: &'static str) -> Option<&(Counter, Histogram)> {
        let (_, meters) = self.operations.iter().find(|(operation, _)| *operation == name)?;
        Some(meters.get_or_init(|| {
            let labels = [("adapter", self.adapter), ("operation", name)];
            (
                counter!("zhuji_storage_operations_total", &labels),
                histogram!("zhuji_storage_operation_seconds", &labels),
            )
        }))
    }

    fn failed(&self, operation: &'static str, kind: &'static str) {
        let labels = [
            ("adapter", self.adapter),
            ("operation", operation),
            ("kind", kind),
        ];
        counter!("zhuji_storage_errors_total", &labels).increment(1);
    }
}

impl MetricsLayer {
    /// Counts what `inner` does.
    pub fn new(inner: Arc<dyn StorageAdapter>) -> Self {
        metrics::describe_counter!(
            "zhuji_storage_operations_total",
            "Storage operations, failed ones included"
        );
        metrics::describe_counter!("zhuji_storage_errors_total", "Failed storage operations by kind");
        metrics::describe_histogram!(
            "zhuji_storage_operation_seconds",
            metrics::Unit::Seconds,
            "Duration of storage operations"
        );
        metrics::describe_counter!(
            "zhuji_storage_bytes_total",
            metrics::Unit::Bytes,
            "Bytes stored (in) and read (out)"
        );
        metrics::describe_gauge!("zhuji_storage_in_flight", "Storage operations under way");
        metrics::describe_counter!("zhuji_storage_retries_total", "Attempts after the first");
        let name = inner.name();
        // At 0 from the start: an increase from nothing is no increase to who watches.
        for operation in ["upload", "download", "delete"] {
            for kind in WATCHED {
                let labels = [
                    ("adapter", name),
                    ("operation", operation),
                    ("kind", kind.as_str()),
                ];
                counter!("zhuji_storage_errors_total", &labels).increment(0);
            }
        }
        let meters = Arc::new(Meters::new(name));
        Self { inner, name, meters }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let span = Span::start(&self.meters, operation);
        // For an exporter of traces. Without the key: people put names of people into keys.
        let trace = tracing::debug_span!(
            "storage",
            adapter = self.name,
            operation,
            otel.kind = "client",
            otel.name = %format_args!("storage {operation}"),
            otel.status_message = field::Empty,
        );
        let result = work.instrument(trace.clone()).await;
        if let Err(error) = &result {
            span.failed(error.kind().as_str());
            trace.record("otel.status_message", error.kind().as_str());
        }
        result
    }
}

/// One operation under way; also ends if its future is dropped.
struct Span<'a> {
    meters: &'a Meters,
    operation: &'static str,
    started: Instant,
}

impl<'a> Span<'a> {
    fn start(meters: &'a Meters, operation: &'static str) -> Self {
        meters.in_flight.increment(1.0);
        if let Some((count, _)) = meters.operation(operation) {
            count.increment(1);
        }
        Self {
            meters,
            operation,
            started: Instant::now(),
        }
    }

    fn failed(&self, kind: &'static str) {
        self.meters.failed(self.operation, kind);
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.meters.in_flight.decrement(1.0);
        if let Some((_, seconds)) = self.meters.operation(self.operation) {
            seconds.record(self.started.elapsed());
        }
    }
}

#[async_trait]
impl StorageAdapter for MetricsLayer {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored> {
        let stored = self.timed("upload", self.inner.put(key, body, options)).await?;
        self.meters.bytes_in.increment(stored.size);
        Ok(stored)
    }

    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        let stored = self
            .timed("upload", self.inner.upload_file(key, path, options))
            .await?;
        self.meters.bytes_in.increment(stored.size);
        Ok(stored)
    }

    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download> {
        let mut download = self.timed("download", self.inner.get(key, options)).await?;
        let meters = Arc::clone(&self.meters);
        download.stream = ByteStream::new(download.stream.inspect(move |piece| match piece {
            Ok(piece) => meters.bytes_out.increment(piece.len() as u64),
            Err(failed) => meters.failed("download", failed.kind().as_str()),
        }));
        Ok(download)
    }

    async fn head(&self, key: &Key) -> Result<Metadata> {
        self.timed("metadata", self.inner.head(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.timed("delete", self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let span = Span::start(&self.meters, "delete_many");
        let results = self.inner.delete_many(keys).await;
        for failed in results.iter().filter_map(|result| result.as_ref().err()) {
            span.failed(failed.kind().as_str());
        }
        results
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored> {
        self.timed("copy", self.inner.copy(from, to)).await
    }

    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage> {
        self.timed("list", self.inner.list(prefix, options)).await
    }

    fn url(&self, key: &str) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl> {
        self.inner.signed_url(key, options).await
    }

    async fn check(&self) -> Result<()> {
        self.timed("check", self.inner.check()).await
    }

    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        self.timed("rules", self.inner.rules(sections)).await
    }

    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        self.timed("set_rules", self.inner.set_rules(rules)).await
    }

    fn rules_support(&self) -> RulesSupport {
        self.inner.rules_support()
    }

    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        self.timed("sweep", self.inner.sweep(dry_run)).await
    }

    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        self.inner.url_signer()
    }
}
