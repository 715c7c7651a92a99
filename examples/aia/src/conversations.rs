//! Conversations: a title, the documents they are about, and what they have used.

use crate::documents::Deleted;
use crate::parameters::{Id, Page, Paging};
use crate::{Aia, ledger, to_the_end};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::axum::http::StatusCode;
use zhuji::db::Row;
use zhuji::http::{HttpResult, Problem};

const MAX_TITLE_CHARS: usize = 200;
const MAX_DOCUMENTS: usize = 100;

/// The columns of [`Conversation::from_row`], in its order; the budget is the first parameter.
const COLUMNS: &str = "id, title, tokens_used, tokens_reserved, $1::bigint,
    (select count(*) from messages where conversation_id = c.id),
    array(select document_id from conversation_documents where conversation_id = c.id order by position),
    created_at, updated_at";

/// What a new conversation is made of.
#[derive(Debug, Deserialize)]
pub(crate) struct New {
    title: String,
    #[serde(default)]
    documents: Vec<Uuid>,
}

/// A conversation as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Conversation {
    id: Uuid,
    title: String,
    documents: Vec<Uuid>,
    messages: i64,
    tokens: Tokens,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Tokens {
    used: i64,
    /// Set aside for an answer that is being written.
    reserved: i64,
    budget: i64,
}

impl Conversation {
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            title: row.get(1),
            tokens: Tokens {
                used: row.get(2),
                reserved: row.get(3),
                budget: row.get(4),
            },
            messages: row.get(5),
            documents: row.get(6),
            created_at: row.get(7),
            updated_at: row.get(8),
        }
    }
}

pub(crate) fn no_such_conversation() -> Problem {
    Problem::not_found("There is no conversation with this id. It may have been deleted.")
}

/// `POST /conversations`
pub(crate) async fn create(
    State(aia): State<Arc<Aia>>,
    Json(new): Json<New>,
) -> HttpResult<(StatusCode, Json<Conversation>)> {
    let title = new.title.replace('\0', "");
    let title = title.trim();
    if title.is_empty() || title.chars().count() > MAX_TITLE_CHARS {
        let detail = format!("The title must have 1 to {MAX_TITLE_CHARS} characters.");
        return Err(Problem::unprocessable(detail).with("field", "title"));
    }
    let mut seen = HashSet::new();
    let documents: Vec<Uuid> = new.documents.into_iter().filter(|id| seen.insert(*id)).collect();
    if documents.len() > MAX_DOCUMENTS {
        let detail = format!("A conversation is about {MAX_DOCUMENTS} documents at most.");
        return Err(Problem::unprocessable(detail).with("field", "documents"));
    }
    let id = Uuid::now_v7();
    let budget = i64::from(aia.cx.config().conversation_tokens);
    let conversation = aia
        .cx
        .db()
        .transaction(async |tx| {
            tx.execute(
                "insert into conversations (id, title) values ($1, $2)",
                &[&id, &title],
            )
            .await?;
            let insert = "insert into conversation_documents (conversation_id, document_id, position)
                          select $1::uuid, d.id, array_position($2, d.id) from documents d
                          where d.id = any($2) and d.state not in ('uploading', 'deleting') for share";
            let named = tx.execute(insert, &[&id, &documents]).await?;
            if named != documents.len() as u64 {
                let detail = "Not all of the documents exist. One may have been deleted.";
                return Err(Problem::unprocessable(detail).with("field", "documents"));
            }
            let sql = format!("select {COLUMNS} from conversations c where id = $2");
            let row = tx.query_one(&sql, &[&budget, &id]).await?;
            Ok(Conversation::from_row(&row))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(conversation)))
}

/// `GET /conversations?page=&per_page=`, the one that was used last first.
pub(crate) async fn list(
    State(aia): State<Arc<Aia>>,
    paging: Paging,
) -> HttpResult<Json<Page<Conversation>>> {
    let db = aia.cx.db();
    let total = db
        .query_one("select count(*) from conversations", &[])
        .await?
        .get(0);
    let sql =
        format!("select {COLUMNS} from conversations c order by updated_at desc, id limit $2 offset $3");
    let budget = i64::from(aia.cx.config().conversation_tokens);
    let rows = db
        .query(&sql, &[&budget, &paging.limit(), &paging.offset()])
        .await?;
    Ok(Json(
        paging.page(total, rows.iter().map(Conversation::from_row).collect()),
    ))
}

/// `GET /conversations/{id}`
pub(crate) async fn show(State(aia): State<Arc<Aia>>, Id(id): Id) -> HttpResult<Json<Conversation>> {
    let sql = format!("select {COLUMNS} from conversations c where id = $2");
    let budget = i64::from(aia.cx.config().conversation_tokens);
    let row = aia.cx.db().query_opt(&sql, &[&budget, &id]).await?;
    Ok(Json(Conversation::from_row(
        &row.ok_or_else(no_such_conversation)?,
    )))
}

/// `DELETE /conversations/{id}`: with its messages. Its documents stay, and so does what it used of the day's budget. An
/// answer that is being written breaks off.
pub(crate) async fn delete(State(aia): State<Arc<Aia>>, Id(id): Id) -> HttpResult<Json<Deleted>> {
    let delete = async move {
        aia.cx
            .db()
            .transaction(async |tx| {
                if !ledger::lock(tx, id).await? {
                    return Err(no_such_conversation());
                }
                ledger::give_up(tx, id, ledger::Which::All).await?;
                tx.execute("delete from conversations where id = $1", &[&id])
                    .await?;
                Ok(())
            })
            .await?;
        tracing::info!(conversation = %id, "conversation deleted");
        Ok(Deleted { success: true })
    };
    to_the_end(delete).await.map(Json)
}
