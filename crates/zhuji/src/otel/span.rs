//! A span of the `tracing` crate, as it goes to the collector.

use std::borrow::Cow;
use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use zhuji_logging::{SpanId, TraceContext, is_sensitive_name, redact};

/// Bytes of one text; a statement is rarely longer, and a collector refuses what is far longer.
const LONGEST: usize = 2048;
/// Attributes of one span, as the specification proposes.
const MOST: usize = 128;

/// Which side of a call a span is, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl Value {
    /// Never with what opens a door, and never long.
    pub(super) fn text(name: &str, text: &str) -> Self {
        if is_sensitive_name(name) {
            return Self::Text("***".to_owned());
        }
        Self::Text(clean(text))
    }
}

fn clean(text: &str) -> String {
    let text = redact(text);
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

pub(super) type Attributes = Vec<(Cow<'static, str>, Value)>;

/// A span that is open, kept with the span it belongs to.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) context: TraceContext,
    pub(super) parent: Option<SpanId>,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    /// Why it failed.
    pub(super) error: Option<String>,
    pub(super) begun: SystemTime,
    pub(super) clock: Instant,
}

impl Open {
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        if self.attributes.len() < MOST {
            self.attributes.push((name.into(), value));
        }
    }

    pub(super) fn take(&mut self, found: Found) {
        self.kind = found.kind.unwrap_or(self.kind);
        if let Some(name) = found.name {
            self.name = name.into();
        }
        self.attributes.extend(found.attributes);
        self.attributes.truncate(MOST);
        self.error = found.error.or(self.error.take());
    }

    pub(super) fn fail(&mut self, why: &str) {
        self.error.get_or_insert_with(|| clean(why));
    }

    pub(super) fn close(self) -> Closed {
        let begun = nanoseconds(self.begun);
        let took = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Closed {
            begun,
            // By the clock that is never set back.
            ended: begun.saturating_add(took),
            open: self,
        }
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A span that has ended, with its times in nanoseconds since 1970.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) open: Open,
    pub(super) begun: u64,
    pub(super) ended: u64,
}

/// What the fields of a span say. `otel.kind`, `otel.name` and `otel.status_message` are known to every exporter of `tracing`
/// spans; `trace_id`, `span_id` and `traceparent` say where in a trace it stands.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) trace_id: Option<String>,
    pub(super) span_id: Option<String>,
    /// Of whoever caused it.
    pub(super) traceparent: Option<String>,
    kind: Option<Kind>,
    name: Option<String>,
    error: Option<String>,
    attributes: Attributes,
}

impl Found {
    fn put(&mut self, field: &Field, value: Value) {
        self.attributes.push((field.name().into(), value));
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "trace_id" => self.trace_id = Some(text.to_owned()),
            "span_id" => self.span_id = Some(text.to_owned()),
            "traceparent" => self.traceparent = Some(text.to_owned()),
            "otel.name" => self.name = Some(clean(text)),
            "otel.status_message" => self.error = Some(clean(text)),
            "otel.kind" => {
                self.kind = Some(match text {
                    "server" => Kind::Server,
                    "client" => Kind::Client,
                    "producer" => Kind::Producer,
                    "consumer" => Kind::Consumer,
                    _ => Kind::Internal,
                });
            }
            name => self.put(field, Value::text(name, text)),
        }
    }
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.put(field, Value::Int(value)),
            Err(_) => self.put(field, Value::Text(value.to_string())),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }
}
