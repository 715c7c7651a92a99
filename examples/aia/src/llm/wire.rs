//! What goes over the wire, as far as it is used here. Endpoints differ, so everything that comes may be missing.

use serde::{Deserialize, Serialize};

/// The body of `POST /chat/completions`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChatRequest {
    model: String,
    pub(crate) messages: Vec<ChatMessage>,
    max_tokens: u32,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Clone, Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

impl ChatRequest {
    pub(crate) fn new(model: &str, messages: Vec<ChatMessage>, max_tokens: u32) -> Self {
        Self {
            model: model.to_owned(),
            messages,
            max_tokens,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        }
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next words.
    Text(String),
    /// The endpoint works on the answer and shows nothing of it: a model that thinks first.
    Thinking,
    /// Why the answer ends here: `stop`, `length`, `content_filter` …
    Finish(String),
    /// What the endpoint counted.
    Usage(Usage),
}

/// Tokens, as the endpoint counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) prompt_tokens: u32,
    #[serde(default)]
    pub(crate) completion_tokens: u32,
}

/// A piece of a streamed answer, or a whole one: the two differ in `delta` and `message`.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
}

/// Why a chunk holds no pieces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The endpoint's own error.
    Reported(String),
    /// Not what the protocol says.
    Unreadable(String),
}

/// The pieces in one JSON text: the data of one event, or the body of an answer that was not streamed.
pub(crate) fn pieces(json: &[u8]) -> Result<Vec<Piece>, Refusal> {
    let chunk: Chunk = serde_json::from_slice(json)
        .map_err(|error| Refusal::Unreadable(format!("no answer in it: {error}")))?;
    if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
        return Err(Refusal::Reported(told(&error)));
    }
    if chunk.choices.is_none() && chunk.usage.is_none() {
        return Err(Refusal::Unreadable("neither choices nor usage in it".into()));
    }
    let mut pieces = Vec::new();
    // Only one answer was asked for.
    if let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() {
        if let Some(delta) = choice.delta {
            if delta.reasoning_content.is_some_and(|text| !text.is_empty()) {
                pieces.push(Piece::Thinking);
            }
            // NUL is a character that PostgreSQL's text cannot hold.
            let text = delta.content.unwrap_or_default().replace('\0', "");
            if !text.is_empty() {
                pieces.push(Piece::Text(text));
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            pieces.push(Piece::Finish(reason));
        }
    }
    pieces.extend(chunk.usage.map(Piece::Usage));
    Ok(pieces)
}

/// What an error object says, on one line: `{"message": …, "code": …}` or a plain text.
pub(crate) fn told(error: &serde_json::Value) -> String {
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (error.get("message"), error.get("code")) {
        (Some(message), Some(code)) if !code.is_null() => format!("{} ({})", plain(message), plain(code)),
        (Some(message), _) => plain(message),
        (None, _) => plain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_missing_is_missed() {
        for (json, expected) in [
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                vec![],
            ),
            (
                r#"{"choices":[{"delta":{"content":null},"finish_reason":null}],"usage":null}"#,
                vec![],
            ),
            (r#"{"choices":[{}]}"#, vec![]),
            (
                r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
                vec![Piece::Thinking],
            ),
            (
                r#"{"choices":[{"delta":{"content":"肺\u0000癌"}}]}"#,
                vec![Piece::Text("肺癌".into())],
            ),
            (
                r#"{"choices":[{"message":{"content":"All."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#,
                vec![
                    Piece::Text("All.".into()),
                    Piece::Finish("stop".into()),
                    Piece::Usage(Usage {
                        prompt_tokens: 3,
                        completion_tokens: 1,
                    }),
                ],
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
                vec![Piece::Usage(Usage {
                    prompt_tokens: 3,
                    completion_tokens: 1,
                })],
            ),
        ] {
            assert_eq!(pieces(json.as_bytes()).expect(json), expected, "{json}");
        }
    }

    #[test]
    fn an_error_is_told_and_anything_else_is_unreadable() {
        for (json, expected) in [
            (
                r#"{"error":{"message":"overloaded","code":503}}"#,
                "overloaded (503)",
            ),
            (r#"{"error":{"message":"overloaded","code":null}}"#, "overloaded"),
            (
                r#"{"error":{"message":"no money","code":"quota"}}"#,
                "no money (quota)",
            ),
            (r#"{"error":"overloaded"}"#, "overloaded"),
        ] {
            assert_eq!(
                pieces(json.as_bytes()),
                Err(Refusal::Reported(expected.into())),
                "{json}"
            );
        }
        for json in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            "7",
            r#"{"choices":3}"#,
            r#"{"choices":[{"delta":"x"}]}"#,
        ] {
            assert!(
                matches!(pieces(json.as_bytes()), Err(Refusal::Unreadable(_))),
                "{json}"
            );
        }
    }
}
