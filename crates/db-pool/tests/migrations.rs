//! Migrations against a real PostgreSQL.

use zhuji_db_pool::{DbConfig, DbPool, ErrorKind, Migration};
use zhuji_testkit::TestDatabase;

const FIRST: Migration<'_> = Migration {
    version: 1,
    name: "create t",
    sql: "CREATE TABLE t (a int4);\n",
};
const SECOND: Migration<'_> = Migration {
    version: 2,
    name: "fill t",
    sql: "INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);\n",
};

async fn pool(database: &TestDatabase) -> DbPool {
    DbPool::connect(&DbConfig {
        pool_size: Some(2),
        ..DbConfig::new(database.url())
    })
    .await
    .expect("the test server answers")
}

#[tokio::test]
async fn each_is_applied_once() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    let first = pool.migrate("asl", &[FIRST]).await.unwrap();
    assert_eq!((first.applied, first.already), (vec![1], 0));
    let second = pool.migrate("asl", &[FIRST, SECOND]).await.unwrap();
    assert_eq!((second.applied, second.already), (vec![2], 1));
    let third = pool.migrate("asl", &[FIRST, SECOND]).await.unwrap();
    assert_eq!((third.applied, third.already), (vec![], 2));
    let count: i64 = pool
        .scoped("asl")
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 2);
    // Another module has its own.
    assert_eq!(pool.migrate("bbs", &[FIRST]).await.unwrap().applied, [1]);
}

#[tokio::test]
async fn line_endings_do_not_count_as_a_change() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    pool.migrate("asl", &[FIRST]).await.unwrap();
    let dos = Migration {
        sql: "CREATE TABLE t (a int4);\r\n",
        ..FIRST
    };
    assert_eq!(pool.migrate("asl", &[dos]).await.unwrap().already, 1);
}

#[tokio::test]
async fn two_instances_at_once_apply_each_once() {
    let database = TestDatabase::new().await;
    let slow = Migration {
        sql: "CREATE TABLE t (a int4); SELECT pg_sleep(0.2)",
        ..FIRST
    };
    let all = [slow, SECOND];
    let pools = futures_util::future::join_all((0..4).map(|_| pool(&database))).await;
    let done = futures_util::future::join_all(pools.iter().map(|pool| pool.migrate("asl", &all))).await;
    let mut applied: Vec<_> = done.into_iter().map(|result| result.unwrap().applied).collect();
    applied.sort();
    assert_eq!(applied, [vec![], vec![], vec![], vec![1, 2]]);
    let count: i64 = pools[0]
        .scoped("asl")
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 2);
}

#[tokio::test]
async fn what_was_applied_must_not_change() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    pool.migrate("asl", &[FIRST, SECOND]).await.unwrap();
    let refused = async |migrations: &[Migration<'_>]| {
        let error = pool.migrate("asl", migrations).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Migration, "{error}");
        error.to_string()
    };
    let changed = Migration {
        sql: "CREATE TABLE t (a int8);",
        ..FIRST
    };
    let text = refused(&[changed, SECOND]).await;
    assert!(
        text.contains("migration 1 \"create t\" was changed after it had been applied"),
        "{text}"
    );
    let text = refused(&[SECOND]).await;
    assert!(
        text.contains("migration 1 \"create t\" is applied and missing"),
        "{text}"
    );
    pool.migrate(
        "asl",
        &[
            FIRST,
            SECOND,
            Migration {
                version: 5,
                name: "five",
                sql: "SELECT 5",
            },
        ],
    )
    .await
    .unwrap();
    let late = Migration {
        version: 3,
        name: "late",
        sql: "SELECT 3",
    };
    let text = refused(&[
        FIRST,
        SECOND,
        late,
        Migration {
            version: 5,
            name: "five",
            sql: "SELECT 5",
        },
    ])
    .await;
    assert!(
        text.contains("migration 3 \"late\" was put before migration 5"),
        "{text}"
    );
}

#[tokio::test]
async fn an_older_release_leaves_a_newer_schema_alone() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    pool.migrate("asl", &[FIRST, SECOND]).await.unwrap();
    let done = pool.migrate("asl", &[FIRST]).await.unwrap();
    assert_eq!((done.applied, done.already, done.ahead), (vec![], 1, vec![2]));
}

#[tokio::test]
async fn versions_have_to_ascend() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    for migrations in [
        [SECOND, FIRST],
        [FIRST, FIRST],
        [Migration { version: 0, ..FIRST }, SECOND],
    ] {
        let error = pool.migrate("asl", &migrations).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

#[tokio::test]
async fn a_failing_statement_is_named_with_its_line_and_rolled_back() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    let sql =
        "CREATE TABLE 表 (a int4);\n-- 注释\nINSERT INTO 表 VALUES (1);\n  INSERT INTO nosuch VALUES (1);\n";
    let bad = Migration {
        version: 2,
        name: "bad",
        sql,
    };
    let error = pool.migrate("asl", &[FIRST, bad]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert_eq!(error.sql_state().map(|code| code.code()), Some("42P01"));
    let text = error.to_string();
    assert!(
        text.contains("migration 2 \"bad\" failed at line 4 (`INSERT INTO nosuch VALUES (1);`)"),
        "{text}"
    );
    assert!(text.contains("relation \"nosuch\" does not exist"), "{text}");
    let row = pool
        .scoped("asl")
        .query_one("SELECT to_regclass('表') IS NULL, to_regclass('t') IS NULL", &[])
        .await;
    let row = row.unwrap();
    assert!(row.get::<_, bool>(0), "rolled back");
    assert!(!row.get::<_, bool>(1), "the one before it stays");
    // Mended, it goes on from there.
    let mended = Migration {
        sql: "CREATE TABLE 表 (a int4)",
        ..bad
    };
    assert_eq!(pool.migrate("asl", &[FIRST, mended]).await.unwrap().applied, [2]);
}

#[tokio::test]
async fn a_migration_that_ends_its_transaction_is_refused() {
    let database = TestDatabase::new().await;
    let pool = pool(&database).await;
    let commits = Migration {
        version: 1,
        name: "commits",
        sql: "CREATE TABLE t (); COMMIT; CREATE TABLE u ();",
    };
    let text = pool.migrate("asl", &[commits]).await.unwrap_err().to_string();
    assert!(text.contains("ends its transaction"), "{text}");
    let concurrently = "CREATE TABLE t (a int4); CREATE INDEX CONCURRENTLY ON t (a);";
    let outside = Migration {
        version: 1,
        name: "index",
        sql: concurrently,
    };
    let text = pool.migrate("bbs", &[outside]).await.unwrap_err().to_string();
    assert!(text.contains("it cannot run in a transaction"), "{text}");
}

#[tokio::test]
async fn a_user_who_may_not_create_schemas_can_use_one_made_for_him() {
    let database = TestDatabase::new().await;
    let role = format!("{}_app", database.name());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; CREATE SCHEMA asl AUTHORIZATION {role}"
        ))
        .await;
    let mut url = database.url();
    let at = url.find('@').expect("a user in the URL");
    url.replace_range("postgres://".len()..at, &format!("{role}:p"));
    let pool = DbPool::connect(&DbConfig {
        pool_size: Some(1),
        ..DbConfig::new(url)
    })
    .await
    .unwrap();
    assert_eq!(pool.migrate("asl", &[FIRST]).await.unwrap().applied, [1]);
    let error = pool.migrate("other", &[FIRST]).await.unwrap_err();
    assert_eq!(
        error.sql_state().map(|code| code.code()),
        Some("42501"),
        "{error}"
    );
    drop(pool);
    database
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}
