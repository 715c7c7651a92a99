//! Many uploads, a few at a time.

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::{Result, Storage, Stored};

/// A sliding window, not batches: one slow object never holds up more than its own slot.
pub(crate) async fn upload_many(
    storage: &Storage,
    files: Vec<(String, Bytes)>,
    in_flight: usize,
) -> Vec<Result<Stored>> {
    let mut results: Vec<Option<Result<Stored>>> = Vec::with_capacity(files.len());
    results.resize_with(files.len(), || None);
    let mut window = stream::iter(files.into_iter().enumerate())
        .map(|(index, (key, bytes))| async move { (index, storage.upload(&key, bytes).await) })
        .buffer_unordered(in_flight.max(1));
    while let Some((index, result)) = window.next().await {
        results[index] = Some(result);
    }
    // The window yields each index exactly once.
    results.into_iter().flatten().collect()
}
