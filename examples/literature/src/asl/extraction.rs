//! The job that reads the text and the page count of an uploaded PDF.

use super::{AslConfig, pdf};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;
use zhuji::Context;
use zhuji::config::ByteSize;
use zhuji::db::Transaction;
use zhuji::jobs::{Job, JobContext, JobError, Policy};
use zhuji::storage::{ErrorKind, GetOptions};
use zhuji::{IsolatedError, IsolatedErrorKind, Limits};

/// Extract the text of the PDF `key`, if it still is the record's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExtractPdf {
    pub(crate) record: Uuid,
    /// The key in the whole store.
    pub(crate) key: String,
}

impl Job for ExtractPdf {
    const KIND: &'static str = "extract-pdf";

    fn policy() -> Policy {
        // The task has its own, shorter limit; this one is for everything around it.
        Policy::default()
            .max_attempts(5)
            .timeout(Duration::from_secs(15 * 60))
    }
}

/// Memory that the reader needs at the least for each byte of a PDF.
const MEMORY_PER_BYTE: u64 = 4;

/// What became of one attempt.
enum Outcome {
    Read(pdf::Text),
    /// The PDF is to blame, and a second attempt would end the same way. The message is for the user.
    Unreadable(String),
}

/// Runs one attempt. A PDF that cannot be read marks its record and ends the job; a storage or a database that is away
/// is tried again later.
pub(crate) async fn run(
    cx: &Context<AslConfig>,
    attempt: &JobContext,
    job: &ExtractPdf,
) -> Result<(), JobError> {
    if !begin(cx, job).await? {
        // Deleted, replaced by another PDF with a job of its own, or done by an earlier attempt.
        tracing::debug!(record = %job.record, "nothing to extract any more");
        return Ok(());
    }
    let outcome = match extract(cx, job).await {
        Ok(outcome) => outcome,
        Err(error) if attempt.is_last_attempt() => {
            tracing::error!(record = %job.record, error = %error, "extraction given up");
            let message =
                "the stored file could not be fetched and read, several times over; upload the PDF again";
            Outcome::Unreadable(message.into())
        }
        Err(error) => return Err(error),
    };
    cx.db()
        .transaction(async |tx| {
            write(tx, job, &outcome).await?;
            attempt.complete_in(tx).await?;
            Ok::<_, JobError>(())
        })
        .await?;
    match &outcome {
        Outcome::Read(text) => tracing::info!(record = %job.record, pages = text.pages, "PDF text extracted"),
        Outcome::Unreadable(why) => {
            tracing::info!(record = %job.record, reason = why, "PDF text is not readable")
        }
    }
    Ok(())
}

/// Marks the record as being read; no if there is nothing to read for this job.
///
/// The row is locked first: on a queue outside the database the job can be here before the upload's transaction is
/// committed, and must wait for it.
async fn begin(cx: &Context<AslConfig>, job: &ExtractPdf) -> Result<bool, JobError> {
    let lock = "select pdf_oss_key from literatures where id = $1 for update";
    let start = "update literatures set extraction_state = 'running', updated_at = now()
                 where id = $1 and pdf_oss_key = $2 and extraction_state in ('pending', 'running')";
    cx.db()
        .transaction(async |tx| {
            tx.query_opt(lock, &[&job.record]).await?;
            Ok(tx.execute(start, &[&job.record, &job.key]).await? == 1)
        })
        .await
}

async fn extract(cx: &Context<AslConfig>, job: &ExtractPdf) -> Result<Outcome, JobError> {
    let storage = cx.storage();
    let key = job.key.strip_prefix(storage.prefix()).unwrap_or(&job.key);
    let download = match storage.download_stream(key, GetOptions::default()).await {
        Ok(download) => download,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Outcome::Unreadable(
                "the stored file is missing; upload the PDF again".into(),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let memory = cx.config().extraction_memory_limit.bytes();
    if let Some(message) = too_large(download.metadata.size, memory) {
        return Ok(Outcome::Unreadable(message));
    }
    let limits = Limits {
        time: cx.config().extraction_time_limit,
        memory,
        output: pdf::MAX_OUTPUT_BYTES,
    };
    match cx.isolated().run(pdf::TASK.name, download.stream, limits).await {
        Ok(output) => Ok(Outcome::Read(serde_json::from_slice(&output)?)),
        Err(error) if error.is_about_the_input() => Ok(Outcome::Unreadable(reason(&error))),
        Err(error) => Err(error.into()),
    }
}

/// Why a PDF of `size` bytes is not even tried: the reader holds the file, its objects and their unpacked content at once.
fn too_large(size: u64, memory: u64) -> Option<String> {
    let largest = memory / MEMORY_PER_BYTE;
    (size > largest).then(|| {
        format!(
            "the PDF is too large for its text to be extracted: it has {}, and at most {} can be read",
            ByteSize::new(size),
            ByteSize::new(largest)
        )
    })
}

/// Why a PDF cannot be read, for the user of its record.
fn reason(error: &IsolatedError) -> String {
    match error.kind() {
        IsolatedErrorKind::Failed(message) => message.clone(),
        IsolatedErrorKind::TimedOut(limit) => {
            format!(
                "reading the PDF takes longer than the {} s allowed",
                limit.as_secs()
            )
        }
        IsolatedErrorKind::OutputTooLarge(_) => "the PDF holds more text than any document does".into(),
        _ => "reading the PDF needs more memory than allowed, or its structure breaks the reader".into(),
    }
}

/// The result, for the PDF that the record still has: a newer one has a job of its own.
async fn write(tx: &Transaction<'_>, job: &ExtractPdf, outcome: &Outcome) -> Result<(), JobError> {
    let update = "update literatures
                  set extraction_state = $3, extraction_pages = $4, extraction_error = $5, updated_at = now()
                  where id = $1 and pdf_oss_key = $2";
    let (state, pages, error) = match outcome {
        Outcome::Read(text) => (
            "done",
            Some(i32::try_from(text.pages).unwrap_or(i32::MAX)),
            partly(text),
        ),
        Outcome::Unreadable(message) => ("failed", None, Some(message.clone())),
    };
    let updated = tx
        .execute(update, &[&job.record, &job.key, &state, &pages, &error])
        .await?;
    if updated == 1
        && let Outcome::Read(text) = outcome
    {
        let insert = "insert into extracted_texts (literature_id, text) values ($1, $2)
                      on conflict (literature_id) do update set text = excluded.text, extracted_at = now()";
        tx.execute(insert, &[&job.record, &text.text]).await?;
    }
    Ok(())
}

fn partly(text: &pdf::Text) -> Option<String> {
    (text.unreadable_pages > 0).then(|| {
        format!(
            "{} of {} pages are damaged and were left out",
            text.unreadable_pages, text.pages
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pdf_that_cannot_fit_into_memory_is_not_tried() {
        assert_eq!(too_large(256 << 20, 1 << 30), None);
        let message = too_large((256 << 20) + 1, 1 << 30).expect("it is too large");
        assert!(
            message.contains("too large") && message.contains("256MiB"),
            "{message}"
        );
    }
}
