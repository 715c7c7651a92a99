//! What was used of today's budget.

use crate::Aia;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use zhuji::axum::Json;
use zhuji::axum::extract::State;
use zhuji::db;
use zhuji::http::HttpResult;

/// Pages may ask as often as they like.
const TTL: Duration = Duration::from_secs(2);

/// Today's account, in tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Today {
    /// In UTC.
    day: String,
    prompt_tokens: i64,
    completion_tokens: i64,
    /// Set aside for answers that are being written.
    reserved: i64,
    budget: i64,
    answers: i64,
    resets_at: Timestamp,
}

/// `GET /usage`: up to two seconds old.
pub(crate) async fn today(State(aia): State<Arc<Aia>>) -> HttpResult<Json<Today>> {
    let today = aia.cx.cache().get_or_load("usage", TTL, || aia.count()).await;
    Ok(Json(today.map_err(|error| db::Error::clone(&error))?))
}

impl Aia {
    async fn count(&self) -> db::Result<Today> {
        let sql = "select today.day::text, coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0),
                          coalesce(tokens_reserved, 0), coalesce(answers, 0),
                          (today.day + 1)::timestamp at time zone 'utc'
                   from (select (now() at time zone 'utc')::date as day) as today
                   left join token_days using (day)";
        let row = self.cx.db().query_one(sql, &[]).await?;
        Ok(Today {
            day: row.get(0),
            prompt_tokens: row.get(1),
            completion_tokens: row.get(2),
            reserved: row.get(3),
            answers: row.get(4),
            resets_at: row.get(5),
            budget: self.cx.config().day_tokens.into(),
        })
    }
}
