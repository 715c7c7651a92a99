//! What a client hears of an answer, as server-sent events.

use crate::llm::Usage;
use crate::passages::Source;
use serde_json::json;
use std::convert::Infallible;
use tokio::sync::mpsc;
use uuid::Uuid;
use zhuji::axum::http::header::HeaderName;
use zhuji::axum::response::sse::{Event, KeepAlive, Sse};
use zhuji::axum::response::{IntoResponse, Response};

/// Events on their way to the client; a slow one slows the answer down.
pub(crate) const QUEUE: usize = 32;

/// One event.
#[derive(Debug)]
pub(crate) enum AnswerEvent {
    /// First: the answer's id, and the passages it rests on.
    Start {
        question: Uuid,
        answer: Uuid,
        sources: Vec<Source>,
    },
    /// The next words.
    Delta(String),
    /// What it cost. Comes before the end, whatever the end is.
    Usage { usage: Usage, is_estimate: bool },
    /// Last, after a whole answer.
    Done {
        answer: Uuid,
        finish_reason: Option<String>,
        sources: Vec<Source>,
    },
    /// Last, in place of `Done`: what there is of the answer is kept.
    Error {
        answer: Uuid,
        state: &'static str,
        kind: &'static str,
        detail: String,
        request_id: Option<String>,
    },
}

impl AnswerEvent {
    fn into_sse(self) -> Event {
        let (name, data) = match self {
            Self::Start {
                question,
                answer,
                sources,
            } => (
                "start",
                json!({"question_id": question, "message_id": answer, "sources": sources}),
            ),
            Self::Delta(text) => ("delta", json!({"text": text})),
            Self::Usage { usage, is_estimate } => (
                "usage",
                json!({
                    "prompt_tokens": usage.prompt_tokens,
                    "completion_tokens": usage.completion_tokens,
                    "estimated": is_estimate,
                }),
            ),
            Self::Done {
                answer,
                finish_reason,
                sources,
            } => (
                "done",
                json!({
                    "message_id": answer,
                    "state": "complete",
                    "finish_reason": finish_reason,
                    "sources": sources.iter().map(named).collect::<Vec<_>>(),
                }),
            ),
            Self::Error {
                answer,
                state,
                kind,
                detail,
                request_id,
            } => (
                "error",
                json!({
                    "message_id": answer,
                    "state": state,
                    "kind": kind,
                    "detail": detail,
                    "request_id": request_id,
                }),
            ),
        };
        // JSON has no line break of its own, which is all that an event's data may not hold.
        Event::default().event(name).data(data.to_string())
    }
}

/// A source without its text, which `start` has told.
fn named(source: &Source) -> serde_json::Value {
    json!({
        "number": source.number,
        "document_id": source.document_id,
        "document": source.document,
        "page": source.page,
    })
}

/// The answer to the client: events as they come, and comments in silence, so that nothing on the way takes the connection
/// for dead.
pub(crate) fn stream(events: mpsc::Receiver<AnswerEvent>) -> Response {
    let events = futures_util::stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(event.into_sse()), events))
    });
    // For reverse proxies that would hold the events back.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}
