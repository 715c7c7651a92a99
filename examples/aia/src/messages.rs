//! Asking a question, and what was asked and answered before.

use crate::answer::{self, Begun};
use crate::conversations::no_such_conversation;
use crate::ledger::{self, Opening};
use crate::llm::ChatRequest;
use crate::parameters::{Id, Page, Paging};
use crate::prompt::{self, Turn};
use crate::{Aia, events, passages, to_the_end};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument;
use uuid::Uuid;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::axum::http::StatusCode;
use zhuji::axum::response::Response;
use zhuji::db::Row;
use zhuji::http::{HttpResult, Problem};

const MAX_QUESTION_CHARS: usize = 16_000;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Turns that are looked at for the prompt; more would not fit into it.
const MAX_TURNS: i64 = 100;

/// A question.
#[derive(Debug, Deserialize)]
pub(crate) struct Question {
    content: String,
}

/// A message as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    id: Uuid,
    /// `user` or `assistant`.
    role: String,
    /// `complete`; of an answer also `streaming`, `incomplete` (broken off) or `failed` (nothing came).
    state: String,
    content: String,
    finish_reason: Option<String>,
    /// A sentence for the user.
    error: Option<String>,
    model: Option<String>,
    sources: serde_json::Value,
    prompt_tokens: i64,
    completion_tokens: i64,
    tokens_estimated: bool,
    created_at: Timestamp,
}

impl Message {
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            role: row.get(1),
            state: row.get(2),
            content: row.get(3),
            finish_reason: row.get(4),
            error: row.get(5),
            model: row.get(6),
            sources: row.get(7),
            prompt_tokens: row.get(8),
            completion_tokens: row.get(9),
            tokens_estimated: row.get(10),
            created_at: row.get(11),
        }
    }
}

/// `GET /conversations/{id}/messages?page=&per_page=`, in their order.
pub(crate) async fn list(
    State(aia): State<Arc<Aia>>,
    Id(conversation): Id,
    paging: Paging,
) -> HttpResult<Json<Page<Message>>> {
    let db = aia.cx.db();
    let count = "select (select count(*) from messages where conversation_id = c.id) from conversations c where id = $1";
    let row = db.query_opt(count, &[&conversation]).await?;
    let total = row.ok_or_else(no_such_conversation)?.get(0);
    let sql = "select id, role, state, text, finish_reason, error, model, sources, prompt_tokens, completion_tokens,
                      tokens_estimated, created_at
               from messages where conversation_id = $1 order by created_at, id limit $2 offset $3";
    let rows = db
        .query(sql, &[&conversation, &paging.limit(), &paging.offset()])
        .await?;
    Ok(Json(
        paging.page(total, rows.iter().map(Message::from_row).collect()),
    ))
}

/// `POST /conversations/{id}/messages`: the answer comes as server-sent events. What is known beforehand to be impossible is
/// a problem; what happens later is an event.
pub(crate) async fn ask(
    State(aia): State<Arc<Aia>>,
    Id(conversation): Id,
    Json(question): Json<Question>,
) -> HttpResult<Response> {
    if aia.llm.is_none() {
        let detail =
            "No language model is set up for this service. Please tell the operator: LLM_API_KEY is missing.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    let text = question.content.replace('\0', "");
    let text = text.trim().to_owned();
    if text.is_empty() || text.chars().count() > MAX_QUESTION_CHARS {
        let detail = format!("The question must have 1 to {MAX_QUESTION_CHARS} characters.");
        return Err(Problem::unprocessable(detail).with("field", "content"));
    }
    let request_id = zhuji::current_request().map(|request| request.request_id);
    // From here on in a task of its own: a client that hangs up must not leave an answer that nobody writes.
    to_the_end(async move { aia.begin(conversation, text, request_id).await })
        .await
        .map(events::stream)
}

impl Aia {
    async fn begin(
        self: Arc<Self>,
        conversation: Uuid,
        text: String,
        request_id: Option<String>,
    ) -> HttpResult<mpsc::Receiver<events::AnswerEvent>> {
        let place = tokio::time::timeout(PATIENCE, self.answers.clone().acquire_owned())
            .await
            .map_err(|_elapsed| {
                let detail = "Other answers are being written. Please try again shortly.";
                Problem::unavailable(detail, PATIENCE)
            })?
            .map_err(|error| Problem::internal().caused_by(&error))?;
        let (db, config) = (self.cx.db(), self.cx.config());
        let sources = passages::find(db, conversation, &text, config.passage_tokens).await?;
        let history = self.history(conversation).await?;
        let messages = prompt::compose(&sources, history, config.history_tokens, &text);
        let opening = Opening {
            conversation,
            question: Uuid::now_v7(),
            text: &text,
            answer: Uuid::now_v7(),
            sources: serde_json::to_value(&sources).map_err(|error| Problem::internal().caused_by(&error))?,
            prompt_tokens: prompt::cost(&messages),
        };
        db.transaction(async |tx| ledger::open(tx, config, &opening).await)
            .await?;
        let begun = Begun {
            conversation,
            question: opening.question,
            answer: opening.answer,
            request: ChatRequest::new(&config.model, messages, config.max_answer_tokens),
            prompt_tokens: opening.prompt_tokens,
            sources,
            request_id,
            place,
        };
        let (sender, receiver) = mpsc::channel(events::QUEUE);
        tokio::spawn(answer::write(self.clone(), begun, sender).in_current_span());
        Ok(receiver)
    }

    /// What was said before, the newest first. An answer that broke off is a part of it, one that failed is not.
    async fn history(&self, conversation: Uuid) -> HttpResult<Vec<Turn>> {
        let sql = "select role = 'user', text from messages where conversation_id = $1 and text <> ''
                   order by created_at desc, id desc limit $2";
        let rows = self.cx.db().query(sql, &[&conversation, &MAX_TURNS]).await?;
        let turns = rows.iter().map(|row| Turn {
            role: if row.get(0) { "user" } else { "assistant" },
            text: row.get(1),
        });
        Ok(turns.collect())
    }
}
