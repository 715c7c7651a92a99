use std::time::{Duration, Instant};

use zhuji_config::Secret;
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_testkit::{TestPostgres, free_port};

use crate::{config, eventually};

/// Two servers: what is read says from which.
async fn two() -> (TestPostgres, TestPostgres) {
    let (primary, replica) = (TestPostgres::start_own().await, TestPostgres::start_own().await);
    for (server, name) in [(&primary, "primary"), (&replica, "replica")] {
        let pool = DbPool::connect(&DbConfig::new(server.url()))
            .await
            .expect("the test server answers");
        pool.batch_execute(&format!(
            "SET synchronous_commit = on; CREATE TABLE me AS SELECT '{name}'::text AS name"
        ))
        .await
        .expect("the test server answers");
    }
    (primary, replica)
}

async fn who(pool: &DbPool) -> String {
    pool.query_one("SELECT name FROM me", &[])
        .await
        .expect("the test server answers")
        .get(0)
}

#[tokio::test]
async fn readers_go_to_the_replica_and_to_the_primary_while_it_is_away() {
    let (primary, replica) = two().await;
    let config = DbConfig {
        replica_url: Some(Secret::new(replica.url())),
        pool_size: Some(2),
        ..DbConfig::new(primary.url())
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let readers = pool.read_only();
    assert_eq!(
        (who(&pool).await, who(&readers).await),
        ("primary".into(), "replica".into())
    );
    assert!(!pool.get().await.unwrap().is_replica().await.unwrap());
    assert_eq!(
        pool.replica_lag().await.unwrap(),
        None,
        "it does not replay anything"
    );

    replica.stop_immediate().await;
    // A statement under way may be lost with the server; none waits for it.
    let started = Instant::now();
    eventually("the primary answers", async || {
        readers
            .query_one("SELECT name FROM me", &[])
            .await
            .is_ok_and(|row| row.get::<_, &str>(0) == "primary")
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    for _ in 0..20 {
        assert_eq!(who(&readers).await, "primary");
    }
    let error = readers
        .execute("INSERT INTO me VALUES ('x')", &[])
        .await
        .unwrap_err();
    assert_eq!(
        error.sql_state().map(|code| code.code()),
        Some("25006"),
        "{error}"
    );
    replica.restart().await;
    eventually("the replica is found again", async || {
        who(&readers).await == "replica"
    })
    .await;
    assert_eq!(who(&pool).await, "primary");
    pool.execute("INSERT INTO me VALUES ('y')", &[]).await.unwrap();
}

#[tokio::test]
async fn without_a_replica_readers_read_the_primary_and_cannot_write() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    // One connection, which serves both kinds in turn.
    let pool = DbPool::connect(&config(&database, 1)).await.unwrap();
    pool.batch_execute("CREATE TABLE me AS SELECT 'primary'::text AS name")
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(who(&pool.read_only()).await, "primary");
        let insert = "INSERT INTO me VALUES ('x')";
        let refused = pool.read_only().execute(insert, &[]).await.unwrap_err();
        assert_eq!(
            refused.sql_state().map(|code| code.code()),
            Some("25006"),
            "{refused}"
        );
        let refused = pool
            .read_only()
            .scoped("public")
            .transaction(async |tx| tx.execute(insert, &[]).await)
            .await;
        assert!(refused.is_err());
        pool.execute("UPDATE me SET name = 'primary'", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_never_was_there_costs_little() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let nowhere = format!(
        "postgres://u:hunter2@127.0.0.1:{}/db?sslmode=disable",
        free_port()
    );
    let config = DbConfig {
        replica_url: Some(Secret::new(nowhere)),
        ..config(&database, 2)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let readers = pool.read_only();
    let started = Instant::now();
    for _ in 0..200 {
        readers.query_one("SELECT 1", &[]).await.unwrap();
    }
    // Half a second each would be a hundred.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let text = format!("{readers:?} {:?}", pool.replica_lag().await.unwrap_err());
    assert!(!text.contains("hunter2"), "{text}");
}
