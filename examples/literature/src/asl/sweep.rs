//! Tidies up after processes that died: stored PDFs that no record names, and extractions that nobody works on.
//!
//! An upload stores the object first and names it in the row second, a deletion goes the other way round. So a crash
//! between the two can only ever leave an object without a row - never a row that points at nothing - and finding
//! such objects needs no bookkeeping: list them, and ask which the rows name. Every instance may sweep at any time.

use super::AslConfig;
use futures_util::TryStreamExt;
use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;
use zhuji::jobs::JobId;
use zhuji::{BoxError, Context};

/// Objects looked up in one query.
const BATCH: usize = 500;

/// Sweeps now and then at every interval, until the module stops.
pub(super) async fn run(cx: Context<AslConfig>) {
    loop {
        match sweep(&cx).await {
            Ok(0) => tracing::debug!("no stored PDF is without its record"),
            Ok(removed) => tracing::info!(removed, "removed stored PDFs that no record names"),
            Err(error) => {
                tracing::warn!(error = %error, "the sweep of stored PDFs did not finish; it runs again")
            }
        }
        if let Err(error) = give_up_lost_extractions(&cx).await {
            tracing::warn!(error = %error, "lost extractions could not be looked for; the sweep runs again");
        }
        tokio::time::sleep(cx.config().sweep_interval).await;
    }
}

/// Removes the objects under `pdfs/` that are old enough and that no row names. Answers how many.
async fn sweep(cx: &Context<AslConfig>) -> Result<usize, BoxError> {
    let before = jiff::Timestamp::now() - cx.config().sweep_age;
    let mut removed = 0;
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
    let mut entries = pin!(cx.storage().list_all("pdfs/"));
    loop {
        let entry = entries.try_next().await?;
        let is_last = entry.is_none();
        batch.extend(
            entry
                .filter(|entry| entry.last_modified < before)
                .map(|entry| entry.key),
        );
        if batch.len() == BATCH || (is_last && !batch.is_empty()) {
            removed += remove_unnamed(cx, &batch).await?;
            batch.clear();
        }
        if is_last {
            return Ok(removed);
        }
    }
}

async fn remove_unnamed(cx: &Context<AslConfig>, keys: &[String]) -> Result<usize, BoxError> {
    let prefix = cx.storage().prefix();
    let full: Vec<String> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
    let sql = "select pdf_oss_key from literatures where pdf_oss_key = any($1)";
    let named: HashSet<String> = cx
        .db()
        .query(sql, &[&full])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let unnamed: Vec<&String> = keys
        .iter()
        .zip(&full)
        .filter(|(_, full)| !named.contains(*full))
        .map(|(key, _)| key)
        .collect();
    let mut removed = 0;
    for outcome in cx.storage().delete_many(&unnamed).await {
        outcome?;
        removed += 1;
    }
    Ok(removed)
}

/// A job can end without a word to its record: the database was away at its last attempt. The record then waits for
/// ever, unless somebody looks.
async fn give_up_lost_extractions(cx: &Context<AslConfig>) -> Result<(), BoxError> {
    let age = cx.config().sweep_age.max(Duration::from_secs(1));
    let sql = "select id, pdf_oss_key, extraction_job from literatures
               where extraction_state in ('pending', 'running')
                 and updated_at < now() - make_interval(secs => $1) limit 500";
    for row in cx.db().query(sql, &[&age.as_secs_f64()]).await? {
        let job: Option<String> = row.get(2);
        let job = match job.and_then(|id| id.parse::<JobId>().ok()) {
            Some(id) => cx.jobs().get(id).await?,
            None => None,
        };
        if job.is_some_and(|job| !job.state.is_final()) {
            continue;
        }
        let (record, key): (uuid::Uuid, String) = (row.get(0), row.get(1));
        let update =
            "update literatures set extraction_state = 'failed', extraction_error = $3, updated_at = now()
                      where id = $1 and pdf_oss_key = $2 and extraction_state in ('pending', 'running')";
        let message = "the extraction was given up after several attempts; upload the PDF again";
        cx.db().execute(update, &[&record, &key, &message]).await?;
    }
    Ok(())
}
