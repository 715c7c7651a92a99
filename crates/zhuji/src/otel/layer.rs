//! Reads the spans of the process as they come and go.

use std::borrow::Cow;
use std::fmt;
use std::time::{Instant, SystemTime};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use zhuji_logging::TraceContext;

use super::export::Queue;
use super::sampler::Sampler;
use super::span::{Found, Kind, Open};

/// Makes a trace of each request and each job, out of the spans within it.
///
/// A trace begins where a span says in its fields which one it belongs to; spans outside of those (a health check, a worker that
/// looks for jobs) are nobody's story and are left alone.
pub(super) struct TraceLayer {
    pub(super) queue: Queue,
    pub(super) sampler: Sampler,
}

/// Spans that matter to an operator, the platform's finer ones included, and errors.
pub(super) fn wanted(metadata: &Metadata<'_>) -> bool {
    let level = *metadata.level();
    if metadata.is_event() {
        return level == Level::ERROR;
    }
    level <= Level::INFO || (level == Level::DEBUG && metadata.target().starts_with("zhuji"))
}

impl TraceLayer {
    /// Where a span stands that begins a trace, or goes on with that of another process.
    fn begin(&self, found: &Found) -> (TraceContext, Option<TraceContext>) {
        let cause = found.traceparent.as_deref().and_then(TraceContext::parse);
        let own = match (&found.trace_id, &found.span_id) {
            (Some(trace), Some(span)) => TraceContext::parse(format!("00-{trace}-{span}-01")),
            _ => None,
        };
        let context = own.unwrap_or_else(|| cause.map_or_else(TraceContext::new, |cause| cause.child()));
        let caller = cause.map(|cause| cause.sampled());
        let sampled = self.sampler.samples(context.trace_id(), caller);
        (context.with_sampled(sampled), cause)
    }
}

impl<S> Layer<S> for TraceLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span
            .parent()
            .and_then(|parent| parent.extensions().get::<Open>().map(|open| open.context));
        let metadata = attributes.metadata();
        let begins = parent.is_none() && metadata.fields().field("trace_id").is_some();
        if !begins && parent.is_none() {
            return;
        }
        let mut found = Found::default();
        // Whoever is not sent needs no attributes, but must be known to its children.
        if begins || parent.is_some_and(|parent| parent.sampled()) {
            attributes.record(&mut found);
        }
        let (own, cause) = match parent {
            Some(parent) => (parent.child(), Some(parent)),
            None => self.begin(&found),
        };
        let mut open = Open {
            context: own,
            parent: cause
                .filter(|cause| cause.trace_id() == own.trace_id())
                .map(|cause| cause.span_id()),
            name: Cow::Borrowed(metadata.name()),
            kind: if begins { Kind::Server } else { Kind::Internal },
            attributes: Vec::new(),
            error: None,
            begun: SystemTime::now(),
            clock: Instant::now(),
        };
        if own.sampled() {
            open.take(found);
        }
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>().filter(|open| open.context.sampled()) {
            let mut found = Found::default();
            record.record(&mut found);
            open.take(found);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            open.fail(&said.0);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let open = context
            .span(&id)
            .and_then(|span| span.extensions_mut().remove::<Open>());
        if let Some(open) = open.filter(|open| open.context.sampled()) {
            self.queue.put(open.close());
        }
    }
}

/// An error's message and its cause.
#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.0.insert_str(0, value),
            "error" => self.0.push_str(&format!(": {value}")),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "message" | "error") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}
