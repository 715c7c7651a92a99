use std::time::Duration;

use zhuji_config::Secret;
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind};
use zhuji_testkit::TestDatabase;

use crate::{config, eventually, pool};

#[tokio::test]
async fn a_session_is_its_callers_alone_and_closed_at_its_end() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 2).await;
    let session = pool.session().await.unwrap();
    session.execute("SET work_mem = '77MB'", &[]).await.unwrap();
    session
        .batch_execute("CREATE TEMP TABLE t (a int4)")
        .await
        .unwrap();
    assert_eq!(pool.status().in_use, 1);
    let row = session
        .query_one("SELECT current_setting('work_mem')", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "77MB");
    let pid: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    drop(session);
    eventually("its connection is closed", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        pool.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert_eq!(pool.status().in_use, 0);
}

#[tokio::test]
async fn an_advisory_lock_is_free_again_however_its_holder_ends() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 6).await;
    let asl = pool.scoped("asl");
    let lock = asl.advisory_lock("import").await.unwrap();
    assert!(lock.is_held());
    assert!(asl.try_advisory_lock("import").await.unwrap().is_none());
    let other = pool.scoped("bbs").try_advisory_lock("import").await.unwrap();
    assert!(other.is_some(), "another module's lock is another one");
    drop(other);

    // Given up while waiting: the wait ends on the server as well.
    let waiting = tokio::time::timeout(Duration::from_millis(300), asl.advisory_lock("import"));
    assert!(waiting.await.is_err());
    eventually("nobody waits for it", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        pool.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;

    // The holder's task is aborted.
    let holder = tokio::spawn(async move {
        let _lock = lock;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    holder.abort();
    let lock = asl.advisory_lock("import").await.unwrap();
    lock.release().await.unwrap();
    let lock = asl.try_advisory_lock("import").await.unwrap().expect("released");

    // The connection is killed: the lock is lost, and its holder can see that.
    database
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await;
    eventually("the loss is seen", async || !lock.is_held()).await;
}

#[tokio::test]
async fn waiting_for_a_lock_has_an_end() {
    let database = TestDatabase::new().await;
    let config = DbConfig {
        statement_timeout: Duration::from_millis(300),
        ..config(&database, 4)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let _lock = pool.advisory_lock("x").await.unwrap();
    let error = pool.advisory_lock("x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockNotAvailable, "{error}");
}

#[tokio::test]
async fn with_a_pooler_in_front_sessions_go_past_it_and_without_a_direct_url_they_are_refused() {
    let database = TestDatabase::new().await;
    let pooled = Secret::new(format!("{}?application_name=pooled", database.url()));
    let config = DbConfig {
        pooled_url: Some(pooled.clone()),
        pool_size: Some(1),
        ..DbConfig::new(database.url())
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let session = pool.session().await.unwrap();
    session.execute("SET work_mem = '77MB'", &[]).await.unwrap();
    let row = session
        .query_one("SELECT current_setting('work_mem')", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "77MB");
    assert_eq!(
        pool.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0),
        1,
        "the pool of one is free"
    );

    let only_pooled = DbConfig {
        url: None,
        pooled_url: Some(pooled),
        ..DbConfig::default()
    };
    let pool = DbPool::connect(&only_pooled).await.unwrap();
    // Known to be a pooler only when a direct address stands beside it, or nothing does.
    assert!(pool.is_pooled());
    for error in [
        pool.session().await.map(drop).unwrap_err(),
        pool.advisory_lock("x").await.map(drop).unwrap_err(),
        pool.listen(&["x"]).await.map(drop).unwrap_err(),
        pool.migrate("asl", &[]).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}
