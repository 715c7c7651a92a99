use std::time::Duration;

use zhuji_db_pool::{DbPool, Error, ErrorKind, IsolationLevel, TransactionOptions};
use zhuji_testkit::TestDatabase;

use crate::{eventually, pool};

async fn with_table(database: &TestDatabase, size: u32) -> DbPool {
    let pool = pool(database, size).await;
    pool.batch_execute("CREATE TABLE t (a int4 UNIQUE)")
        .await
        .expect("a new database");
    pool
}

async fn count(pool: &DbPool) -> i64 {
    pool.query_one("SELECT count(*) FROM t", &[])
        .await
        .expect("the table is there")
        .get(0)
}

#[tokio::test]
async fn ok_commits_and_err_rolls_back() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 2).await;
    let rows = pool
        .transaction(async |tx| {
            tx.execute("INSERT INTO t VALUES ($1)", &[&1_i32]).await?;
            tx.execute("INSERT INTO t VALUES ($1)", &[&2_i32]).await
        })
        .await
        .unwrap();
    assert_eq!(rows, 1);
    assert_eq!(count(&pool).await, 2);
    let error = pool
        .transaction(async |tx| {
            tx.execute("INSERT INTO t VALUES ($1)", &[&3_i32]).await?;
            tx.execute("INSERT INTO t VALUES ($1)", &[&1_i32]).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UniqueViolation);
    assert_eq!(error.constraint(), Some("t_a_key"));
    assert_eq!(count(&pool).await, 2);
}

/// The future can be spawned and put into a handler, with what it borrows and with an error type of one's own.
#[tokio::test]
async fn a_transaction_is_send_and_may_borrow() {
    #[derive(Debug)]
    struct Mine(#[expect(dead_code)] String);
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self(error.to_string())
        }
    }
    async fn work(pool: &DbPool, numbers: &[i32]) -> Result<usize, Mine> {
        pool.transaction(async |tx| {
            for number in numbers {
                tx.execute("INSERT INTO t VALUES ($1)", &[number]).await?;
            }
            Ok::<_, Mine>(numbers.len())
        })
        .await
    }
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 2).await;
    let inner = pool.clone();
    let done = tokio::spawn(async move { work(&inner, &[1, 2, 3]).await })
        .await
        .unwrap();
    assert_eq!(done.unwrap(), 3);
    let inner = pool.clone();
    let moved = vec![4, 5];
    let boxed: std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> = Box::pin(async move {
        inner
            .transaction(async move |tx| {
                for number in &moved {
                    tx.execute("INSERT INTO t VALUES ($1)", &[number]).await?;
                }
                Ok(())
            })
            .await
    });
    tokio::spawn(boxed).await.unwrap().unwrap();
    assert_eq!(count(&pool).await, 5);
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_open() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 1).await;
    // Between statements, and in the middle of one.
    for statement in ["SELECT 1", "SELECT pg_sleep(60)"] {
        let work = pool.transaction(async |tx| {
            tx.execute("INSERT INTO t VALUES (1)", &[]).await?;
            tx.query(statement, &[]).await?;
            std::future::pending::<()>().await;
            Ok::<_, Error>(())
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(200), work)
                .await
                .is_err()
        );
        assert_eq!(count(&pool).await, 0, "{statement}");
        eventually("no transaction is open", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
            pool.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        assert_eq!(pool.status().in_use, 0);
    }
}

#[tokio::test]
async fn a_panic_rolls_back() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 1).await;
    let inner = pool.clone();
    let task = tokio::spawn(async move {
        inner
            .transaction(async |tx| {
                tx.execute("INSERT INTO t VALUES (1)", &[]).await?;
                if tx.schema().is_none() {
                    panic!("on purpose");
                }
                Ok::<_, Error>(())
            })
            .await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(count(&pool).await, 0);
}

#[tokio::test]
async fn savepoints_undo_a_part() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 1).await;
    pool.transaction(async |tx| {
        tx.execute("INSERT INTO t VALUES (1)", &[]).await?;
        let failed: Result<u64, Error> = tx
            .savepoint(async |tx| tx.execute("INSERT INTO t VALUES (1)", &[]).await)
            .await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::UniqueViolation);
        tx.savepoint(async |tx| tx.execute("INSERT INTO t VALUES (2)", &[]).await)
            .await
    })
    .await
    .unwrap();
    assert_eq!(count(&pool).await, 2);
}

#[tokio::test]
async fn a_serialization_failure_may_be_tried_again() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 2).await;
    pool.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let options = TransactionOptions::default().isolation_level(IsolationLevel::Serializable);
    let mut connection = pool.get().await.unwrap();
    let first = connection.transaction_with(options).await.unwrap();
    first.query("SELECT sum(a) FROM t", &[]).await.unwrap();
    pool.transaction_with(options, async |tx| {
        tx.query("SELECT sum(a) FROM t", &[]).await?;
        tx.execute("INSERT INTO t VALUES (2)", &[]).await
    })
    .await
    .unwrap();
    let inserted = first.execute("INSERT INTO t VALUES (3)", &[]).await;
    let error = match inserted {
        Ok(_) => first.commit().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Serialization);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn one_transaction_may_take_longer_than_the_others() {
    let database = TestDatabase::new().await;
    let config = zhuji_db_pool::DbConfig {
        statement_timeout: Duration::from_millis(200),
        ..crate::config(&database, 1)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    pool.transaction(async |tx| {
        tx.set_statement_timeout(Duration::from_secs(5)).await?;
        tx.query("SELECT pg_sleep(0.5)", &[]).await.map(drop)
    })
    .await
    .unwrap();
    assert!(
        pool.query("SELECT pg_sleep(0.5)", &[]).await.is_err(),
        "the setting ended with it"
    );
}
