//! The pools, behind one face.

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use bb8_postgres::PostgresConnectionManager;
use deadpool_postgres::{ManagerConfig, RecyclingMethod};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio_postgres::NoTls;
use zhuji_db_pool::{DbConfig, DbPool};

use super::POOL;
use crate::callers::{Calls, call};
use crate::outage::{Callers, Failure};

pub(super) const DEADPOOL: &str = "deadpool-postgres 0.14 Fast";
pub(super) const SQLX: &str = "sqlx 0.9";
pub(super) const BB8: &str = "bb8 0.9";

const SQL: &str = "SELECT 1";

/// A pool.
pub(super) enum Contender {
    Ours(DbPool),
    Deadpool(deadpool_postgres::Pool),
    Sqlx(PgPool),
    Bb8(bb8::Pool<PostgresConnectionManager<NoTls>>),
}

/// All of them, ours first.
pub(super) async fn all(url: &str) -> anyhow::Result<[Contender; 4]> {
    let config = DbConfig {
        pool_size: Some(u32::try_from(POOL)?),
        ..DbConfig::new(url)
    };
    let ours = DbPool::connect(&config).await?;

    let manager = deadpool_postgres::Manager::from_config(
        url.parse()?,
        NoTls,
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let deadpool = deadpool_postgres::Pool::builder(manager).max_size(POOL).build()?;

    let size = u32::try_from(POOL)?;
    let sqlx = PgPoolOptions::new().max_connections(size).connect(url).await?;

    let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
    let bb8 = bb8::Pool::builder().max_size(size).build(manager).await?;
    Ok([
        Contender::Ours(ours),
        Contender::Deadpool(deadpool),
        Contender::Sqlx(sqlx),
        Contender::Bb8(bb8),
    ])
}

impl Contender {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Deadpool(_) => DEADPOOL,
            Self::Sqlx(_) => SQLX,
            Self::Bb8(_) => BB8,
        }
    }

    /// Lets so many callers ask for 1 for so long. No call may fail.
    pub(super) async fn select(&self, callers: usize, duration: Duration) -> anyhow::Result<Calls> {
        let calls = match self {
            Self::Ours(pool) => call(callers, duration, with(pool, ours)).await,
            Self::Deadpool(pool) => call(callers, duration, with(pool, deadpool)).await,
            Self::Sqlx(pool) => call(callers, duration, with(pool, sqlx)).await,
            Self::Bb8(pool) => call(callers, duration, with(pool, bb8)).await,
        };
        calls.with_context(|| format!("{}, {callers} callers", self.name()))
    }

    /// So many callers that go on whatever happens.
    pub(super) fn callers(&self, count: usize) -> Callers {
        match self {
            Self::Ours(pool) => Callers::start(count, with(pool, ours)),
            Self::Deadpool(pool) => Callers::start(count, with(pool, deadpool)),
            Self::Sqlx(pool) => Callers::start(count, with(pool, sqlx)),
            Self::Bb8(pool) => Callers::start(count, with(pool, bb8)),
        }
    }
}

/// A call on this pool.
fn with<P, Fut>(
    pool: &P,
    one: impl Fn(P) -> Fut + Clone + Send + Sync + 'static,
) -> impl Fn() -> Fut + Clone + Send + Sync + 'static
where
    P: Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let pool = pool.clone();
    move || one(pool.clone())
}

async fn ours(pool: DbPool) -> Result<(), Failure> {
    match pool.query_one(SQL, &[]).await {
        Ok(row) => is_one(row.get(0)),
        // What a service answers with 503, and anything else, which it would answer with 500.
        Err(error) if error.is_unavailable() => Err(format!("{:?} (503)", error.kind())),
        Err(error) => Err(format!("{:?} (500)", error.kind())),
    }
}

async fn deadpool(pool: deadpool_postgres::Pool) -> Result<(), Failure> {
    let client = pool.get().await.map_err(|_| "no connection".to_owned())?;
    let row = async {
        let statement = client.prepare_cached(SQL).await?;
        client.query_one(&statement, &[]).await
    };
    let row = row.await.map_err(|error: tokio_postgres::Error| lost(&error))?;
    is_one(row.get(0))
}

async fn sqlx(pool: PgPool) -> Result<(), Failure> {
    match sqlx::query_scalar::<_, i32>(SQL).fetch_one(&pool).await {
        Ok(one) => is_one(one),
        Err(sqlx::Error::PoolTimedOut) => Err("pool timed out".to_owned()),
        Err(sqlx::Error::Io(_)) => Err("no connection or cut off".to_owned()),
        Err(sqlx::Error::Database(error)) => Err(format!("server said {}", error.code().unwrap_or_default())),
        Err(_) => Err("other".to_owned()),
    }
}

async fn bb8(pool: bb8::Pool<PostgresConnectionManager<NoTls>>) -> Result<(), Failure> {
    let client = pool.get().await.map_err(|error| match error {
        bb8::RunError::TimedOut => "pool timed out".to_owned(),
        bb8::RunError::User(_) => "no connection".to_owned(),
    })?;
    let rows = client.query_typed(SQL, &[]).await.map_err(|error| lost(&error))?;
    is_one(rows.first().map_or(0, |row| row.get(0)))
}

fn lost(error: &tokio_postgres::Error) -> Failure {
    match error.code() {
        Some(code) => format!("server said {}", code.code()),
        None => "cut off".to_owned(),
    }
}

fn is_one(one: i32) -> Result<(), Failure> {
    if one == 1 {
        Ok(())
    } else {
        Err(format!("wrong answer {one}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::is_in;

    #[test]
    fn the_names_have_the_versions() {
        for (name, package) in [(DEADPOOL, "deadpool-postgres"), (SQLX, "sqlx"), (BB8, "bb8")] {
            assert!(is_in(name, package), "{name}");
        }
    }
}
