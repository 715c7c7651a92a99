use std::time::{Duration, Instant};

use zhuji_db_pool::{DbConfig, DbPool, ErrorKind};
use zhuji_health::Outcome;
use zhuji_testkit::{TestDatabase, TestPostgres};

use crate::{config, eventually, pool};

#[tokio::test]
async fn saturated_is_not_down_and_down_is_not_saturated() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 2)).await.unwrap();
    let check = pool.health_check();
    assert_eq!((check.name(), check.critical()), ("database", true));
    assert_eq!(check.run().await, Outcome::Up);

    let held = tokio::join!(pool.get(), pool.get());
    let started = Instant::now();
    assert_eq!(check.run().await, Outcome::degraded("pool saturated"));
    assert!(
        started.elapsed() < Duration::from_millis(750),
        "within the monitor's timeout"
    );
    // Saturated looks the same while the server is gone; the check looks at the server.
    server.stop_immediate().await;
    let started = Instant::now();
    assert!(matches!(check.run().await, Outcome::Down(_)));
    assert!(started.elapsed() < Duration::from_millis(750));
    drop(held);
    assert_eq!(check.run().await, Outcome::down("unreachable"));

    server.restart().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(check.run().await, Outcome::Up);
    pool.drain(Duration::from_secs(1)).await;
    assert_eq!(check.run().await, Outcome::down("pool closed"));
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let server = TestPostgres::options().scram().start().await;
    let database = server.database().await;
    let good = DbPool::connect(&config(&database, 1)).await;
    assert!(good.is_ok());
    let url = database.url().replace("test-password", "wrong");
    let config = DbConfig {
        pool_size: Some(1),
        ..DbConfig::new(url)
    };
    let started = Instant::now();
    let error = DbPool::connect(&config).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "no use in waiting");
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(error.to_string().contains("check user, password"), "{error}");
    let pool = DbPool::new(&config).unwrap();
    // The refusal itself may take longer than a check waits; the next check knows it.
    let check = pool.health_check();
    eventually("the cause is named", async || {
        check.run().await == Outcome::down("auth")
    })
    .await;
}

#[tokio::test]
async fn draining_waits_for_those_who_hold_a_connection() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 2).await;
    let connection = pool.get().await.unwrap();
    let worker = tokio::spawn(async move {
        connection.query("SELECT pg_sleep(0.3)", &[]).await.unwrap();
    });
    let held = pool.scoped("asl").get().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;

    let report = pool.drain(Duration::from_millis(600)).await;
    worker.await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(!report.is_clean());
    assert_eq!((report.returned, report.leftovers.len()), (1, 1));
    assert_eq!(report.leftovers[0].schema.as_deref(), Some("asl"));
    assert!(report.leftovers[0].held >= Duration::from_millis(500));
    assert_eq!(pool.get().await.unwrap_err().kind(), ErrorKind::Closed);

    drop(held);
    let report = pool.drain(Duration::from_secs(1)).await;
    assert!(report.is_clean() && report.waited < Duration::from_millis(500));
}
