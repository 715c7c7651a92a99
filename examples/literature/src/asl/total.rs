//! How many records a query finds: a look at every record, so it is remembered for a while.
//!
//! With a cache that all instances share (`CACHE_TYPE=redis` or `tiered`) a change shows in every instance's totals at
//! once. With `CACHE_TYPE=memory` an instance only knows of its own changes: behind several instances a total can be up to
//! a minute old.

use super::Asl;
use std::time::Duration;
use zhuji::db;
use zhuji::http::HttpResult;

/// A counter that every change of the records moves, as far as the cache reaches; a total belongs to the edition it was
/// counted in.
const EDITION: &str = "edition";
/// Far longer than a total, so that no total outlives the counter it belongs to.
const EDITION_TTL: Duration = Duration::from_secs(86_400);
const TOTAL_TTL: Duration = Duration::from_secs(60);
/// A longer list of words is counted every time rather than made into a key.
const MAX_KEY_BYTES: usize = 256;

impl Asl {
    /// How many records match all `patterns`.
    pub(super) async fn total(&self, patterns: &[String]) -> HttpResult<i64> {
        let words = patterns.join("\n");
        // Without the counter nobody knows whether a remembered total still holds.
        let edition = match self.cx.cache().increment(EDITION, 0, EDITION_TTL).await {
            Ok(edition) if words.len() <= MAX_KEY_BYTES => edition,
            _ => return Ok(self.count(patterns).await?),
        };
        let key = format!("total:{edition}:{words}");
        let total = self
            .cx
            .cache()
            .get_or_load(&key, TOTAL_TTL, || self.count(patterns))
            .await;
        Ok(total.map_err(|error| db::Error::clone(&error))?)
    }

    async fn count(&self, patterns: &[String]) -> db::Result<i64> {
        let sql = "select count(*) from literatures where search_text like all($1)";
        Ok(self.cx.db().query_one(sql, &[&patterns]).await?.get(0))
    }

    /// Called after every commit that adds or removes records, so that no total from before is shown by any instance that
    /// shares this cache.
    pub(super) async fn records_changed(&self) {
        if let Err(error) = self.cx.cache().increment(EDITION, 1, EDITION_TTL).await {
            tracing::warn!(%error, "totals may be out of date for up to a minute");
        }
    }
}
