use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::adapter::Fence;
use crate::meters;
use crate::record::Progress;

const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Notes how far the jobs are, when there is news: the first at once, what follows together.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.news.notified().await;
        let progress: Vec<(Fence, Progress)> = shared
            .running()
            .iter()
            .filter_map(|(fence, running)| Some((*fence, running.notes.take_progress()?)))
            .collect();
        if !progress.is_empty()
            && let Err(error) = shared.adapter().progress(&progress).await
        {
            // A courtesy: the next one will tell.
            meters::store_error("progress");
            tracing::debug!(module = shared.queue, %error, "progress can't be stored");
        }
        tokio::time::sleep(AT_MOST_EVERY).await;
    }
}
