//! One record: its shape on the wire, its id, showing it and deleting it.

use super::{Asl, to_the_end};
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;
use zhuji::axum::Json;
use zhuji::axum::extract::{FromRequestParts, Path, State};
use zhuji::axum::http::request::Parts;
use zhuji::db::Row;
use zhuji::http::{HttpResult, Problem};

/// The columns of [`Literature::from_row`], in its order.
pub(super) const COLUMNS: &str = "id, title, authors, year, journal, doi, abstract, included, \
    pdf_url, pdf_oss_key, pdf_file_size, extraction_state, extraction_pages, extraction_error";

/// A record as clients see it.
#[derive(Debug, Serialize)]
pub(super) struct Literature {
    id: Uuid,
    title: String,
    authors: Option<String>,
    year: Option<i32>,
    journal: Option<String>,
    doi: Option<String>,
    #[serde(rename = "abstract")]
    summary: Option<String>,
    included: Option<bool>,
    pdf_url: Option<String>,
    pdf_oss_key: Option<String>,
    pdf_file_size: Option<i64>,
    extraction: Extraction,
}

/// How far the extraction of the PDF's text is.
#[derive(Debug, Serialize)]
struct Extraction {
    /// `none`, `pending`, `running`, `done` or `failed`.
    state: String,
    pages: Option<i32>,
    /// A sentence for the user.
    error: Option<String>,
}

impl Literature {
    pub(super) fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            title: row.get(1),
            authors: row.get(2),
            year: row.get(3),
            journal: row.get(4),
            doi: row.get(5),
            summary: row.get(6),
            included: row.get(7),
            pdf_url: row.get(8),
            pdf_oss_key: row.get(9),
            pdf_file_size: row.get(10),
            extraction: Extraction {
                state: row.get(11),
                pages: row.get(12),
                error: row.get(13),
            },
        }
    }
}

/// The id in the path. Whatever is no id names no record: 404, however long or odd it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordId(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for RecordId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_record())?;
        // Only the form that the service itself gives out, so that a record has one address.
        Uuid::try_parse(&text)
            .ok()
            .filter(|id| id.to_string() == text)
            .map(Self)
            .ok_or_else(no_such_record)
    }
}

pub(super) fn no_such_record() -> Problem {
    Problem::not_found("There is no record with this id. It may have been deleted.")
}

/// `GET /literatures/{id}`
pub(super) async fn show(
    State(asl): State<Arc<Asl>>,
    RecordId(id): RecordId,
) -> HttpResult<Json<Literature>> {
    let sql = format!("select {COLUMNS} from literatures where id = $1");
    let row = asl
        .cx
        .db()
        .query_opt(&sql, &[&id])
        .await?
        .ok_or_else(no_such_record)?;
    Ok(Json(Literature::from_row(&row)))
}

/// What a deletion answers.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    success: bool,
}

/// `DELETE /literatures/{id}`: the row first, then the object. Between the two nothing points at the object any more,
/// so a crash there leaves it to the sweep, and never a row that points at nothing.
pub(super) async fn delete(State(asl): State<Arc<Asl>>, RecordId(id): RecordId) -> HttpResult<Json<Deleted>> {
    // A client that hangs up between the two must not leave the object behind.
    to_the_end(async move { asl.delete(id).await }).await.map(Json)
}

impl Asl {
    async fn delete(&self, id: Uuid) -> HttpResult<Deleted> {
        let sql = "delete from literatures where id = $1 returning pdf_oss_key";
        let row = self
            .cx
            .db()
            .query_opt(sql, &[&id])
            .await?
            .ok_or_else(no_such_record)?;
        self.records_changed().await;
        if let Some(key) = row.get::<_, Option<String>>(0) {
            self.remove_object(&key).await;
        }
        tracing::info!(record = %id, "record deleted");
        Ok(Deleted { success: true })
    }

    /// Removes an object that no row names any more. If that fails now, the sweep does it later.
    pub(super) async fn remove_object(&self, full_key: &str) {
        let storage = self.cx.storage();
        let key = full_key.strip_prefix(storage.prefix()).unwrap_or(full_key);
        if let Err(error) = storage.delete(key).await {
            tracing::warn!(key = full_key, error = %error, "a stored PDF was not removed; the sweep will try again");
        }
    }
}
