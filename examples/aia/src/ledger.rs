//! The account of tokens, and the life of an answer in the database.
//!
//! A question sets aside what its answer may cost at most, in its conversation and in the day, before the language model is
//! asked; the end of the answer puts what it did cost in its place. So however many questions are asked at once, the
//! budgets hold. An answer whose process died is given up by whoever finds it, and counted as if all of its prompt had
//! been used.
//!
//! Locks are taken in one order: conversation, message, day.

use crate::config::AiaConfig;
use crate::conversations::no_such_conversation;
use crate::llm::Usage;
use crate::tokens::estimate;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;
use zhuji::axum::http::StatusCode;
use zhuji::axum::http::header::{HeaderValue, RETRY_AFTER};
use zhuji::db::{self, DbPool, Transaction};
use zhuji::http::{HttpResult, Problem};

/// How often an answer that is being written says so.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
/// After so long a silence its process is dead.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// A question, and the answer that is about to be written.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) conversation: Uuid,
    pub(crate) question: Uuid,
    pub(crate) text: &'a str,
    pub(crate) answer: Uuid,
    pub(crate) sources: serde_json::Value,
    /// What the prompt costs, about.
    pub(crate) prompt_tokens: u32,
}

/// How an answer ended.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) state: &'static str,
    pub(crate) text: String,
    pub(crate) finish_reason: Option<String>,
    /// A sentence for the user.
    pub(crate) error: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) is_estimate: bool,
}

/// Which unfinished answers of a conversation are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those whose process died.
    Lost,
    All,
}

/// Locks a conversation; no if there is none.
pub(crate) async fn lock(tx: &Transaction<'_>, conversation: Uuid) -> db::Result<bool> {
    let sql = "select from conversations where id = $1 for update";
    Ok(tx.query_opt(sql, &[&conversation]).await?.is_some())
}

/// Stores the question and the empty answer, and sets its tokens aside.
///
/// # Errors
/// 404 without the conversation, 409 while another answer is being written, 429 beyond a budget.
pub(crate) async fn open(tx: &Transaction<'_>, config: &AiaConfig, opening: &Opening<'_>) -> HttpResult<()> {
    let id = opening.conversation;
    if !lock(tx, id).await? {
        return Err(no_such_conversation());
    }
    give_up(tx, id, Which::Lost).await?;
    let busy = "select from messages where conversation_id = $1 and state = 'streaming'";
    if tx.query_opt(busy, &[&id]).await?.is_some() {
        let detail = "An answer is being written in this conversation. Wait for its end, or break it off.";
        return Err(Problem::conflict(detail));
    }
    let need = i64::from(opening.prompt_tokens) + i64::from(config.max_answer_tokens);
    let reserve = "update conversations set tokens_reserved = tokens_reserved + $2, updated_at = now()
                   where id = $1 and tokens_used + tokens_reserved + $2 <= $3";
    let budget = i64::from(config.conversation_tokens);
    if tx.execute(reserve, &[&id, &need, &budget]).await? == 0 {
        let detail = "This conversation has used up its tokens. Begin a new one.";
        return Err(over_budget(detail, "conversation", budget).with("reset_at", serde_json::Value::Null));
    }
    let question = "insert into messages (id, conversation_id, role, state, text) values ($1, $2, 'user', 'complete', $3)";
    tx.execute(question, &[&opening.question, &id, &opening.text])
        .await?;
    // A moment later than the question, in whose transaction it is.
    let answer = "insert into messages (id, conversation_id, role, state, text, model, sources, prompt_tokens,
                                        tokens_estimated, tokens_reserved, created_at)
                  values ($1, $2, 'assistant', 'streaming', '', $3, $4, $5, true, $6, now() + interval '1 microsecond')";
    let prompt = i64::from(opening.prompt_tokens);
    tx.execute(
        answer,
        &[
            &opening.answer,
            &id,
            &config.model,
            &opening.sources,
            &prompt,
            &need,
        ],
    )
    .await?;
    reserve_day(tx, need, i64::from(config.day_tokens)).await
}

async fn reserve_day(tx: &Transaction<'_>, need: i64, budget: i64) -> HttpResult<()> {
    let reserve = "insert into token_days as d (day, tokens_reserved)
                   select (now() at time zone 'utc')::date, $1::bigint where $1::bigint <= $2::bigint
                   on conflict (day) do update set tokens_reserved = d.tokens_reserved + excluded.tokens_reserved
                   where d.prompt_tokens + d.completion_tokens + d.tokens_reserved + excluded.tokens_reserved <= $2";
    if tx.execute(reserve, &[&need, &budget]).await? == 1 {
        return Ok(());
    }
    let reset =
        "select now(), (date_trunc('day', now() at time zone 'utc') + interval '1 day') at time zone 'utc'";
    let row = tx.query_one(reset, &[]).await?;
    let (now, reset): (Timestamp, Timestamp) = (row.get(0), row.get(1));
    let wait = reset.duration_since(now).as_secs().max(1);
    let detail = "All conversations together have used up today's tokens. They start anew at midnight (UTC).";
    Err(over_budget(detail, "day", budget)
        .with("reset_at", reset.to_string())
        .header(RETRY_AFTER, HeaderValue::from(wait)))
}

fn over_budget(detail: &'static str, scope: &'static str, budget: i64) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        .with("scope", scope)
        .with("budget_tokens", budget)
}

/// Says that the answer is still being written. No: it is not any more, because somebody deleted it or gave it up.
pub(crate) async fn beat(db: &DbPool, answer: Uuid) -> db::Result<bool> {
    let update = "update messages set updated_at = now() where id = $1 and state = 'streaming'";
    Ok(db.execute(update, &[&answer]).await? == 1)
}

/// As [`beat`], and keeps what there is of the answer.
pub(crate) async fn keep(db: &DbPool, answer: Uuid, text: &str) -> db::Result<bool> {
    let update = "update messages set text = $2, updated_at = now() where id = $1 and state = 'streaming'";
    Ok(db.execute(update, &[&answer, &text]).await? == 1)
}

/// Stores the end of an answer and settles its account. Without effect if that has been done.
pub(crate) async fn close(
    tx: &Transaction<'_>,
    conversation: Uuid,
    answer: Uuid,
    closing: &Closing,
) -> db::Result<()> {
    if !lock(tx, conversation).await? {
        return Ok(());
    }
    let update =
        "update messages set state = $2, text = $3, finish_reason = $4, error = $5, prompt_tokens = $6,
                      completion_tokens = $7, tokens_estimated = $8, updated_at = now()
                  where id = $1 and state = 'streaming' returning tokens_reserved, day::text";
    let Closing {
        state,
        text,
        finish_reason,
        error,
        usage,
        is_estimate,
    } = closing;
    let (prompt, completion) = (i64::from(usage.prompt_tokens), i64::from(usage.completion_tokens));
    let row = tx
        .query_opt(
            update,
            &[
                &answer,
                state,
                text,
                finish_reason,
                error,
                &prompt,
                &completion,
                is_estimate,
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let (reserved, day): (i64, String) = (row.get(0), row.get(1));
    let conversations =
        "update conversations set tokens_used = tokens_used + $2, tokens_reserved = tokens_reserved - $3,
                             updated_at = now() where id = $1";
    tx.execute(conversations, &[&conversation, &(prompt + completion), &reserved])
        .await?;
    let days = "update token_days set prompt_tokens = prompt_tokens + $2, completion_tokens = completion_tokens + $3,
                    tokens_reserved = tokens_reserved - $4, answers = answers + 1 where day = $1::text::date";
    tx.execute(days, &[&day, &prompt, &completion, &reserved]).await?;
    Ok(())
}

/// Ends answers that nobody will finish, keeping what there is of them. The conversation must be locked.
pub(crate) async fn give_up(tx: &Transaction<'_>, conversation: Uuid, which: Which) -> db::Result<()> {
    let sql = "select id, text, prompt_tokens from messages
               where conversation_id = $1 and state = 'streaming' and ($2 or updated_at < now() - make_interval(secs => $3))";
    let (all, lost_after) = (which == Which::All, LOST_AFTER.as_secs_f64());
    for row in tx.query(sql, &[&conversation, &all, &lost_after]).await? {
        let (answer, text, prompt): (Uuid, String, i64) = (row.get(0), row.get(1), row.get(2));
        let closing = Closing {
            state: "incomplete",
            finish_reason: None,
            error: Some("The service broke off while it was writing this answer.".into()),
            usage: Usage {
                prompt_tokens: u32::try_from(prompt).unwrap_or(u32::MAX),
                completion_tokens: estimate(&text),
            },
            is_estimate: true,
            text,
        };
        close(tx, conversation, answer, &closing).await?;
    }
    Ok(())
}

/// Gives up the lost answers of all conversations; says how many conversations had one.
pub(crate) async fn give_up_lost(db: &DbPool) -> db::Result<usize> {
    let sql = "select distinct conversation_id from messages
               where state = 'streaming' and updated_at < now() - make_interval(secs => $1) limit 500";
    let rows = db.query(sql, &[&LOST_AFTER.as_secs_f64()]).await?;
    for row in &rows {
        let conversation: Uuid = row.get(0);
        db.transaction(async |tx| {
            if lock(tx, conversation).await? {
                give_up(tx, conversation, Which::Lost).await?;
            }
            Ok::<_, db::Error>(())
        })
        .await?;
    }
    Ok(rows.len())
}
