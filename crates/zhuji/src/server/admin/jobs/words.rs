//! Times, limits and data as people read them.

use std::time::Duration;

use jiff::Timestamp;
use zhuji_jobs::{JobState, Limit};

use crate::server::admin::markup::{Markup, markup};

/// Of a payload, at most; a megabyte of it helps nobody.
const LONGEST_DATA: usize = 32 << 10;

/// `3 min ago`, `in 2 h`; the exact time on demand.
pub(in crate::server::admin) fn time(time: Timestamp, now: Timestamp) -> Markup {
    let seconds = time.as_second() - now.as_second();
    let span = span(Duration::from_secs(seconds.unsigned_abs()));
    let text = match seconds {
        ..=-1 => format!("{span} ago"),
        0 => "now".to_owned(),
        _ => format!("in {span}"),
    };
    let exact = format!("{time:.3}");
    markup!(
        "<time class=\"short\" datetime=\"{}\" title=\"{}\">{}</time>",
        exact,
        exact,
        text
    )
}

/// The largest unit that fits.
pub(in crate::server::admin) fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

pub(super) fn state(state: JobState) -> Markup {
    markup!(
        "<span class=\"badge {}\">{}</span>",
        state.as_str(),
        state.as_str()
    )
}

/// `at most 4 at once, 10 in 1 min`.
pub(super) fn limit(limit: &Limit) -> String {
    let running = limit.running.map(|jobs| format!("at most {jobs} at once"));
    let rate = limit
        .rate
        .map(|rate| format!("{} in {}", rate.count, span(rate.per)));
    let parts: Vec<String> = running.into_iter().chain(rate).collect();
    parts.join(", ")
}

/// JSON on several lines. Only the white space changes, so that a long number keeps its digits.
pub(super) fn pretty(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0_usize, false, false);
    let mut rest = json.chars().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(40)));
    };
    while let Some(next) = rest.next() {
        if out.len() > LONGEST_DATA {
            out.push_str("\n… (cut here; `zhuji jobs show` prints all of it)");
            return out;
        }
        if in_text {
            out.push(next);
            in_text = escaped || next != '"';
            escaped = next == '\\' && !escaped;
            continue;
        }
        match next {
            '"' => {
                in_text = true;
                out.push(next);
            }
            '{' | '[' => {
                out.push(next);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(next);
            }
            ',' => {
                out.push(next);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_spread_over_lines_and_nothing_else_changes() {
        let shown = pretty(r#"{"a":[1, 12345678901234567890123.10],"b":"x,{\"y\\","c":{},"d":[ ]}"#);
        let expected = "{\n  \"a\": [\n    1,\n    12345678901234567890123.10\n  ],\n  \"b\": \"x,{\\\"y\\\\\",\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(shown, expected);
        assert!(pretty(&format!("[{}]", "[".repeat(100_000))).len() < 2 * LONGEST_DATA);
        assert_eq!(pretty("}}"), "\n}\n}");
    }

    #[test]
    fn spans_in_their_largest_unit() {
        for (seconds, text) in [
            (1, "1 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(span(Duration::from_millis(7)), "7 ms");
        let both = Limit::none().running(4).rate(10, Duration::from_secs(60));
        assert_eq!(limit(&both), "at most 4 at once, 10 in 60 s");
    }
}
