//! Tidies up after processes that died: stored PDFs that no record names, and extractions that nobody works on.
//!
//! An upload stores the object first and names it in the row second, a deletion goes the other way round. So a crash
//! between the two can only ever leave an object without a row - never a row that points at nothing - and finding
//! such objects needs no bookkeeping: list them, and ask which the rows name. Every instance may sweep at any time.
//!
//! What no row names is not always waste: the database can be the wrong one, or an old copy. Hence the store must
//! [belong](super::owner) to the database, objects must be a day old, and a run that would remove a large part of the
//! store removes nothing.

use super::{AslConfig, owner};
use futures_util::TryStreamExt;
use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;
use uuid::Uuid;
use zhuji::jobs::JobId;
use zhuji::storage::Storage;
use zhuji::{BoxError, Context};

/// Where the PDFs are.
pub(super) const FOLDER: &str = "pdfs/";
/// Objects looked up, or removed, at once.
const BATCH: usize = 500;
/// A run holds at most so many keys in memory; the next run takes the rest.
const MAX_PER_RUN: usize = 20_000;
/// More objects than this, and more than [`MAX_SHARE`] of those looked at, are no waste but a mistake.
const MAX_REMOVED: usize = 100;
const MAX_SHARE: f64 = 0.1;
/// How long an extraction may stand without its job having ended before it is looked into.
const LOST_AFTER: Duration = Duration::from_secs(15 * 60);

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Swept {
    removed: usize,
    /// Those that could not be removed.
    failed: usize,
}

/// Sweeps at every interval, until the module stops. Not at the start: whoever has just started the service with wrong
/// settings has a while to notice.
pub(super) async fn run(cx: Context<AslConfig>) {
    // A new store gets its marker before anybody uploads; whatever is wrong is said at the start.
    may_remove(&cx).await;
    loop {
        tokio::time::sleep(with_jitter(cx.config().sweep_interval)).await;
        if may_remove(&cx).await {
            match sweep(&cx).await {
                Ok(Swept {
                    removed: 0,
                    failed: 0,
                }) => tracing::debug!("no stored PDF is without its record"),
                Ok(Swept { removed, failed }) => {
                    tracing::info!(removed, failed, "removed stored PDFs that no record names");
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the sweep of stored PDFs did not finish; it runs again");
                }
            }
        }
        if let Err(error) = give_up_lost_extractions(&cx).await {
            tracing::warn!(error = %error, "lost extractions could not be looked for; the sweep runs again");
        }
    }
}

/// Up to a tenth longer, so that instances that were started together do not sweep together.
fn with_jitter(interval: Duration) -> Duration {
    let [.., random] = Uuid::new_v4().into_bytes();
    interval.saturating_add(interval.mul_f64(f64::from(random) / 2560.0))
}

/// Whether the store belongs to the database. If it does not, the log says what to do.
async fn may_remove(cx: &Context<AslConfig>) -> bool {
    match owner::tie(cx).await {
        Ok(Ok(())) => true,
        Ok(Err(not_ours)) => {
            tracing::error!("{not_ours}");
            false
        }
        Err(error) => {
            tracing::warn!(error = %error, "nobody can say whether the store belongs to this database; asked again later");
            false
        }
    }
}

/// Removes the PDFs that are old enough and that no row names.
async fn sweep(cx: &Context<AslConfig>) -> Result<Swept, BoxError> {
    let before = jiff::Timestamp::now()
        .checked_sub(cx.config().sweep_age)
        .unwrap_or(jiff::Timestamp::MIN);
    let (mut seen, mut found) = (0, Vec::new());
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
    let mut entries = pin!(cx.storage().list_all(FOLDER));
    loop {
        let entry = entries.try_next().await?;
        let is_last = entry.is_none();
        seen += usize::from(!is_last);
        // Whatever has another ending was not put here by an upload: a console's folder marker, somebody's notes.
        batch.extend(
            entry
                .filter(|entry| entry.last_modified < before && entry.key.ends_with(".pdf"))
                .map(|entry| entry.key),
        );
        if batch.len() == BATCH || is_last {
            found.extend(unnamed(cx, std::mem::take(&mut batch)).await?);
        }
        if is_last || found.len() >= MAX_PER_RUN {
            break;
        }
    }
    if is_too_much(found.len(), seen) {
        tracing::error!(
            unnamed = found.len(),
            seen,
            "no record names {} of {seen} stored PDFs, which is too many to be what crashes left: nothing is removed; \
             check that DATABASE_URL names the right database and that it is not an old copy",
            found.len()
        );
        return Ok(Swept::default());
    }
    let mut swept = Swept::default();
    for keys in found.chunks(BATCH) {
        // Asked once more: the listing may have taken an hour.
        let keys = unnamed(cx, keys.to_vec()).await?;
        let done = remove(cx.storage(), &keys).await;
        swept.removed += done.removed;
        swept.failed += done.failed;
    }
    Ok(swept)
}

/// Whether so many unnamed objects speak of a wrong database rather than of crashes.
#[allow(clippy::cast_precision_loss, reason = "a share needs no last digit")]
fn is_too_much(unnamed: usize, seen: usize) -> bool {
    unnamed > MAX_REMOVED && unnamed as f64 > MAX_SHARE * seen as f64
}

/// Those of the keys that no row names.
pub(super) async fn unnamed(cx: &Context<AslConfig>, keys: Vec<String>) -> Result<Vec<String>, BoxError> {
    if keys.is_empty() {
        return Ok(keys);
    }
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
    Ok(keys
        .into_iter()
        .zip(&full)
        .filter(|(_, full)| !named.contains(*full))
        .map(|(key, _)| key)
        .collect())
}

/// Removes what can be removed: one key that cannot must not keep the others.
async fn remove(storage: &Storage, keys: &[String]) -> Swept {
    let mut swept = Swept::default();
    for (key, outcome) in keys.iter().zip(storage.delete_many(keys).await) {
        match outcome {
            Ok(()) => swept.removed += 1,
            Err(error) => {
                swept.failed += 1;
                tracing::warn!(key, error = %error, "a stored PDF that no record names could not be removed");
            }
        }
    }
    swept
}

/// A job can end without a word to its record: the database was away at its last attempt. The record then waits for
/// ever, unless somebody looks.
async fn give_up_lost_extractions(cx: &Context<AslConfig>) -> Result<(), BoxError> {
    let sql = "select id, pdf_oss_key, extraction_job from literatures
               where extraction_state in ('pending', 'running')
                 and updated_at < now() - make_interval(secs => $1) limit 500";
    for row in cx.db().query(sql, &[&LOST_AFTER.as_secs_f64()]).await? {
        let job: Option<String> = row.get(2);
        let job = match job.and_then(|id| id.parse::<JobId>().ok()) {
            Some(id) => cx.jobs().get(id).await?,
            None => None,
        };
        if job.is_some_and(|job| !job.state.is_final()) {
            continue;
        }
        let (record, key): (Uuid, String) = (row.get(0), row.get(1));
        let update =
            "update literatures set extraction_state = 'failed', extraction_error = $3, updated_at = now()
                      where id = $1 and pdf_oss_key = $2 and extraction_state in ('pending', 'running')";
        let message = "the extraction was given up after several attempts; upload the PDF again";
        cx.db().execute(update, &[&record, &key, &message]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_cannot_be_removed_keeps_no_other() {
        let storage = Storage::memory().scoped("asl");
        for key in ["pdfs/a.pdf", "pdfs/b.pdf", "pdfs/kept.pdf"] {
            storage.upload(key, "x").await.expect("memory takes it");
        }
        // The second is a name that another program may give an object and that no key of ours can have.
        let keys = ["pdfs/a.pdf", "pdfs//x.pdf", "pdfs/b.pdf"].map(str::to_owned);
        let swept = remove(&storage, &keys).await;
        let expected = Swept {
            removed: 2,
            failed: 1,
        };
        assert_eq!(swept, expected);
        assert!(!storage.exists("pdfs/b.pdf").await.expect("memory answers"));
        assert!(storage.exists("pdfs/kept.pdf").await.expect("memory answers"));
    }

    #[test]
    fn a_large_part_of_the_store_is_never_removed() {
        assert!(!is_too_much(100, 100));
        assert!(is_too_much(101, 101));
        assert!(is_too_much(101, 1_009));
        assert!(!is_too_much(101, 1_010));
    }

    #[test]
    fn jitter_only_adds_a_little() {
        for seconds in [1, 3_600, 3_650 * 86_400] {
            let interval = Duration::from_secs(seconds);
            let jittered = with_jitter(interval);
            assert!(
                jittered >= interval && jittered <= interval.mul_f64(1.1),
                "{jittered:?}"
            );
        }
    }
}
