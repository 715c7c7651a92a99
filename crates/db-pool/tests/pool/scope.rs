use zhuji_db_pool::{Error, ErrorKind, Migration};
use zhuji_testkit::TestDatabase;

use crate::pool;

const ASL: &[Migration<'_>] = &[Migration {
    version: 1,
    name: "items",
    sql: "CREATE TABLE items (id int4)",
}];
const BBS: &[Migration<'_>] = &[Migration {
    version: 1,
    name: "items",
    sql: "CREATE TABLE items (id text)",
}];

#[tokio::test]
async fn the_same_statement_means_another_table_in_another_schema() {
    let database = TestDatabase::new().await;
    // One connection, so that both modules use it in turn.
    let pool = pool(&database, 1).await;
    pool.migrate("asl", ASL).await.unwrap();
    pool.migrate("bbs", BBS).await.unwrap();
    let (asl, bbs) = (pool.scoped("asl"), pool.scoped("bbs"));
    for _ in 0..3 {
        asl.execute("INSERT INTO items VALUES ($1)", &[&7_i32])
            .await
            .unwrap();
        bbs.execute("INSERT INTO items VALUES ($1)", &[&"seven"])
            .await
            .unwrap();
        asl.transaction(async |tx| {
            assert_eq!(tx.schema(), Some("asl"));
            tx.query_opt("SELECT id FROM items WHERE id = $1 LIMIT 1", &[&7_i32])
                .await
        })
        .await
        .unwrap()
        .expect("a row");
    }
    let sql = "SELECT id FROM items LIMIT 1";
    assert_eq!(asl.query_one(sql, &[]).await.unwrap().get::<_, i32>(0), 7);
    assert_eq!(bbs.query_one(sql, &[]).await.unwrap().get::<_, &str>(0), "seven");
    let error: Error = pool.query(sql, &[]).await.unwrap_err();
    assert_eq!(
        error.sql_state().map(|code| code.code()),
        Some("42P01"),
        "not visible without a scope"
    );
    assert_eq!(pool.status().size, 1);
}

#[tokio::test]
async fn the_search_path_is_set_only_when_the_schema_changes() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 1).await;
    let path = "SELECT current_setting('search_path')";
    let asl = pool.scoped("asl");
    assert_eq!(
        asl.query_one(path, &[]).await.unwrap().get::<_, &str>(0),
        "asl, public"
    );
    // Changed behind its back, by the driver itself, it is not set again for the same schema: no round trip was spent.
    asl.transaction(async |tx| {
        let sql = "SELECT set_config('search_path', 'elsewhere', false)";
        tx.as_raw().execute(sql, &[]).await.unwrap();
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    assert_eq!(
        asl.query_one(path, &[]).await.unwrap().get::<_, &str>(0),
        "elsewhere"
    );
    assert_eq!(
        pool.scoped("bbs")
            .query_one(path, &[])
            .await
            .unwrap()
            .get::<_, &str>(0),
        "bbs, public"
    );
    assert_eq!(
        pool.query_one(path, &[]).await.unwrap().get::<_, &str>(0),
        "\"$user\", public"
    );
}

#[tokio::test]
async fn strange_names_are_names_and_impossible_ones_are_refused() {
    let database = TestDatabase::new().await;
    let pool = pool(&database, 1).await;
    for name in [
        "文献",
        "With Space",
        "quote\"d",
        "a\"; DROP SCHEMA public CASCADE; --",
    ] {
        pool.migrate(name, ASL).await.unwrap();
        let row = pool
            .scoped(name)
            .query_one("SELECT current_schema()::text", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), name);
    }
    let long = "x".repeat(64);
    for name in ["", "pg_catalog", "a\0b", &long] {
        assert_eq!(
            pool.scoped(name).get().await.unwrap_err().kind(),
            ErrorKind::Config,
            "{name:?}"
        );
        assert_eq!(
            pool.migrate(name, ASL).await.unwrap_err().kind(),
            ErrorKind::Config,
            "{name:?}"
        );
    }
}
