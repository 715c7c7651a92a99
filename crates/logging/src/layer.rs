use std::cell::Cell;
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::fields::Fields;
use crate::json::Json;
use crate::pretty::Pretty;
use crate::recent::Recent;

/// Everything there is to say about one event.
pub(crate) struct Entry<'a> {
    pub(crate) time: Timestamp,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) event: &'a Fields,
    /// The spans around it, innermost first.
    pub(crate) spans: &'a [Fields],
}

impl Entry<'_> {
    pub(crate) fn level_name(&self) -> &'static str {
        match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        }
    }
}

#[derive(Debug)]
pub(crate) enum Shape {
    Json(Json),
    Pretty(Pretty),
}

/// Writes every event as one line, in one call to its writer, before the event's macro returns.
///
/// Made by [`layer`](crate::layer), which puts the filter in front of it.
pub struct LogLayer<W> {
    pub(crate) shape: Shape,
    pub(crate) writer: W,
    /// Lines that the writer refused.
    pub(crate) lost: Arc<AtomicU64>,
    pub(crate) recent: Recent,
}

impl<W> fmt::Debug for LogLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Fields of spans that are there for an exporter of traces. A line names its trace in fields of its own.
fn is_for_exporters(name: &str) -> bool {
    name == "traceparent" || name.starts_with("otel.")
}

thread_local! {
    /// The last line's memory. Taken out while in use, so that an event logged by a `Debug` of this very event, or by
    /// the panic hook, finds an empty one instead of a borrowed one.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Before any lock: the values' own `Debug` code runs here.
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.list.retain(|(name, _)| !is_for_exporters(name));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let mut new = Fields::default();
        record.record(&mut new);
        new.list.retain(|(name, _)| !is_for_exporters(name));
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<Fields>() {
            fields.merge(new);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                spans.push(fields.share());
            }
        }
        let metadata = event.metadata();
        let target = fields.log_target.clone();
        let entry = Entry {
            time: Timestamp::now(),
            level: *metadata.level(),
            target: target.as_deref().unwrap_or(metadata.target()),
            event: &fields,
            spans: &spans,
        };
        self.recent.note(&entry);
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        let line = match &self.shape {
            Shape::Json(json) => json.write(&entry, line),
            Shape::Pretty(pretty) => pretty.write(&entry, line),
        };
        if self.writer.make_writer_for(metadata).write_all(&line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        // At the very end of a thread there is nothing to keep it in.
        let _ = LINE.try_with(|kept| kept.set(line));
    }
}
