//! One event as one flat JSON object.

use std::borrow::Cow;

use crate::fields::{Fields, Value};
use crate::layer::Entry;
use crate::service::ServiceInfo;

/// The longest line, its newline included.
pub(crate) const LINE_MAX: usize = 64 * 1024;
const ENDING: &str = ",\"truncated\":true}\n";
const MESSAGE_MAX: usize = 32 * 1024;
const VALUE_MAX: usize = 16 * 1024;
const NAME_MAX: usize = 256;
const TARGET_MAX: usize = 1024;
/// Less room than this is not worth a field.
const LEAST: usize = 16;

/// Names that come before everything else, whoever in the span tree has set them.
const LIFTED: [&str; 4] = ["module", "trace_id", "span_id", "request_id"];
/// Names that an event's own field may not take; it is renamed to `field_…`.
const OURS: [&str; 9] = [
    "time",
    "level",
    "message",
    "target",
    "service",
    "version",
    "env",
    "instance",
    "truncated",
];

/// The part of a line that is the same in all lines.
#[derive(Debug)]
pub(crate) struct Json {
    service: Vec<u8>,
}

impl Json {
    pub(crate) fn new(info: &ServiceInfo) -> Self {
        let mut line = Line {
            out: Vec::new(),
            cut: false,
        };
        for (name, value) in [
            ("service", &info.service),
            ("version", &info.version),
            ("env", &info.env),
            ("instance", &info.instance),
        ] {
            if !value.is_empty() {
                line.text(name, value, NAME_MAX);
            }
        }
        Self { service: line.out }
    }

    /// Appends the event. Spans come leaf first, so the leaf wins where two say the same.
    pub(crate) fn write(&self, entry: &Entry<'_>, out: Vec<u8>) -> Vec<u8> {
        let (event, spans) = (entry.event, entry.spans);
        let mut line = Line {
            out,
            cut: event.cut || spans.iter().any(|span| span.cut),
        };
        line.out.extend_from_slice(b"{\"time\":\"");
        line.out
            .extend_from_slice(format!("{:.3}", entry.time).as_bytes());
        line.out.push(b'"');
        line.text("level", entry.level_name(), NAME_MAX);
        line.text(
            "message",
            event.message.as_deref().unwrap_or_default(),
            MESSAGE_MAX,
        );
        line.text("target", entry.target, TARGET_MAX);
        let everyone = || std::iter::once(event).chain(spans);
        for name in LIFTED {
            if let Some(value) = everyone().find_map(|fields| fields.get(name)) {
                line.value(name, value, NAME_MAX);
            }
            if name == "module" {
                line.out.extend_from_slice(&self.service);
            }
        }
        let mut seen: Vec<Cow<'_, str>> = Vec::new();
        for (name, value) in everyone().flat_map(own) {
            if !seen.contains(&name) {
                line.value(&name, value, VALUE_MAX);
                seen.push(name);
            }
        }
        line.finish()
    }
}

/// The fields that are not lifted, under names that do not clash with ours.
fn own(fields: &Fields) -> impl Iterator<Item = (Cow<'_, str>, &Value)> {
    fields
        .list
        .iter()
        .filter(|(name, _)| !LIFTED.contains(&&**name))
        .map(|(name, value)| {
            let clash = OURS.contains(&&**name);
            (
                if clash {
                    Cow::Owned(format!("field_{name}"))
                } else {
                    Cow::Borrowed(&**name)
                },
                value,
            )
        })
}

struct Line {
    out: Vec<u8>,
    cut: bool,
}

impl Line {
    /// Opens a field and says how much room its value has, or `None` when there is none.
    fn open(&mut self, name: &str, max: usize) -> Option<usize> {
        let before = self.out.len();
        self.out.extend_from_slice(b",\"");
        // A cut name is still a name, and two hundred letters tell what it was.
        self.cut |= !escape(name, NAME_MAX, &mut self.out);
        self.out.extend_from_slice(b"\":");
        let room = (LINE_MAX - ENDING.len()).saturating_sub(self.out.len() + 2);
        if room < LEAST {
            self.out.truncate(before);
            self.cut = true;
            return None;
        }
        Some(room.min(max))
    }

    fn text(&mut self, name: &str, value: &str, max: usize) {
        if let Some(room) = self.open(name, max) {
            self.out.push(b'"');
            self.cut |= !escape(value, room, &mut self.out);
            self.out.push(b'"');
        }
    }

    fn value(&mut self, name: &str, value: &Value, max: usize) {
        if let Value::Text(text) = value {
            return self.text(name, text, max);
        }
        let before = self.out.len();
        if let Some(room) = self.open(name, max) {
            let number = value.to_string();
            if number.len() <= room {
                self.out.extend_from_slice(number.as_bytes());
            } else {
                self.out.truncate(before);
                self.cut = true;
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.out
            .extend_from_slice(if self.cut { ENDING } else { "}\n" }.as_bytes());
        self.out
    }
}

/// Appends a text as the inside of a JSON string, at most `max` bytes long; `false` when it had to be cut.
///
/// Besides what JSON demands, the control characters that a terminal obeys and the separators that some readers take
/// for line ends are escaped too.
fn escape(text: &str, max: usize, out: &mut Vec<u8>) -> bool {
    let end = out.len() + max;
    for c in text.chars() {
        let mut buffer = [0; 8];
        let piece: &[u8] = match c {
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\n' => b"\\n",
            '\r' => b"\\r",
            '\t' => b"\\t",
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digit = |shift: u32| HEX[(c as usize >> shift) & 0xf];
                buffer = [b'\\', b'u', digit(12), digit(8), digit(4), digit(0), 0, 0];
                &buffer[..6]
            }
            _ => c.encode_utf8(&mut buffer).as_bytes(),
        };
        if out.len() + piece.len() > end {
            return false;
        }
        out.extend_from_slice(piece);
    }
    true
}
