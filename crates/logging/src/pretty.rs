//! One event as one short line for people.

use std::io::Write as _;

use tracing::Level;

use crate::fields::{Fields, Value};
use crate::json::LINE_MAX;
use crate::layer::Entry;

const HIDDEN: [&str; 2] = ["trace_id", "span_id"];
const FIELD_MAX: usize = 4 * 1024;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

#[derive(Debug)]
pub(crate) struct Pretty {
    pub(crate) colour: bool,
}

impl Pretty {
    /// `10:30:00.123Z  INFO literature::routes: imported  module=asl count=975`
    pub(crate) fn write(&self, entry: &Entry<'_>, mut out: Vec<u8>) -> Vec<u8> {
        let (event, spans) = (entry.event, entry.spans);
        let (dim, reset) = if self.colour { (DIM, RESET) } else { ("", "") };
        let level = if self.colour { colour(entry.level) } else { "" };
        let time = format!("{:.3}", entry.time);
        // The date is the same all day long.
        let time = time.split_once('T').map_or(&*time, |(_, time)| time);
        // Writing into memory cannot fail.
        let _ = write!(
            out,
            "{dim}{time}{reset} {level}{:>5}{reset} {dim}{}:{reset} ",
            entry.level_name().to_uppercase(),
            entry.target
        );
        let limit = LINE_MAX - 16;
        plain(
            event.message.as_deref().unwrap_or_default(),
            limit / 2,
            true,
            &mut out,
        );
        let mut seen: Vec<&str> = HIDDEN.to_vec();
        let mut first = true;
        for (name, value) in std::iter::once(event)
            .chain(spans)
            .flat_map(|fields: &Fields| &fields.list)
        {
            if seen.contains(&&**name) || out.len() + FIELD_MAX > limit {
                continue;
            }
            seen.push(name);
            let gap = if std::mem::take(&mut first) { "  " } else { " " };
            let _ = write!(out, "{gap}{dim}");
            plain(name, FIELD_MAX / 8, false, &mut out);
            let _ = write!(out, "={reset}");
            match value {
                Value::Text(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                    out.push(b'"');
                    plain(text, FIELD_MAX / 2, false, &mut out);
                    out.push(b'"');
                }
                Value::Text(text) => plain(text, FIELD_MAX / 2, false, &mut out),
                other => {
                    let _ = write!(out, "{other}");
                }
            }
        }
        out.push(b'\n');
        out
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// A text that a terminal will only show: control characters are spelled out, and a line break either too or, in a
/// message, kept with an indent, so that no text can pass for a line of its own.
fn plain(text: &str, max: usize, breaks: bool, out: &mut Vec<u8>) {
    let end = out.len() + max;
    for c in text.chars() {
        if out.len() >= end {
            out.extend_from_slice("…".as_bytes());
            return;
        }
        match c {
            '\n' if breaks => out.extend_from_slice(b"\n    "),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "{}", c.escape_default());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
