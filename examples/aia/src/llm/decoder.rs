//! Bytes into pieces: server-sent events however they are cut up, or one JSON text from an endpoint that does not stream.

use super::error::{LlmError, LlmErrorKind};
use super::wire::{Piece, Refusal, pieces};
use std::collections::VecDeque;

/// The longest line, event, or answer that is not streamed. A token takes a few hundred bytes.
const MAX_BYTES: usize = 1 << 20;

/// What has been understood so far, in order. After an error nothing follows.
pub(crate) type Queue = VecDeque<Result<Piece, LlmError>>;

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    mode: Mode,
    /// The line, or the JSON text, whose end has not come yet.
    pending: Vec<u8>,
    /// The `data` lines of the event whose end has not come yet.
    data: Vec<u8>,
    has_data: bool,
    /// They are one line, and it is a whole JSON text.
    is_whole: bool,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// `[DONE]`, or an error.
    ended: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Nothing but white space and a byte order mark so far.
    #[default]
    Unknown,
    Events,
    /// The content decides, not the header: some endpoints label a whole answer as a stream.
    Json,
}

impl Decoder {
    /// Whether nothing more can come: the end was announced, or something broke.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], queue: &mut Queue) {
        for &byte in bytes {
            if self.ended {
                return;
            }
            self.byte(byte, queue);
        }
    }

    /// The bytes are over.
    pub(crate) fn finish(&mut self, queue: &mut Queue) {
        if self.ended {
            return;
        }
        match self.mode {
            Mode::Json => {
                let json = std::mem::take(&mut self.pending);
                self.take(&json, queue);
            }
            // A last line and a last event count without their ends: what they hold is whole or no JSON.
            Mode::Events => {
                if !self.pending.is_empty() {
                    self.line(queue);
                }
                self.event(queue);
            }
            Mode::Unknown => {}
        }
        self.ended = true;
    }

    fn byte(&mut self, byte: u8, queue: &mut Queue) {
        if self.mode == Mode::Unknown {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF => return,
                b'{' => self.mode = Mode::Json,
                _ => self.mode = Mode::Events,
            }
        }
        if self.mode == Mode::Events && (byte == b'\n' || byte == b'\r') {
            if !(byte == b'\n' && self.after_return) {
                self.line(queue);
            }
            self.after_return = byte == b'\r';
            return;
        }
        self.after_return = false;
        if self.pending.len() + self.data.len() >= MAX_BYTES {
            return self.fail(
                queue,
                LlmErrorKind::Protocol,
                format!("more than {MAX_BYTES} bytes without an end"),
            );
        }
        self.pending.push(byte);
    }

    /// One line is whole. Fields other than `data`, and comments, say nothing about the answer.
    fn line(&mut self, queue: &mut Queue) {
        let line = std::mem::take(&mut self.pending);
        if line.is_empty() {
            return self.event(queue);
        }
        let Some(value) = line.strip_prefix(b"data") else {
            return;
        };
        let value = match value {
            [] => value,
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return,
        };
        // Events of one line each without the empty lines between them: some proxies drop those.
        let is_end = value.trim_ascii() == b"[DONE]";
        if is_end || (self.is_whole && value.starts_with(b"{")) {
            self.event(queue);
        }
        if is_end {
            self.ended = true;
            return;
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.is_whole = !self.has_data && is_whole(value);
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    /// One event is whole.
    fn event(&mut self, queue: &mut Queue) {
        if !std::mem::take(&mut self.has_data) || self.ended {
            return;
        }
        let data = std::mem::take(&mut self.data);
        let json = data.trim_ascii();
        if !json.is_empty() {
            self.take(json, queue);
        }
    }

    fn take(&mut self, json: &[u8], queue: &mut Queue) {
        match pieces(json) {
            Ok(pieces) => queue.extend(pieces.into_iter().map(Ok)),
            Err(Refusal::Reported(reason)) => self.fail(queue, LlmErrorKind::Reported, reason),
            Err(Refusal::Unreadable(reason)) => self.fail(queue, LlmErrorKind::Protocol, reason),
        }
    }

    fn fail(&mut self, queue: &mut Queue, kind: LlmErrorKind, reason: String) {
        queue.push_back(Err(LlmError::new(kind, reason)));
        self.ended = true;
        self.pending = Vec::new();
        self.data = Vec::new();
    }
}

fn is_whole(json: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Usage;

    fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (String, Option<LlmErrorKind>, bool) {
        let (mut decoder, mut queue) = (Decoder::default(), Queue::new());
        for part in parts {
            decoder.push(part, &mut queue);
        }
        let announced = decoder.has_ended();
        decoder.finish(&mut queue);
        let (mut text, mut error) = (String::new(), None);
        for piece in queue {
            match piece {
                Ok(Piece::Text(more)) => text.push_str(&more),
                Ok(_) => {}
                Err(told) => error = Some(told.kind),
            }
        }
        (text, error, announced)
    }

    fn delta(text: &str) -> String {
        format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#)
    }

    /// The same stream, cut at every place, with every kind of line end, gives the same answer.
    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = format!(
                "\u{feff}: a comment{end}{end}event: message{end}data: {}{end}{end}:{end}data:{}{end}id: 7{end}{end}\
                 data: [DONE]{end}{end}",
                delta("肺癌 🫁 "),
                delta("screening")
            );
            let bytes = stream.as_bytes();
            let expected = ("肺癌 🫁 screening".to_owned(), None, true);
            for cut in 0..bytes.len() {
                assert_eq!(
                    decode([&bytes[..cut], &bytes[cut..]]),
                    expected,
                    "{end:?} at {cut}"
                );
            }
            assert_eq!(decode(bytes.chunks(1)), expected, "{end:?}");
        }
    }

    #[test]
    fn one_event_may_have_many_data_lines_or_no_empty_line_after_it() {
        let many = "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert_eq!(decode([many.as_bytes()]).0, "a");
        let packed = format!("data: {}\ndata: {}\ndata: [DONE]\n", delta("a"), delta("b"));
        assert_eq!(decode([packed.as_bytes()]), ("ab".into(), None, true));
        let open = format!("data: {}", delta("a"));
        assert_eq!(decode([open.as_bytes()]), ("a".into(), None, false));
    }

    #[test]
    fn an_answer_that_is_not_streamed_is_an_answer() {
        let json = r#" {"choices":[{"message":{"content":"All\nof it"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let (mut decoder, mut queue) = (Decoder::default(), Queue::new());
        for byte in json.as_bytes() {
            decoder.push(&[*byte], &mut queue);
        }
        decoder.finish(&mut queue);
        let pieces: Vec<Piece> = queue
            .into_iter()
            .map(|piece| piece.expect("it is whole"))
            .collect();
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 2,
        };
        assert_eq!(pieces, [Piece::Text("All\nof it".into()), Piece::Usage(usage)]);
    }

    #[test]
    fn what_came_before_an_error_counts_and_what_comes_after_does_not() {
        let stream = format!(
            "data: {}\n\ndata: {{\"error\":{{\"message\":\"no\"}}}}\n\ndata: {}\n\n",
            delta("a"),
            delta("b")
        );
        assert_eq!(
            decode([stream.as_bytes()]),
            ("a".into(), Some(LlmErrorKind::Reported), true)
        );
        let stream = format!(
            "data: {}\n\ndata: {{broken\n\ndata: {}\n\n",
            delta("a"),
            delta("b")
        );
        assert_eq!(
            decode([stream.as_bytes()]),
            ("a".into(), Some(LlmErrorKind::Protocol), true)
        );
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let (mut decoder, mut queue) = (Decoder::default(), Queue::new());
        decoder.push(b"data: ", &mut queue);
        for _ in 0..40 {
            decoder.push(&[b'x'; 64 << 10], &mut queue);
        }
        assert!(decoder.has_ended() && decoder.pending.capacity() == 0);
        let error = queue
            .pop_front()
            .expect("it is told")
            .expect_err("it is an error");
        assert_eq!(error.kind, LlmErrorKind::Protocol);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_page_of_a_proxy_is_no_answer() {
        let page = "<html>\n<body>502 Bad Gateway</body>\n</html>\n";
        assert_eq!(decode([page.as_bytes()]), (String::new(), None, false));
        assert_eq!(decode([&b""[..]]), (String::new(), None, false));
        assert_eq!(decode([&b"\n\n \xff\xfe\n"[..]]), (String::new(), None, false));
    }
}
