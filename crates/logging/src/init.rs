use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_log::AsLog as _;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::LogHandle;
use crate::json::Json;
use crate::layer::{LogLayer, Shape};
use crate::pretty::Pretty;
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
    let (log, handle) = build::<Registry, _>(config, service, std::io::stdout, terminal);
    install(tracing_subscriber::registry().with(log), &handle)?;
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
    build(config, service, writer, false)
}

fn build<S, W>(
    config: &LogConfig,
    service: ServiceInfo,
    writer: W,
    terminal: bool,
) -> (impl Layer<S> + Send + Sync + use<S, W>, LogHandle)
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
    let (filter, reload) = tracing_subscriber::reload::Layer::new(config.level.to_env_filter());
    let handle = LogHandle::new(
        Box::new(move |new| reload.reload(new)),
        config.level.clone(),
        Arc::clone(&lost),
    );
    (filter.and_then(LogLayer { shape, writer, lost }), handle)
}
