//! The job that reads an uploaded document and cuts it into passages.

use crate::config::AiaConfig;
use crate::documents::PDF;
use crate::passages;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;
use zhuji::jobs::{Job, JobContext, JobError, Policy};
use zhuji::storage::{ErrorKind, GetOptions};
use zhuji::{Context, IsolatedError, IsolatedErrorKind, Limits};

/// Read the document, if it still is there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadDocument {
    pub(crate) document: Uuid,
}

impl Job for ReadDocument {
    const KIND: &'static str = "read-document";

    fn policy() -> Policy {
        // The task has its own, shorter limit; this one is for everything around it.
        Policy::default()
            .max_attempts(5)
            .timeout(Duration::from_secs(15 * 60))
    }
}

/// What became of one attempt.
enum Outcome {
    Read(pdf_text::Text),
    /// The document is to blame, and a second attempt would end the same way. The message is for the user.
    Unreadable(String),
}

/// Runs one attempt. A document that cannot be read is marked and ends the job; a storage or a database that is away is
/// tried again later.
pub(crate) async fn run(
    cx: &Context<AiaConfig>,
    attempt: &JobContext,
    job: &ReadDocument,
) -> Result<(), JobError> {
    let begin = "update documents set state = 'running', updated_at = now()
                 where id = $1 and state in ('pending', 'running') returning storage_key, content_type";
    let lock = "select from documents where id = $1 for update";
    let begun = cx
        .db()
        .transaction(async |tx| {
            // On a queue outside the database the job can be here before the upload's transaction is committed.
            tx.query_opt(lock, &[&job.document]).await?;
            let row = tx.query_opt(begin, &[&job.document]).await?;
            Ok::<_, JobError>(row.map(|row| (row.get::<_, String>(0), row.get::<_, String>(1))))
        })
        .await?;
    let Some((key, content_type)) = begun else {
        tracing::debug!(document = %job.document, "nothing to read any more");
        return Ok(());
    };
    let outcome = match read(cx, &key, &content_type).await {
        Ok(outcome) => outcome,
        Err(error) if attempt.is_last_attempt() => {
            tracing::error!(document = %job.document, %error, "reading given up");
            let message =
                "The stored file could not be fetched and read, several times over. Upload it again.";
            Outcome::Unreadable(message.into())
        }
        Err(error) => return Err(error),
    };
    cx.db()
        .transaction(async |tx| {
            let update = "update documents set state = $2, pages = $3, error = $4, updated_at = now()
                          where id = $1 and state = 'running'";
            let (state, pages, error) = match &outcome {
                Outcome::Read(text) => ("done", i32::try_from(text.pages).ok(), partly(text)),
                Outcome::Unreadable(message) => ("failed", None, Some(message.clone())),
            };
            let updated = tx
                .execute(update, &[&job.document, &state, &pages, &error])
                .await?;
            if updated == 1
                && let Outcome::Read(text) = &outcome
            {
                passages::replace(tx, job.document, &passages::split(&text.text)).await?;
            }
            attempt.complete_in(tx).await?;
            Ok::<_, JobError>(())
        })
        .await?;
    match &outcome {
        Outcome::Read(text) => tracing::info!(document = %job.document, pages = text.pages, "document read"),
        Outcome::Unreadable(why) => {
            tracing::info!(document = %job.document, reason = why, "the document is not readable");
        }
    }
    Ok(())
}

async fn read(cx: &Context<AiaConfig>, key: &str, content_type: &str) -> Result<Outcome, JobError> {
    let download = match cx.storage().download_stream(key, GetOptions::default()).await {
        Ok(download) => download,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Outcome::Unreadable(
                "The stored file is missing. Upload it again.".into(),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    if content_type != PDF {
        if download.metadata.size > pdf_text::MAX_TEXT_BYTES as u64 {
            return Ok(Outcome::Unreadable(
                "The text is longer than 20 MiB. Split it.".into(),
            ));
        }
        let bytes = download.stream.into_bytes().await?;
        return Ok(match text(&bytes) {
            Some(text) => Outcome::Read(text),
            None => Outcome::Unreadable(
                "The file is not text in UTF-8. Save it as such and upload it again.".into(),
            ),
        });
    }
    let limits = Limits {
        time: cx.config().extraction_time_limit,
        memory: cx.config().extraction_memory_limit.bytes(),
        output: pdf_text::MAX_OUTPUT_BYTES,
    };
    match cx
        .isolated()
        .run(pdf_text::TASK.name, download.stream, limits)
        .await
    {
        Ok(output) => Ok(Outcome::Read(serde_json::from_slice(&output)?)),
        Err(error) if error.is_about_the_input() => Ok(Outcome::Unreadable(reason(&error))),
        Err(error) => Err(error.into()),
    }
}

/// A text file is a document of one page.
fn text(bytes: &[u8]) -> Option<pdf_text::Text> {
    let text = std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}');
    Some(pdf_text::Text {
        pages: 1,
        // Form feeds would make pages, and NUL is a character that PostgreSQL's text cannot hold.
        text: text.replace(['\u{c}', '\0'], " "),
        unreadable_pages: 0,
    })
}

/// Why a PDF cannot be read, for its user.
fn reason(error: &IsolatedError) -> String {
    match error.kind() {
        // The reader's own sentence, which begins in the middle of one.
        IsolatedErrorKind::Failed(message) => message.clone(),
        IsolatedErrorKind::TimedOut(limit) => {
            format!(
                "Reading the PDF takes longer than the {} s allowed.",
                limit.as_secs()
            )
        }
        IsolatedErrorKind::OutputTooLarge(_) => "The PDF holds more text than any document does.".into(),
        _ => "Reading the PDF needs more memory than allowed, or its structure breaks the reader.".into(),
    }
}

fn partly(text: &pdf_text::Text) -> Option<String> {
    (text.unreadable_pages > 0).then(|| {
        format!(
            "{} of {} pages are damaged and were left out.",
            text.unreadable_pages, text.pages
        )
    })
}
