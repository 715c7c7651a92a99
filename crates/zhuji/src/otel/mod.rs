//! Traces by OTLP, behind the feature `otel`.
//!
//! The ids are those of the log: `trace_id` and `span_id` of a request's lines find its span at the collector. Without the
//! feature everything here is a few empty functions.

mod config;
#[cfg(feature = "otel")]
mod encode;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod layer;
#[cfg(feature = "otel")]
mod sampler;
#[cfg(feature = "otel")]
mod span;
#[cfg(test)]
mod tests;

pub use config::{OtelConfig, OtlpProtocol, SamplerKind, TracesExporter};

use http::StatusCode;
use tokio::time::Instant;
use tracing::Span;
use zhuji_logging::{LogConfig, LogHandle, ServiceInfo};

use crate::error::{Error, ErrorKind};

/// How a request ended.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "nobody asks"))]
pub(crate) struct Answered<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The template, if a route was found.
    pub(crate) route: Option<&'a str>,
    pub(crate) status: StatusCode,
}

/// The traces of this process.
pub(crate) struct Traces {
    #[cfg(feature = "otel")]
    exporter: Option<export::Exporter>,
}

/// Sets up the log, and beside it the traces if they are to be sent anywhere. Needs a runtime.
///
/// # Errors
/// The log or the client of the collector can't be set up. A collector that is away is no error.
pub(crate) fn init(
    log: &LogConfig,
    traces: &OtelConfig,
    service: ServiceInfo,
) -> Result<(LogHandle, Traces), Error> {
    let failed = |error: zhuji_logging::Error| {
        Error::new(ErrorKind::Process, "the log could not be set up").because(error)
    };
    #[cfg(feature = "otel")]
    if let Some(target) = traces.target() {
        use tracing_subscriber::Layer;
        use tracing_subscriber::filter::filter_fn;

        let address = target.to_string();
        let resource = encode::Resource::new(&resource(traces, &service));
        let (exporter, queue) = export::Exporter::start(traces, target, resource)?;
        let sampler = sampler::Sampler::new(traces);
        let layer = layer::TraceLayer { queue, sampler }.with_filter(filter_fn(layer::wanted));
        let log = zhuji_logging::init_with(log, service, layer).map_err(failed)?;
        tracing::info!(
            collector = address,
            sampler = traces.sampler.as_str(),
            "traces are sent"
        );
        let exporter = Some(exporter);
        return Ok((log, Traces { exporter }));
    }
    let log = zhuji_logging::init(log, service).map_err(failed)?;
    #[cfg(not(feature = "otel"))]
    if traces.target().is_some() {
        tracing::warn!(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without the feature `otel`: no traces are \
             sent; build it with the feature, or take the variable away"
        );
    }
    let none = Traces {
        #[cfg(feature = "otel")]
        exporter: None,
    };
    Ok((log, none))
}

impl Traces {
    /// Sends what is left, until `deadline`.
    pub(crate) async fn flush(self, deadline: Instant) {
        #[cfg(feature = "otel")]
        if let Some(exporter) = self.exporter {
            exporter.stop(deadline).await;
        }
        #[cfg(not(feature = "otel"))]
        let _ = deadline;
    }
}

/// Completes a request's span with what is known only at its end.
#[cfg(feature = "otel")]
pub(crate) fn answered(span: &Span, answered: Answered<'_>) {
    use span::Value;

    let Answered {
        method,
        path,
        route,
        status,
    } = answered;
    on(span, |open| {
        if !open.context.sampled() {
            return;
        }
        open.name = match route {
            Some(route) => format!("{method} {route}").into(),
            // A path of its own would make a name of its own.
            None => method.to_owned().into(),
        };
        open.set("http.request.method", Value::text("", method));
        open.set("url.path", Value::text("", path));
        if let Some(route) = route {
            open.set("http.route", Value::text("", route));
        }
        open.set("http.response.status_code", Value::Int(status.as_u16().into()));
        if status.is_server_error() {
            open.fail(status.canonical_reason().unwrap_or("server error"));
        } else {
            // What went wrong on the way was answered for.
            open.error = None;
        }
    });
}

#[cfg(not(feature = "otel"))]
pub(crate) fn answered(_: &Span, _: Answered<'_>) {}

/// The trace of a request with the decision whether it is sent, for whoever the request calls or enqueues.
#[cfg(feature = "otel")]
pub(crate) fn decided(span: &Span, trace: zhuji_logging::TraceContext) -> zhuji_logging::TraceContext {
    let mut decided = trace;
    on(span, |open| decided = open.context);
    decided
}

#[cfg(not(feature = "otel"))]
pub(crate) fn decided(_: &Span, trace: zhuji_logging::TraceContext) -> zhuji_logging::TraceContext {
    trace
}

#[cfg(feature = "otel")]
fn on(span: &Span, work: impl FnOnce(&mut span::Open)) {
    use tracing_subscriber::registry::{LookupSpan, Registry};

    span.with_subscriber(|(id, subscriber)| {
        let Some(span) = subscriber
            .downcast_ref::<Registry>()
            .and_then(|registry| registry.span(id))
        else {
            return;
        };
        if let Some(open) = span.extensions_mut().get_mut::<span::Open>() {
            work(open);
        }
    });
}

/// What every span of this process has in common. `OTEL_RESOURCE_ATTRIBUTES` wins over what is found, and
/// `OTEL_SERVICE_NAME` over both.
#[cfg(feature = "otel")]
fn resource(config: &OtelConfig, service: &ServiceInfo) -> span::Attributes {
    let mut found = vec![
        ("service.name".to_owned(), service.service.clone()),
        ("service.version".to_owned(), service.version.clone()),
        ("service.instance.id".to_owned(), service.instance.clone()),
        ("deployment.environment.name".to_owned(), service.env.clone()),
        ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
        ("telemetry.sdk.name".to_owned(), "zhuji".to_owned()),
        (
            "telemetry.sdk.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
    ];
    let given = config.resource_attributes.as_deref().and_then(config::pairs);
    let name = config
        .service_name
        .clone()
        .map(|name| ("service.name".to_owned(), name));
    for (name, value) in given.into_iter().flatten().chain(name) {
        found.retain(|(known, _)| *known != name);
        found.push((name, value));
    }
    found
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let value = span::Value::text(&name, &value);
            (name.into(), value)
        })
        .collect()
}
