//! Uploading documents, and what is known of them.
//!
//! The row names the object before there is one, and goes after it: whatever breaks in between, every object has a row, and
//! the [sweep](crate::sweep) finds what nobody finished.

use crate::parameters::{Id, Page, Paging};
use crate::reading::ReadDocument;
use crate::{Aia, to_the_end};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::axum::http::StatusCode;
use zhuji::axum::http::header::{CACHE_CONTROL, LOCATION};
use zhuji::axum::response::{IntoResponse, Response};
use zhuji::db::Row;
use zhuji::http::{FilePart, HttpResult, Problem};
use zhuji::jobs::{EnqueueOptions, JobId};
use zhuji::storage::{PutOptions, SignOptions};

/// The content types of what can be read.
pub(crate) const PDF: &str = "application/pdf";
const TEXT: &str = "text/plain; charset=utf-8";

/// How long the address of a file works that a browser is sent to.
const URL_EXPIRES: Duration = Duration::from_secs(300);

/// The columns of [`Document::from_row`], in its order.
const COLUMNS: &str = "id, name, content_type, size, state, pages, error, created_at";
/// Documents whose upload is not complete, or whose deletion is under way, are not there for anybody.
const VISIBLE: &str = "state not in ('uploading', 'deleting')";

/// A document as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    id: Uuid,
    name: String,
    content_type: String,
    size: Option<i64>,
    /// `pending`, `running`, `done` or `failed`: how far the reading of its text is.
    state: String,
    pages: Option<i32>,
    /// A sentence for the user.
    error: Option<String>,
    created_at: Timestamp,
}

impl Document {
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get(1),
            content_type: row.get(2),
            size: row.get(3),
            state: row.get(4),
            pages: row.get(5),
            error: row.get(6),
            created_at: row.get(7),
        }
    }
}

/// What a deletion answers.
#[derive(Debug, Serialize)]
pub(crate) struct Deleted {
    pub(crate) success: bool,
}

fn no_such_document() -> Problem {
    Problem::not_found("There is no document with this id. It may have been deleted.")
}

/// `POST /documents`: streamed to storage, then one transaction that completes the row and enqueues the reading.
pub(crate) async fn upload(
    State(aia): State<Arc<Aia>>,
    mut part: FilePart,
) -> HttpResult<(StatusCode, Json<Document>)> {
    let start = part.stream.peek(pdf_text::SNIFF_BYTES).await?;
    if start.is_empty() {
        return Err(Problem::bad_request("The file is empty."));
    }
    let (content_type, extension) = match start {
        start if pdf_text::sniff(start) => (PDF, "pdf"),
        start if is_text(start) => (TEXT, "txt"),
        _ => {
            let detail = "The file is neither a PDF nor plain text in UTF-8, by its content.";
            return Err(Problem::unsupported_media(detail));
        }
    };
    let id = Uuid::now_v7();
    let key = format!("documents/{id}.{extension}");
    let insert = "insert into documents (id, name, content_type, storage_key, state) values ($1, $2, $3, $4, 'uploading')";
    let db = aia.cx.db();
    db.execute(insert, &[&id, &part.file_name, &content_type, &key])
        .await?;
    // Headers have a limited length.
    let shown = &part.file_name[..part.file_name.floor_char_boundary(200)];
    let options = PutOptions {
        content_type: Some(content_type.into()),
        content_disposition: Some(zhuji::storage::inline(shown)),
        ..PutOptions::default()
    };
    let stream = part.stream.limit(aia.cx.config().max_document_bytes.bytes());
    let stored = match aia.cx.storage().upload_stream(&key, stream, options).await {
        Ok(stored) => stored,
        Err(error) => {
            // Nothing is stored. If the row can't be removed now, the sweep does it.
            let remove = "delete from documents where id = $1 and state = 'uploading'";
            if let Err(error) = db.execute(remove, &[&id]).await {
                tracing::debug!(document = %id, %error, "the row of a failed upload is left to the sweep");
            }
            return Err(error.into());
        }
    };
    let size = i64::try_from(stored.size).map_err(|_| Problem::too_large("The file is too large."))?;
    let cause = cause();
    // A client that hangs up now must not leave an object that nobody reads.
    let document = to_the_end(async move { aia.complete(id, size, cause).await }).await?;
    tracing::info!(document = %id, size, content_type, "document stored");
    Ok((StatusCode::CREATED, Json(document)))
}

/// The request that causes the job, so that the job's log lines can be found from it.
fn cause() -> EnqueueOptions {
    match zhuji::current_request() {
        Some(request) => EnqueueOptions::default()
            .traceparent(request.trace.to_traceparent())
            .request_id(request.request_id),
        None => EnqueueOptions::default(),
    }
}

/// Whether the first bytes of a file are those of a text: a character may be cut off at their end.
fn is_text(start: &[u8]) -> bool {
    let is_utf8 = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && !start.contains(&0)
}

impl Aia {
    async fn complete(&self, id: Uuid, size: i64, cause: EnqueueOptions) -> HttpResult<Document> {
        let update = format!(
            "update documents set state = 'pending', size = $2, job = $3, updated_at = now()
             where id = $1 and state = 'uploading' returning {COLUMNS}"
        );
        self.cx
            .db()
            .transaction(async |tx| {
                let job = JobId::generate();
                let row = tx.query_opt(&update, &[&id, &size, &job.to_string()]).await?;
                // It took longer than the sweep waits for an upload.
                let row = row.ok_or_else(no_such_document)?;
                let read = ReadDocument { document: id };
                self.cx.jobs().enqueue_in_with(tx, &read, cause.id(job)).await?;
                Ok::<_, Problem>(Document::from_row(&row))
            })
            .await
    }

    async fn delete_document(&self, id: Uuid) -> HttpResult<Deleted> {
        let key = self
            .cx
            .db()
            .transaction(async |tx| {
                let mark = format!(
                    "update documents set state = 'deleting', updated_at = now()
                     where id = $1 and {VISIBLE} returning storage_key"
                );
                let row = tx.query_opt(&mark, &[&id]).await?.ok_or_else(no_such_document)?;
                // From now on no answer uses it.
                tx.execute("delete from passages where document_id = $1", &[&id])
                    .await?;
                tx.execute(
                    "delete from conversation_documents where document_id = $1",
                    &[&id],
                )
                .await?;
                Ok::<String, Problem>(row.get(0))
            })
            .await?;
        if let Err(error) = crate::sweep::remove(&self.cx, id, &key).await {
            tracing::warn!(document = %id, %error, "a deleted document is still stored; the sweep will try again");
        }
        tracing::info!(document = %id, "document deleted");
        Ok(Deleted { success: true })
    }
}

/// `GET /documents?page=&per_page=`, the newest first.
pub(crate) async fn list(State(aia): State<Arc<Aia>>, paging: Paging) -> HttpResult<Json<Page<Document>>> {
    let db = aia.cx.db();
    let count = format!("select count(*) from documents where {VISIBLE}");
    let total = db.query_one(&count, &[]).await?.get(0);
    let sql = format!("select {COLUMNS} from documents where {VISIBLE} order by id desc limit $1 offset $2");
    let rows = db.query(&sql, &[&paging.limit(), &paging.offset()]).await?;
    Ok(Json(
        paging.page(total, rows.iter().map(Document::from_row).collect()),
    ))
}

/// `GET /documents/{id}`
pub(crate) async fn show(State(aia): State<Arc<Aia>>, Id(id): Id) -> HttpResult<Json<Document>> {
    let sql = format!("select {COLUMNS} from documents where id = $1 and {VISIBLE}");
    let row = aia.cx.db().query_opt(&sql, &[&id]).await?;
    Ok(Json(Document::from_row(&row.ok_or_else(no_such_document)?)))
}

/// `GET /documents/{id}/file`: a redirect to an address that works for a few minutes and on no other object.
pub(crate) async fn open(State(aia): State<Arc<Aia>>, Id(id): Id) -> HttpResult<Response> {
    let sql = format!("select storage_key from documents where id = $1 and {VISIBLE}");
    let row = aia.cx.db().query_opt(&sql, &[&id]).await?;
    let key: String = row.ok_or_else(no_such_document)?.get(0);
    let options = SignOptions::get().expires(URL_EXPIRES);
    let address = aia.cx.storage().signed_url(&key, options).await?.into_string();
    let headers = [(LOCATION, address), (CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// `DELETE /documents/{id}`: from the conversations and their future answers too. What was answered stays.
pub(crate) async fn delete(State(aia): State<Arc<Aia>>, Id(id): Id) -> HttpResult<Json<Deleted>> {
    // A client that hangs up must not leave the object behind.
    to_the_end(async move { aia.delete_document(id).await })
        .await
        .map(Json)
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn a_text_is_known_by_its_content() {
        assert!(is_text("血铅 blood lead\r\n".as_bytes()));
        // In the middle of a character.
        assert!(is_text(&"血铅".as_bytes()[..4]));
        assert!(!is_text(b"PK\x03\x04\x00\x00"));
        assert!(!is_text(b"\xd1\xaa\xd6\xfe "));
        assert!(!is_text(&"血铅".as_bytes()[1..]));
    }
}
