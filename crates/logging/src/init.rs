use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_log::AsLog as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::LogHandle;
use crate::json::Json;
use crate::layer::{LogLayer, Shape};
use crate::pretty::Pretty;
use crate::recent::Recent;
use crate::service::ServiceInfo;

/// Logs this process to stdout from here on, records of the `log` crate included.
///
/// Only an application calls this (the facade does); a library emits `tracing` events and leaves it at that. A line
/// is written before its macro returns, so nothing is lost when the process dies.
///
/// # Errors
///
/// [`ErrorKind::AlreadyInstalled`] when the process already has a subscriber or a logger.
pub fn init(config: &LogConfig, service: ServiceInfo) -> Result<LogHandle> {
    let terminal = std::io::stdout().is_terminal();
    let (filter, log, handle) = build::<Registry, _>(config, service, std::io::stdout, terminal);
    install(tracing_subscriber::registry().with(filter.and_then(log)), &handle)?;
    Ok(handle)
}

/// As [`init`], with one more reader of spans and events, such as an exporter of traces. The log's filter does not
/// reach it: it brings its own (`with_filter`), and what that lets through is not logged for it.
///
/// # Errors
///
/// As [`init`].
pub fn init_with<L>(config: &LogConfig, service: ServiceInfo, also: L) -> Result<LogHandle>
where
    L: Layer<Registry> + Send + Sync + 'static,
{
    let terminal = std::io::stdout().is_terminal();
    let (filter, log, handle) = build(config, service, std::io::stdout, terminal);
    let log = log.with_filter(filter);
    install(tracing_subscriber::registry().with(also).with(log), &handle)?;
    Ok(handle)
}

fn install(subscriber: impl Subscriber + Send + Sync, handle: &LogHandle) -> Result<()> {
    let taken = "it already has one; set up logging once, in the application";
    let error = || {
        Error::new(
            ErrorKind::AlreadyInstalled,
            "setting up logging",
            "this process",
            taken,
        )
    };
    tracing::subscriber::set_global_default(subscriber).map_err(|source| error().caused_by(source))?;
    let level = tracing::level_filters::LevelFilter::current().as_log();
    let bridge = tracing_log::LogTracer::builder().with_max_level(level).init();
    bridge.map_err(|source| error().caused_by(source))?;
    handle.mark_bridged();
    Ok(())
}

/// A subscriber that writes where it is told, without installing it: for tests, with
/// `tracing::subscriber::with_default`. [`LogFormat::Auto`] is JSON here, and nothing is coloured.
pub fn subscriber_with_writer<W>(
    config: &LogConfig,
    service: ServiceInfo,
    writer: W,
) -> (
    impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>,
    LogHandle,
)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (log, handle) = layer::<Registry, W>(config, service, writer);
    (tracing_subscriber::registry().with(log), handle)
}

/// The same as a layer, to be combined with others (trace export) over one registry. Its filter is that of the whole
/// subscriber.
pub fn layer<S, W>(
    config: &LogConfig,
    service: ServiceInfo,
    writer: W,
) -> (impl Layer<S> + Send + Sync + use<S, W>, LogHandle)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, log, handle) = build(config, service, writer, false);
    (filter.and_then(log), handle)
}

type Filter<S> = tracing_subscriber::reload::Layer<EnvFilter, S>;

fn build<S, W>(
    config: &LogConfig,
    service: ServiceInfo,
    writer: W,
    terminal: bool,
) -> (Filter<S>, LogLayer<W>, LogHandle)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let shape = if pretty {
        // The convention of no-color.org: present and not empty.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Shape::Pretty(Pretty {
            colour: terminal && !plain,
        })
    } else {
        Shape::Json(Json::new(&service))
    };
    let lost = Arc::default();
    let recent = Recent::default();
    let (filter, reload) = tracing_subscriber::reload::Layer::new(config.level.to_env_filter());
    let handle = LogHandle::new(
        Box::new(move |new| reload.reload(new)),
        config.level.clone(),
        Arc::clone(&lost),
        recent.clone(),
    );
    let layer = LogLayer {
        shape,
        writer,
        lost,
        recent,
    };
    (filter, layer, handle)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::level_filters::LevelFilter;
    use tracing::span::{Attributes, Id};
    use tracing_subscriber::layer::Context;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Spans(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Spans {
        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn another_reader_has_a_filter_of_its_own() {
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig::default();
        let (filter, log, handle) = build(&config, ServiceInfo::new("s", "1"), move || writer.clone(), false);
        let seen = Arc::new(AtomicUsize::new(0));
        let also = Spans(Arc::clone(&seen)).with_filter(LevelFilter::DEBUG);
        let subscriber = tracing_subscriber::registry()
            .with(also)
            .with(log.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            let _outer = tracing::info_span!("outer", request_id = "r-1").entered();
            let _inner = tracing::debug_span!("inner", statement = "SELECT 1").entered();
            tracing::info!("one");
            tracing::debug!("two");
            handle.set_filter("debug", None).unwrap();
            let _inner = tracing::debug_span!("inner", statement = "SELECT 2").entered();
            tracing::debug!("three");
        });
        assert_eq!(seen.load(Ordering::Relaxed), 3);
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("one") && !lines.contains("two"), "{lines}");
        assert!(
            lines.contains("r-1") && !lines.contains("SELECT 1"),
            "what the log's filter holds back is not in its lines: {lines}"
        );
        assert!(lines.contains("three") && lines.contains("SELECT 2"), "{lines}");
    }
}
