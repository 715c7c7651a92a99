use std::time::Duration;

use zhuji_config::Secret;
use zhuji_db_pool::{DbConfig, DbPool, Error, ErrorKind};
use zhuji_testkit::TestDatabase;

use crate::{eventually, pool};

const TABLE: &str = "CREATE TABLE items (id int4 PRIMARY KEY, \"Title\" text, at timestamptz DEFAULT now())";

async fn count(pool: &DbPool) -> i64 {
    pool.query_one("SELECT count(*) FROM items", &[])
        .await
        .expect("the test server answers")
        .get(0)
}

async fn fill(pool: &DbPool, ids: std::ops::Range<i32>) -> Result<u64, Error> {
    pool.copy_in("items", &["id", "Title"], async |copy| {
        for id in ids {
            let title = (id % 10 != 0).then(|| format!("文献 \t{id}\\"));
            copy.row(&[&id, &title]).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn many_rows_go_in_at_once_or_not_at_all() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 1).await;
    pool.batch_execute(TABLE).await.unwrap();
    assert_eq!(fill(&pool, 0..50_000).await.unwrap(), 50_000);
    let row = pool
        .query_one("SELECT \"Title\" FROM items WHERE id = 7", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "文献 \t7\\");
    let error = fill(&pool, 49_999..60_000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UniqueViolation, "{error}");
    assert_eq!(count(&pool).await, 50_000);

    let wrong = pool
        .copy_in("items", &["id"], async |copy| copy.row(&[&"seven"]).await)
        .await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Conversion);
    let few = pool
        .copy_in("items", &["id", "Title"], async |copy| copy.row(&[&1_i32]).await)
        .await;
    assert_eq!(few.unwrap_err().kind(), ErrorKind::Conversion);
    let none = pool
        .copy_in("nowhere", &["id"], async |_| Ok::<_, Error>(()))
        .await;
    assert_eq!(
        none.unwrap_err().sql_state().map(|code| code.code()),
        Some("42P01")
    );
    assert_eq!((count(&pool).await, pool.status().in_use), (50_000, 0));
}

#[tokio::test]
async fn given_up_half_way_it_leaves_nothing() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 1).await;
    pool.batch_execute(TABLE).await.unwrap();
    let stuck = pool.copy_in("items", &["id", "Title"], async |copy| {
        for id in 0..5000 {
            copy.row(&[&id, &"x"]).await?;
        }
        std::future::pending::<Result<(), Error>>().await
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(300), stuck)
            .await
            .is_err()
    );
    eventually("the connection is back", async || pool.status().in_use == 0).await;
    assert_eq!(count(&pool).await, 0);
    assert_eq!(fill(&pool, 0..10).await.unwrap(), 10);
}

#[tokio::test]
async fn it_has_the_deadline_of_a_statement() {
    let database = TestDatabase::new().await;
    let config = DbConfig {
        statement_timeout: Duration::from_millis(400),
        ..crate::config(&database, 1)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    pool.batch_execute(TABLE).await.unwrap();
    let error = pool
        .copy_in("items", &["id"], async |copy| {
            loop {
                copy.row(&[&1_i32]).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .map(|_: u64| ())
        .map_err(|error: Error| error.kind())
        .unwrap_err();
    assert_eq!(error, ErrorKind::Timeout);
    // One transaction may take longer.
    pool.transaction(async |tx| {
        tx.set_statement_timeout(Duration::from_secs(10)).await?;
        let mut copy = tx.copy_in("items", &["id"]).await?;
        copy.row(&[&1_i32]).await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        copy.row(&[&2_i32]).await?;
        copy.finish().await
    })
    .await
    .unwrap();
    assert_eq!(count(&pool).await, 2);
}

#[tokio::test]
async fn it_works_in_a_modules_schema_and_through_a_pooler() {
    let database = TestDatabase::new().await;
    let config = DbConfig {
        pooled_url: Some(Secret::new(format!("{}?application_name=pooled", database.url()))),
        pool_size: Some(1),
        ..DbConfig::new(database.url())
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let create = zhuji_db_pool::Migration {
        version: 1,
        name: "items",
        sql: TABLE,
    };
    pool.migrate("asl", &[create]).await.unwrap();
    assert_eq!(fill(&pool.scoped("asl"), 0..100).await.unwrap(), 100);
    assert_eq!(count(&pool.scoped("asl")).await, 100);
}
