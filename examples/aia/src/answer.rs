//! Writing an answer: from the language model to the client and into the database, until one of the three ends it.

use crate::Aia;
use crate::events::AnswerEvent;
use crate::ledger::{self, BEAT, Closing};
use crate::llm::{ChatRequest, Llm, LlmError, LlmErrorKind, Piece, Usage};
use crate::meters;
use crate::passages::Source;
use crate::tokens::estimate;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use uuid::Uuid;
use zhuji::db::{self, DbPool};

/// The end of an answer is tried to be stored so often, with growing pauses: about half a minute.
const STORE_ATTEMPTS: u32 = 6;

/// An answer that has a row and tokens set aside, and no text yet.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) conversation: Uuid,
    pub(crate) question: Uuid,
    pub(crate) answer: Uuid,
    pub(crate) request: ChatRequest,
    pub(crate) prompt_tokens: u32,
    pub(crate) sources: Vec<Source>,
    pub(crate) request_id: Option<String>,
    /// Its place among the answers of this process.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What there is of the answer so far.
#[derive(Debug, Default)]
struct Written {
    text: String,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

/// Why there is no more of it.
#[derive(Debug)]
enum End {
    /// It is whole.
    Whole,
    Failed(LlmError),
    /// The client went away.
    Unheard,
    /// The service is stopping.
    Stopped,
    /// Somebody deleted the conversation, or took this process for dead.
    Disowned,
}

/// Writes the answer to its end, whatever that is. Runs in a task of its own: the client may go, and what there is of the
/// answer is kept all the same.
pub(crate) async fn write(aia: Arc<Aia>, begun: Begun, events: mpsc::Sender<AnswerEvent>) {
    let _active = meters::Active::new();
    let started = Instant::now();
    let mut written = Written::default();
    let end = {
        let deadline = started + aia.cx.config().total_timeout;
        let generate =
            tokio::time::timeout_at(deadline, generate(&aia, &begun, &events, &mut written, deadline));
        tokio::select! {
            end = generate => end.unwrap_or_else(|_elapsed| {
                let limit = aia.cx.config().total_timeout.as_secs();
                End::Failed(LlmError::new(LlmErrorKind::Total, format!("no end within {limit} s")))
            }),
            // Dropping `generate` closes the connection to the language model: nothing more is generated, or charged.
            () = events.closed() => End::Unheard,
            () = aia.cx.shutdown().cancelled() => End::Stopped,
        }
    };
    let closing = closing(&begun, written, &end);
    meters::ended(closing.state, closing.usage, started.elapsed());
    if let End::Failed(error) = &end {
        meters::failed(error.kind);
        tracing::warn!(answer = %begun.answer, kind = error.kind.as_str(), reason = error.reason, "an answer failed");
    }
    let stored = store(aia.cx.db(), &begun, &closing).await;
    tracing::info!(
        conversation = %begun.conversation,
        answer = %begun.answer,
        state = closing.state,
        prompt_tokens = closing.usage.prompt_tokens,
        completion_tokens = closing.usage.completion_tokens,
        end = word(&end),
        "answer ended"
    );
    // The client may ask the next question once it hears the end, so it is stored first.
    tell(&begun, closing, &end, stored, &events).await;
    drop(begun.place);
}

/// From the first to the last piece.
async fn generate(
    aia: &Aia,
    begun: &Begun,
    events: &mpsc::Sender<AnswerEvent>,
    written: &mut Written,
    deadline: Instant,
) -> End {
    let start = AnswerEvent::Start {
        question: begun.question,
        answer: begun.answer,
        sources: begun.sources.clone(),
    };
    // A send that fails is seen as `closed` by the caller.
    let _ = events.send(start).await;
    let Some(llm) = &aia.llm else { return End::Stopped };
    let db = aia.cx.db();
    // While nothing has come there is nothing to keep, but still a sign of life to give.
    tokio::select! {
        end = receive(llm, begun, events, written, deadline, db) => end,
        () = until_disowned(db, begun.answer) => End::Disowned,
    }
}

async fn receive(
    llm: &Llm,
    begun: &Begun,
    events: &mpsc::Sender<AnswerEvent>,
    written: &mut Written,
    deadline: Instant,
    db: &DbPool,
) -> End {
    let started = Instant::now();
    let mut reply = match llm.ask(&begun.request, deadline).await {
        Ok(reply) => reply,
        Err(error) => return End::Failed(error),
    };
    let mut kept = Instant::now();
    loop {
        match reply.next().await {
            Ok(Some(Piece::Text(text))) => {
                if written.text.is_empty() {
                    meters::first_token(started.elapsed());
                }
                written.text.push_str(&text);
                if events.send(AnswerEvent::Delta(text)).await.is_err() {
                    return End::Unheard;
                }
            }
            Ok(Some(Piece::Finish(reason))) => written.finish_reason = Some(reason),
            Ok(Some(Piece::Usage(usage))) => written.usage = Some(usage),
            Ok(Some(Piece::Thinking)) => {}
            Ok(None) => return End::Whole,
            Err(error) => return End::Failed(error),
        }
        if kept.elapsed() >= BEAT {
            kept = Instant::now();
            // So that a process that dies takes a few seconds of the answer with it and not all.
            match ledger::keep(db, begun.answer, &written.text).await {
                Ok(true) => {}
                Ok(false) => return End::Disowned,
                Err(error) => {
                    tracing::debug!(answer = %begun.answer, %error, "a part of an answer was not kept yet")
                }
            }
        }
    }
}

/// Says every few seconds that the answer is being written, until it is not ours any more.
async fn until_disowned(db: &DbPool, answer: Uuid) {
    loop {
        tokio::time::sleep(BEAT).await;
        match ledger::beat(db, answer).await {
            Ok(true) => {}
            Ok(false) => return,
            // A database that is away does not end an answer that goes well.
            Err(error) => tracing::debug!(%answer, %error, "an answer gave no sign of life"),
        }
    }
}

fn closing(begun: &Begun, written: Written, end: &End) -> Closing {
    let error = match end {
        End::Whole => None,
        End::Failed(error) => Some(error.kind.sentence()),
        End::Unheard => Some("The client went away before the answer was complete."),
        End::Stopped => Some("The service was stopped before the answer was complete."),
        End::Disowned => {
            Some("The conversation was deleted, or the answer given up, before it was complete.")
        }
    };
    let state = match end {
        End::Whole => "complete",
        End::Failed(_) if written.text.is_empty() => "failed",
        _ => "incomplete",
    };
    // Endpoints charge for the prompt as soon as they begin, and nobody says whether one did when the connection is closed.
    let begun_by_endpoint = !matches!(end, End::Failed(error) if !error.kind.was_begun());
    let estimate = Usage {
        prompt_tokens: if begun_by_endpoint { begun.prompt_tokens } else { 0 },
        completion_tokens: estimate(&written.text),
    };
    Closing {
        state,
        finish_reason: written.finish_reason,
        error: error.map(str::to_owned),
        usage: written.usage.unwrap_or(estimate),
        is_estimate: written.usage.is_none() && begun_by_endpoint,
        text: written.text,
    }
}

/// Stores the end; says whether that worked. If it did not, the answer is given up by the sweep, with what was kept of it.
async fn store(db: &DbPool, begun: &Begun, closing: &Closing) -> bool {
    let mut pause = Duration::from_millis(250);
    for attempt in 1..=STORE_ATTEMPTS {
        let stored = db
            .transaction(async |tx| ledger::close(tx, begun.conversation, begun.answer, closing).await)
            .await;
        let error: db::Error = match stored {
            Ok(()) => return true,
            Err(error) => error,
        };
        tracing::warn!(answer = %begun.answer, attempt, %error, "the end of an answer could not be stored");
        if attempt < STORE_ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    false
}

async fn tell(begun: &Begun, closing: Closing, end: &End, stored: bool, events: &mpsc::Sender<AnswerEvent>) {
    let usage = AnswerEvent::Usage {
        usage: closing.usage,
        is_estimate: closing.is_estimate,
    };
    let last = match (end, closing.error) {
        (End::Whole, _) if stored => AnswerEvent::Done {
            answer: begun.answer,
            finish_reason: closing.finish_reason,
            sources: begun.sources.clone(),
        },
        (_, error) => AnswerEvent::Error {
            answer: begun.answer,
            state: closing.state,
            kind: if stored { word(end) } else { "not_stored" },
            detail: error.unwrap_or_else(|| "The answer is complete, but could not be stored.".into()),
            request_id: begun.request_id.clone(),
        },
    };
    for event in [usage, last] {
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// For programs and the log.
fn word(end: &End) -> &'static str {
    match end {
        End::Whole => "whole",
        End::Failed(error) => error.kind.as_str(),
        End::Unheard => "client_gone",
        End::Stopped => "stopped",
        End::Disowned => "deleted",
    }
}
