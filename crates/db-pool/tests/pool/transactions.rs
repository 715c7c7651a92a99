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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serialization_failures_are_run_again_until_all_went_through() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 4).await;
    pool.batch_execute("CREATE TABLE counter (n int4); INSERT INTO counter VALUES (0)")
        .await
        .unwrap();
    let options = TransactionOptions::default()
        .isolation_level(IsolationLevel::Serializable)
        .retries(50);
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (pool, tries) = (pool.clone(), std::sync::Arc::clone(&tries));
            tokio::spawn(async move {
                for _ in 0..5 {
                    // The error is made into another on the way: that it was a conflict is known all the same.
                    let tries = std::sync::Arc::clone(&tries);
                    pool.transaction_with(options, async move |tx| {
                        tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let row = tx
                            .query_one("SELECT n FROM counter", &[])
                            .await
                            .map_err(Told::from)?;
                        tx.execute("UPDATE counter SET n = $1", &[&(row.get::<_, i32>(0) + 1)])
                            .await
                            .map_err(Told::from)
                    })
                    .await?;
                }
                Ok::<_, Told>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let row = pool.query_one("SELECT n FROM counter", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 40);
    assert!(
        tries.load(std::sync::atomic::Ordering::Relaxed) > 40,
        "somebody met somebody"
    );
}

#[derive(Debug)]
struct Told(#[expect(dead_code, reason = "for the output of a failing test")] String);

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_run_again() {
    let database = TestDatabase::new().await;
    let pool = with_table(&database, 4).await;
    pool.batch_execute("CREATE TABLE pair (id int4, n int4); INSERT INTO pair VALUES (1, 0), (2, 0)")
        .await
        .unwrap();
    let met = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let side = |first: i32, second: i32| {
        let (pool, met) = (pool.clone(), std::sync::Arc::clone(&met));
        tokio::spawn(async move {
            let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
            let counted = std::sync::Arc::clone(&tries);
            pool.transaction_with(TransactionOptions::default(), async move |tx| {
                let add = "UPDATE pair SET n = n + 1 WHERE id = $1";
                tx.execute(add, &[&first]).await?;
                if counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                    // Both hold their first row now.
                    met.wait().await;
                }
                tx.execute(add, &[&second]).await
            })
            .await
            .map(|_| tries.load(std::sync::atomic::Ordering::Relaxed))
        })
    };
    let (one, two) = (side(1, 2), side(2, 1));
    let tries = one.await.unwrap().unwrap() + two.await.unwrap().unwrap();
    assert_eq!(tries, 3, "one of them twice");
    let sum: i64 = pool
        .query_one("SELECT sum(n) FROM pair", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(sum, 4);
    // No more often than it was told to.
    let error = pool
        .transaction_with(TransactionOptions::default().retries(2), async |tx| {
            tx.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$", &[])
                .await
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization);
}
