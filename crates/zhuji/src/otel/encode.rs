//! The message for the collector: `ExportTraceServiceRequest` of OTLP, in protobuf's bytes.
//!
//! The format is frozen (field numbers of a stable protocol don't change) and a dozen fields are all it takes.

use super::span::{Attributes, Closed, Value};

/// What every message says of this process.
#[derive(Clone, Debug)]
pub(super) struct Resource(Vec<u8>);

impl Resource {
    pub(super) fn new(attributes: &Attributes) -> Self {
        let mut resource = Message::default();
        for (name, value) in attributes {
            resource.message(1, &key_value(name, value));
        }
        Self(resource.0)
    }
}

/// One message with these spans.
pub(super) fn request(resource: &Resource, spans: &[Closed]) -> Vec<u8> {
    let mut scope = Message::default();
    scope.text(1, "zhuji");
    scope.text(2, env!("CARGO_PKG_VERSION"));
    let mut scoped = Message::default();
    scoped.message(1, &scope);
    for span in spans {
        scoped.message(2, &encoded(span));
    }
    let mut resource_spans = Message::default();
    resource_spans.bytes(1, &resource.0);
    resource_spans.message(2, &scoped);
    let mut request = Message::default();
    request.message(1, &resource_spans);
    request.0
}

fn encoded(span: &Closed) -> Message {
    let open = &span.open;
    let mut out = Message::default();
    out.bytes(1, &open.context.trace_id().to_bytes());
    out.bytes(2, &open.context.span_id().to_bytes());
    if let Some(parent) = open.parent {
        out.bytes(4, &parent.to_bytes());
    }
    out.text(5, &open.name);
    out.number(6, open.kind as u64);
    out.fixed64(7, span.begun);
    out.fixed64(8, span.ended);
    for (name, value) in &open.attributes {
        out.message(9, &key_value(name, value));
    }
    if let Some(why) = &open.error {
        let mut status = Message::default();
        status.text(2, why);
        // The code for an error.
        status.number(3, 2);
        out.message(15, &status);
    }
    out
}

fn key_value(name: &str, value: &Value) -> Message {
    let mut any = Message::default();
    match value {
        Value::Text(text) => any.text(1, text),
        Value::Bool(value) => any.number(2, u64::from(*value)),
        // Two's complement, as protobuf's `int64`.
        Value::Int(value) => any.number(3, value.cast_unsigned()),
        Value::Float(value) => any.fixed64(4, value.to_bits()),
    }
    let mut out = Message::default();
    out.text(1, name);
    out.message(2, &any);
    out
}

/// A protobuf message as it grows.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.tag(field, 0);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Google's own encoder makes of the same values.
    #[test]
    fn bytes_as_protobuf_writes_them() {
        let hex = |message: Message| {
            message
                .0
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let mut message = Message::default();
        message.number(3, 150);
        assert_eq!(hex(message), "189601");
        let mut message = Message::default();
        message.text(2, "testing");
        assert_eq!(hex(message), "120774657374696e67");
        assert_eq!(
            hex(key_value("k", &Value::Int(-2))),
            "0a016b120b18feffffffffffffffff01"
        );
        assert_eq!(hex(key_value("k", &Value::Bool(true))), "0a016b12021001");
        assert_eq!(
            hex(key_value("k", &Value::Float(1.5))),
            "0a016b120921000000000000f83f"
        );
        let mut message = Message::default();
        message.message(15, &Message::default());
        assert_eq!(hex(message), "7a00");
    }
}
