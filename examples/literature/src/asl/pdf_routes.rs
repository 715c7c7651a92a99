//! Uploading a record's PDF, and opening it.

use super::extraction::ExtractPdf;
use super::record::{RecordId, no_such_record};
use super::{Asl, pdf, to_the_end};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::axum::http::HeaderMap;
use zhuji::axum::http::StatusCode;
use zhuji::axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, LOCATION};
use zhuji::axum::response::{IntoResponse, Response};
use zhuji::db;
use zhuji::http::{FilePart, HttpResult, Problem};
use zhuji::jobs::{EnqueueOptions, JobId};
use zhuji::storage::{PutOptions, SignOptions, Stored};

const CONTENT_TYPE: &str = "application/pdf";
const SMALL_BODY: u64 = 256 << 10;
/// How long a commit whose answer was lost is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an upload answers.
#[derive(Debug, Serialize)]
pub(super) struct Uploaded {
    success: bool,
    url: String,
    size: u64,
}

/// Why a PDF was not recorded, and whether it may have been all the same.
struct NotRecorded {
    problem: Problem,
    in_doubt: bool,
}

/// A PDF that is stored, and that no row names yet.
struct NewPdf {
    record: Uuid,
    file_name: String,
    stored: Stored,
    /// The key in the whole store, the module's prefix included.
    full_key: String,
    cause: EnqueueOptions,
}

/// `POST /literatures/{id}/pdf`: streamed to storage, then one transaction that updates the row and enqueues the job.
///
/// What is stored is removed again if the transaction fails. A process that dies in between leaves an object that no
/// row names, which the [sweep](super::sweep) removes; never a row that points at nothing.
pub(super) async fn upload(
    State(asl): State<Arc<Asl>>,
    RecordId(record): RecordId,
    headers: HeaderMap,
    mut part: FilePart,
) -> HttpResult<Json<Uploaded>> {
    if !is_small(&headers) {
        let known = "select from literatures where id = $1";
        asl.cx
            .db()
            .query_opt(known, &[&record])
            .await?
            .ok_or_else(no_such_record)?;
    }
    let start = part.stream.peek(pdf::SNIFF_BYTES).await?;
    if start.is_empty() {
        return Err(Problem::bad_request("The file is empty."));
    }
    if !pdf::sniff(start) {
        let detail = "The file is not a PDF: its content does not begin like one, whatever its name says.";
        return Err(Problem::unsupported_media(detail));
    }

    // Flat: a folder for each record would cost the disk a second inode and every upload its making.
    let key = format!(
        "pdfs/{record}-{}-{}.pdf",
        Uuid::now_v7(),
        key_name(&part.file_name)
    );
    let options = PutOptions {
        content_type: Some(CONTENT_TYPE.into()),
        content_disposition: Some(zhuji::storage::inline(&shown_name(&part.file_name))),
        ..PutOptions::default()
    };
    let stream = part.stream.limit(asl.cx.config().max_pdf_bytes.bytes());
    let stored = asl.cx.storage().upload_stream(&key, stream, options).await?;

    let new = NewPdf {
        record,
        file_name: part.file_name,
        full_key: format!("{}{key}", asl.cx.storage().prefix()),
        stored,
        cause: cause(),
    };
    // A client that hangs up now must not leave the object without its row.
    to_the_end(async move { asl.finish(new).await }).await.map(Json)
}

/// Whether the whole body costs less than a question to the database beforehand: then the transaction at the end, which
/// asks in any case, is soon enough to find that there is no such record.
fn is_small(headers: &HeaderMap) -> bool {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length <= SMALL_BODY)
}

impl Asl {
    async fn finish(&self, new: NewPdf) -> HttpResult<Uploaded> {
        match self.record_pdf(&new).await {
            Ok(replaced) => {
                tracing::info!(record = %new.record, key = new.full_key, size = new.stored.size, "PDF stored");
                if let Some(replaced) = replaced {
                    self.remove_object(&replaced).await;
                }
                Ok(new.into_answer())
            }
            Err(NotRecorded {
                problem,
                in_doubt: false,
            }) => {
                self.remove_object(&new.full_key).await;
                Err(problem)
            }
            Err(NotRecorded {
                problem,
                in_doubt: true,
            }) => match self.names_object(&new).await {
                // The connection broke after the commit and before its answer: the upload did succeed.
                Some(true) => Ok(new.into_answer()),
                Some(false) => {
                    self.remove_object(&new.full_key).await;
                    Err(problem)
                }
                // Nobody can say whether the row names the object, so it stays until the sweep can.
                None => Err(problem),
            },
        }
    }

    /// Row and job in one transaction. Answers the key of the PDF that was there before.
    async fn record_pdf(&self, new: &NewPdf) -> Result<Option<String>, NotRecorded> {
        // Until the commit is sent, an error means that nothing was recorded.
        let committing = AtomicBool::new(false);
        let recorded = self
            .cx
            .db()
            .transaction(async |tx| {
                let size = i64::try_from(new.stored.size)
                    .map_err(|_| Problem::too_large("The file is too large."))?;
                let update = "update literatures set pdf_url = $2, pdf_oss_key = $3, pdf_file_name = $4,
                                  pdf_file_size = $5, extraction_state = 'pending', extraction_pages = null,
                                  extraction_error = null, extraction_job = $6, updated_at = now()
                              from (select id, pdf_oss_key from literatures where id = $1 for update) as old
                              where literatures.id = old.id returning old.pdf_oss_key";
                let NewPdf {
                    record,
                    file_name,
                    stored,
                    full_key,
                    ..
                } = new;
                let id = JobId::generate();
                let job = id.to_string();
                let row = tx
                    .query_opt(update, &[record, &stored.url, full_key, file_name, &size, &job])
                    .await?
                    .ok_or_else(no_such_record)?;
                // After the row is locked: on an adapter without transactions the job begins at once, and waits for it.
                let job = ExtractPdf {
                    record: *record,
                    key: full_key.clone(),
                };
                self.cx
                    .jobs()
                    .enqueue_in_with(tx, &job, new.cause.clone().id(id))
                    .await?;
                let replaced: Option<String> = row.get(0);
                if replaced.is_some() {
                    tx.execute("delete from extracted_texts where literature_id = $1", &[record])
                        .await?;
                }
                committing.store(true, Ordering::Relaxed);
                Ok::<_, Problem>(replaced)
            })
            .await;
        recorded.map_err(|problem| NotRecorded {
            problem,
            in_doubt: committing.load(Ordering::Relaxed),
        })
    }

    /// Whether the row names the new object; nothing if the database cannot say.
    ///
    /// The row is locked for the answer: a commit whose answer was lost may still be under way, and holds the row until
    /// it is decided.
    async fn names_object(&self, new: &NewPdf) -> Option<bool> {
        let sql = "select pdf_oss_key from literatures where id = $1 for update";
        let answer = self.cx.db().transaction(async |tx| {
            tx.set_statement_timeout(PATIENCE).await?;
            let row = tx.query_opt(sql, &[&new.record]).await?;
            Ok::<_, db::Error>(row.and_then(|row| row.get(0)))
        });
        match answer.await {
            Ok(key) => Some(key.as_ref() == Some(&new.full_key)),
            Err(error) => {
                tracing::warn!(key = new.full_key, %error, "nobody can say whether the record names its new PDF");
                None
            }
        }
    }
}

impl NewPdf {
    fn into_answer(self) -> Uploaded {
        Uploaded {
            success: true,
            url: self.stored.url,
            size: self.stored.size,
        }
    }
}

/// `GET /literatures/{id}/pdf`: a redirect to an address that works for a few minutes and on no other object.
pub(super) async fn open(State(asl): State<Arc<Asl>>, RecordId(record): RecordId) -> HttpResult<Response> {
    let sql = "select pdf_oss_key from literatures where id = $1";
    let row = asl
        .cx
        .db()
        .query_opt(sql, &[&record])
        .await?
        .ok_or_else(no_such_record)?;
    let full_key: Option<String> = row.get(0);
    let full_key = full_key.ok_or_else(|| Problem::not_found("This record has no PDF yet."))?;
    let storage = asl.cx.storage();
    let key = full_key.strip_prefix(storage.prefix()).unwrap_or(&full_key);
    let options = SignOptions::get().expires(asl.cx.config().pdf_url_expires);
    let address = storage.signed_url(key, options).await?.into_string();
    Ok((
        StatusCode::FOUND,
        [(LOCATION, address), (CACHE_CONTROL, "no-store".into())],
    )
        .into_response())
}

/// The request that causes the job, so that the job's log lines can be found from it. Asked for where the request is
/// still known: not in the task that enqueues the job.
fn cause() -> EnqueueOptions {
    match zhuji::current_request() {
        Some(request) => EnqueueOptions::default()
            .traceparent(request.trace.to_traceparent())
            .request_id(request.request_id),
        None => EnqueueOptions::default(),
    }
}

/// The file's name as a part of a key: letters, digits and `._-` of any script, at most 80 bytes, without `.pdf`.
fn key_name(file_name: &str) -> String {
    let stem = match file_name.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("pdf") => stem,
        _ => file_name,
    };
    let mut name: String = stem
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    name.truncate(name.floor_char_boundary(80));
    let name = name.trim_matches('.');
    if name.is_empty() {
        "file".into()
    } else {
        name.into()
    }
}

/// The name a browser saves the PDF under. Headers have a limited length, and there a letter can take nine bytes.
fn shown_name(file_name: &str) -> String {
    let (stem, extension) = match file_name.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("pdf") => (stem, ".pdf"),
        _ => (file_name, ""),
    };
    format!("{}{extension}", &stem[..stem.floor_char_boundary(200)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_becomes_a_harmless_part_of_a_key() {
        for (given, kept) in [
            ("geotopo.pdf", "geotopo"),
            ("肺癌 筛查.PDF", "肺癌_筛查"),
            ("a/b\\c?d#e%f.pdf", "a_b_c_d_e_f"),
            ("..pdf", "file"),
            ("", "file"),
            ("v1.2-final_3.pdf", "v1.2-final_3"),
        ] {
            assert_eq!(key_name(given), kept);
        }
        assert!(key_name(&"文".repeat(200)).len() <= 80);
    }

    #[test]
    fn a_shown_name_keeps_its_ending_and_fits_into_a_header() {
        assert_eq!(shown_name("肺癌 筛查.PDF"), "肺癌 筛查.pdf");
        assert_eq!(shown_name("scan"), "scan");
        let long = shown_name(&format!("{}.pdf", "文".repeat(196)));
        assert!(long.ends_with("文.pdf"), "{long}");
        assert!(zhuji::storage::inline(&long).len() < 1024);
        assert!(zhuji::storage::inline(&shown_name(&"🫁".repeat(200))).len() < 1024);
    }
}
