//! Tidies up after processes that died: answers that nobody writes any more, uploads that nobody completed, deletions that
//! nobody finished, and readings whose job has ended without a word.
//!
//! Every object has a row from before it is stored until after it is removed, so nothing has to be looked for in the store,
//! and nothing that another database knows can be removed. Every instance may sweep at any time.

use crate::config::AiaConfig;
use crate::ledger;
use std::time::Duration;
use uuid::Uuid;
use zhuji::jobs::JobId;
use zhuji::{BoxError, Context};

/// Longer than any upload takes.
const UPLOAD_LOST_AFTER: Duration = Duration::from_secs(86_400);
/// A deletion takes seconds.
const DELETION_LOST_AFTER: Duration = Duration::from_secs(60);
/// How long a reading may stand without its job having ended before it is looked into.
const READING_LOST_AFTER: Duration = Duration::from_secs(15 * 60);

/// Sweeps at every interval, until the module stops.
pub(crate) async fn run(cx: Context<AiaConfig>) {
    loop {
        // Up to a tenth longer, so that instances that were started together do not sweep together.
        let interval = cx.config().sweep_interval;
        tokio::time::sleep(interval + interval.mul_f64(0.1 * fastrand::f64())).await;
        match ledger::give_up_lost(cx.db()).await {
            Ok(0) => {}
            Ok(answers) => tracing::info!(answers, "gave up answers whose process died"),
            Err(error) => {
                tracing::warn!(%error, "lost answers could not be looked for; the sweep runs again")
            }
        }
        if let Err(error) = finish_removals(&cx).await {
            tracing::warn!(error = %error, "the sweep of documents did not finish; it runs again");
        }
        if let Err(error) = give_up_lost_readings(&cx).await {
            tracing::warn!(error = %error, "lost readings could not be looked for; the sweep runs again");
        }
    }
}

/// Removes a document that nothing refers to any more: its object first, then its row.
pub(crate) async fn remove(cx: &Context<AiaConfig>, document: Uuid, key: &str) -> Result<(), BoxError> {
    cx.storage().delete(key).await?;
    let delete = "delete from documents where id = $1 and state in ('uploading', 'deleting')";
    cx.db().execute(delete, &[&document]).await?;
    Ok(())
}

async fn finish_removals(cx: &Context<AiaConfig>) -> Result<(), BoxError> {
    let sql = "select id, storage_key from documents
               where (state = 'deleting' and updated_at < now() - make_interval(secs => $1))
                  or (state = 'uploading' and updated_at < now() - make_interval(secs => $2)) limit 500";
    let (deletion, upload) = (DELETION_LOST_AFTER.as_secs_f64(), UPLOAD_LOST_AFTER.as_secs_f64());
    for row in cx.db().query(sql, &[&deletion, &upload]).await? {
        let (document, key): (Uuid, String) = (row.get(0), row.get(1));
        // One that can't be removed must not keep the others.
        match remove(cx, document, &key).await {
            Ok(()) => tracing::info!(%document, "removed what was left of a document"),
            Err(error) => {
                tracing::warn!(%document, error = %error, "what is left of a document could not be removed")
            }
        }
    }
    Ok(())
}

/// A job can end without a word to its document: the database was away at its last attempt.
async fn give_up_lost_readings(cx: &Context<AiaConfig>) -> Result<(), BoxError> {
    let sql = "select id, job from documents where state in ('pending', 'running')
                 and updated_at < now() - make_interval(secs => $1) limit 500";
    for row in cx.db().query(sql, &[&READING_LOST_AFTER.as_secs_f64()]).await? {
        let (document, job): (Uuid, Option<String>) = (row.get(0), row.get(1));
        let job = match job.and_then(|id| id.parse::<JobId>().ok()) {
            Some(id) => cx.jobs().get(id).await?,
            None => None,
        };
        if job.is_some_and(|job| !job.state.is_final()) {
            continue;
        }
        let update = "update documents set state = 'failed', error = $2, updated_at = now()
                      where id = $1 and state in ('pending', 'running')";
        let message = "Reading was given up after several attempts. Upload the document again.";
        cx.db().execute(update, &[&document, &message]).await?;
    }
    Ok(())
}
