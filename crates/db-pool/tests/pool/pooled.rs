//! A pooled connection string: without a pooler, where it can be seen that nothing stays in the session, and with a real
//! PgBouncer in transaction mode.

use zhuji_config::Secret;
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind, Migration};
use zhuji_testkit::{PGBOUNCER_INSTALL_HINT, TestDatabase, TestPgBouncer, TestPostgres};

async fn pooled(database: &TestDatabase) -> DbPool {
    // Another text, so that it is another address.
    let pooled_url = Some(Secret::new(format!("{}?application_name=pooled", database.url())));
    let config = DbConfig {
        pooled_url,
        pool_size: Some(2),
        ..DbConfig::new(database.url())
    };
    let pool = DbPool::connect(&config).await.expect("the test server answers");
    assert!(pool.is_pooled());
    pool
}

#[tokio::test]
async fn statements_leave_nothing_behind_in_the_session() {
    let database = TestDatabase::new().await;
    let pool = pooled(&database).await;
    let create = Migration {
        version: 1,
        name: "t",
        sql: "CREATE TABLE t (a int4, b text)",
    };
    pool.migrate("asl", &[create]).await.unwrap();
    let asl = pool.scoped("asl");
    for number in 0..3_i32 {
        asl.execute("INSERT INTO t VALUES ($1, $2)", &[&number, &"x"])
            .await
            .unwrap();
        let rows = asl
            .query("SELECT a FROM t WHERE a = $1 AND b = $2", &[&number, &"x"])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
    }
    asl.batch_execute("UPDATE t SET b = 'y'; DELETE FROM t WHERE a = 0")
        .await
        .unwrap();
    let sum: i64 = asl
        .transaction(async |tx| {
            tx.execute("INSERT INTO t VALUES ($1, 'z')", &[&10_i32]).await?;
            tx.query_one("SELECT sum(a) FROM t WHERE a > $1", &[&0_i32]).await
        })
        .await
        .unwrap()
        .get(0);
    assert_eq!(sum, 13);

    let row = pool
        .query_one(
            "SELECT current_setting('search_path'), (SELECT count(*) FROM pg_prepared_statements), \
             current_setting('statement_timeout')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "\"$user\", public");
    assert_eq!(row.get::<_, i64>(1), 0);
    assert_eq!(row.get::<_, &str>(2), "0", "no startup options");
}

#[tokio::test]
async fn a_failed_statement_does_not_leave_a_transaction_open() {
    let database = TestDatabase::new().await;
    let pool = pooled(&database).await;
    let asl = pool.scoped("public");
    let error = asl.query("SELECT 1 / $1::int4", &[&0_i32]).await.unwrap_err();
    assert_eq!(error.sql_state().map(|code| code.code()), Some("22012"));
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND state LIKE 'idle in transaction%'";
    assert_eq!(pool.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    let error = asl.query("SELECT $1::int4", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    let error = asl.query("SELECT $1::int4", &[&1_i32, &2_i32]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conversion, "{error}");
}

#[tokio::test]
async fn what_needs_a_session_is_refused() {
    let database = TestDatabase::new().await;
    let pool = pooled(&database).await;
    for sql in [
        "SET work_mem = '1MB'",
        "LISTEN x",
        "begin",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_catalog.pg_try_advisory_lock(1)",
        "/* a note */ SELECT set_config('work_mem', '1MB', false)",
        "CREATE LOCAL TEMP TABLE t (a int4)",
    ] {
        let refused = [
            pool.execute(sql, &[]).await.map(drop),
            pool.batch_execute(&format!("SELECT 1; {sql}")).await,
            pool.transaction(async |tx| tx.execute(sql, &[]).await.map(drop))
                .await,
            pool.transaction(async |tx| tx.batch_execute(sql).await).await,
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported, "{sql}");
        }
    }
    let sql = "SELECT set_config('work_mem', $1, $2)";
    let error = pool.query(sql, &[&"1MB", &false]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    pool.transaction(async |tx| {
        tx.batch_execute("SET LOCAL work_mem = '1MB'").await?;
        tx.query(
            "SELECT set_config('work_mem', '2MB', true), pg_advisory_xact_lock(1)",
            &[],
        )
        .await
    })
    .await
    .unwrap();
    // Listening goes over the direct address.
    let mut listener = pool.listen(&["x"]).await.unwrap();
    pool.execute("SELECT pg_notify('x', '')", &[]).await.unwrap();
    assert_eq!(listener.recv().await.unwrap().channel, "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_callers_share_three_connections_of_a_real_pooler() {
    if !TestPgBouncer::is_installed() {
        eprintln!("SKIPPED, PgBouncer is not installed: {PGBOUNCER_INSTALL_HINT}");
        return;
    }
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let bouncer = TestPgBouncer::start(&database, 3).await;
    let config = DbConfig {
        pooled_url: Some(Secret::new(bouncer.url())),
        pool_size: Some(16),
        ..DbConfig::new(database.url())
    };
    let pool = DbPool::connect(&config).await.unwrap();
    let create = Migration {
        version: 1,
        name: "t",
        sql: "CREATE TABLE t (a int4, b text)",
    };
    pool.migrate("asl", &[create]).await.unwrap();
    pool.migrate("bbs", &[create]).await.unwrap();
    let callers: Vec<_> = (0..16_i32)
        .map(|caller| {
            let scoped = pool.scoped(if caller % 2 == 0 { "asl" } else { "bbs" });
            let pool = pool.clone();
            tokio::spawn(async move {
                for round in 0..25_i32 {
                    let row = pool
                        .query_one("SELECT $1::int4 + $2::int4", &[&caller, &round])
                        .await?;
                    assert_eq!(row.get::<_, i32>(0), caller + round);
                    scoped
                        .execute("INSERT INTO t VALUES ($1, $2)", &[&caller, &"x"])
                        .await?;
                    let sql = "SELECT count(*) FROM t WHERE a = $1 AND b = $2";
                    let count: i64 = scoped.query_one(sql, &[&caller, &"x"]).await?.get(0);
                    assert_eq!(count, i64::from(round) + 1);
                    scoped
                        .transaction(async |tx| {
                            tx.execute("UPDATE t SET b = b WHERE a = $1", &[&caller]).await?;
                            tx.query("SELECT * FROM t WHERE a = $1", &[&caller]).await
                        })
                        .await?;
                }
                Ok::<_, zhuji_db_pool::Error>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    for schema in ["asl", "bbs"] {
        let count: i64 = pool
            .scoped(schema)
            .query_one("SELECT count(*) FROM t", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(count, 8 * 25);
    }
    assert_eq!(pool.health_check().run().await, zhuji_health::Outcome::Up);
    // Nothing was left in the sessions that all share.
    let row = pool
        .query_one("SELECT current_setting('search_path')", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "\"$user\", public");
    let left: i64 = pool
        .query_one("SELECT count(*) FROM pg_prepared_statements", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}
