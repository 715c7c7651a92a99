//! The pool against a real PostgreSQL.

mod acquire;
mod adaptive;
mod copy;
mod health;
mod metrics;
mod monitor;
mod outage;
mod peers;
mod pooled;
mod replica;
mod roles;
mod scope;
mod secrets;
mod session;
mod slow;
mod transactions;

use std::time::Duration;

use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_testkit::TestDatabase;

/// A pool of this size on the database.
async fn pool(database: &TestDatabase, size: u32) -> DbPool {
    DbPool::connect(&config(database, size))
        .await
        .expect("the test server answers")
}

fn config(database: &TestDatabase, size: u32) -> DbConfig {
    DbConfig {
        pool_size: Some(size),
        ..DbConfig::new(database.url())
    }
}

/// Waits until `condition` holds, at most five seconds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..250 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("did not happen within five seconds: {what}");
}
