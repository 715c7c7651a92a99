use std::time::Duration;

use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_testkit::TestDatabase;

use crate::monitor::capture;
use crate::{config, eventually};

#[tokio::test]
async fn slow_statements_are_logged_without_their_values() {
    let (captured, _guard) = capture();
    let database = TestDatabase::new().await;
    let config = DbConfig {
        slow_query: Duration::from_millis(100),
        ..config(&database, 1)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let asl = pool.scoped("asl");
    let sql = "SELECT pg_sleep(0.15), 'hunter2' AS a FROM generate_series(1, 2) WHERE $1::text <> ''";
    asl.query(sql, &[&"hunter3"]).await.unwrap();
    asl.query("SELECT 'quick'", &[]).await.unwrap();
    let log = captured.text();
    let line = log
        .lines()
        .find(|line| line.contains("slow statement"))
        .expect("logged");
    for part in [
        "fingerprint=",
        "SELECT pg_sleep(?), ? AS a FROM generate_series(?) WHERE $1::text <> ?",
        "duration_ms=",
        "rows=2",
        "module=\"asl\"",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let ours: String = log
        .lines()
        .filter(|line| line.contains("zhuji_db_pool"))
        .collect();
    assert!(!ours.contains("hunter") && !ours.contains("quick"), "{ours}");
}

#[tokio::test]
async fn whoever_holds_a_connection_for_long_is_named() {
    let (captured, _guard) = capture();
    let database = TestDatabase::new().await;
    let config = DbConfig {
        leak_after: Duration::from_millis(200),
        ..config(&database, 3)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let line = line!() + 1;
    let held = pool.scoped("asl").get().await.unwrap();
    let _session = pool.session().await.unwrap();
    eventually("the warning", async || captured.text().contains("held for long")).await;
    // Once each, and sessions are meant to be held.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let log = captured.text();
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("held for long"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("slow.rs:{line}:")), "{warnings:?}");
    assert!(warnings[0].contains("asl"), "{warnings:?}");
    let report = pool.drain(Duration::ZERO).await;
    assert!(
        report
            .leftovers
            .iter()
            .any(|left| left.taken_at.contains(&format!("slow.rs:{line}:")))
    );
    drop(held);
}
