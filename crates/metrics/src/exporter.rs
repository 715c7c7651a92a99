use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::buckets::with_buckets;
use crate::error::{Error, ErrorKind, Result};
use crate::process;
use crate::text::{Exposition, complete};

/// The `content-type` of what [`MetricsExporter::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often samples of histograms are moved into their buckets. Without it they pile up while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Turns what the process has emitted through the `metrics` macros into Prometheus text. Cheap to clone.
#[derive(Clone)]
pub struct MetricsExporter {
    inner: Arc<Inner>,
}

struct Inner {
    handle: PrometheusHandle,
    service: String,
    version: String,
    started: Instant,
}

impl MetricsExporter {
    /// Installs the recorder for this process. Only an application calls this (the facade does); a library emits
    /// through the `metrics` macros and leaves it at that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyInstalled`] when the process already has a recorder.
    pub fn install(service: impl Into<String>, version: impl Into<String>) -> Result<Self> {
        let (exporter, recorder) = Self::build(service.into(), version.into())?;
        metrics::set_global_recorder(recorder).map_err(|source| {
            let why = "it already has one; set up metrics once, in the application";
            Error::new(
                ErrorKind::AlreadyInstalled,
                "setting up metrics",
                "this process",
                why,
                source,
            )
        })?;
        let upkept = Arc::downgrade(&exporter.inner);
        std::thread::Builder::new()
            .name("metrics-upkeep".into())
            .spawn(move || keep_up(&upkept))
            .map_err(|source| {
                let why = "no thread could be started; look at the process limits";
                Error::new(
                    ErrorKind::Build,
                    "setting up metrics",
                    "this process",
                    why,
                    source,
                )
            })?;
        Ok(exporter)
    }

    /// An exporter with its recorder, not installed: for tests, with `metrics::with_local_recorder`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Build`], which does not happen with the built-in buckets.
    pub fn recorder(
        service: impl Into<String>,
        version: impl Into<String>,
    ) -> Result<(Self, impl metrics::Recorder + Send + Sync + 'static)> {
        Self::build(service.into(), version.into())
    }

    fn build(
        service: String,
        version: String,
    ) -> Result<(Self, metrics_exporter_prometheus::PrometheusRecorder)> {
        let builder =
            with_buckets(PrometheusBuilder::new().with_recommended_naming(true)).map_err(|source| {
                let why = "the buckets are not accepted";
                Error::new(
                    ErrorKind::Build,
                    "setting up metrics",
                    "the recorder",
                    why,
                    source,
                )
            })?;
        let recorder = builder.build_recorder();
        let inner = Inner {
            handle: recorder.handle(),
            service,
            version,
            started: Instant::now(),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            recorder,
        ))
    }

    /// Everything, in the Prometheus text format, with [`CONTENT_TYPE`]. Passes `promtool check metrics`.
    ///
    /// Besides what was emitted: `zhuji_build_info`, the process' memory, threads, descriptors and processor time, and
    /// the number of series. Reads a few files of `/proc`, which takes well under a millisecond.
    pub fn render(&self) -> String {
        let inner = &self.inner;
        let (mut text, series) = complete(&inner.handle.render());
        let mut out = Exposition(&mut text);
        let labels = [("service", &*inner.service), ("version", &*inner.version)];
        out.info(
            "zhuji_build_info",
            "What is running; the value is always 1.",
            &labels,
        );
        let help = "Series emitted by this process, its own process metrics not counted.";
        out.gauge("zhuji_metrics_series", help, series as f64);
        process::write(inner.started, &mut out);
        text
    }
}

impl fmt::Debug for MetricsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsExporter")
            .field("service", &self.inner.service)
            .finish_non_exhaustive()
    }
}

/// Ends when the last exporter is gone.
fn keep_up(exporter: &Weak<Inner>) {
    while let Some(inner) = exporter.upgrade() {
        inner.handle.run_upkeep();
        drop(inner);
        std::thread::sleep(UPKEEP);
    }
}
