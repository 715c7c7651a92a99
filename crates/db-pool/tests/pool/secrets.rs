use std::error::Error as StdError;
use std::time::Duration;

use zhuji_db_pool::{DbConfig, DbPool, Error};
use zhuji_testkit::TestPostgres;

use crate::monitor::capture;

const PASSWORD: &str = "hunter2-s3cr3t";

fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn no_password_url_or_row_value_is_ever_shown() {
    let (captured, _guard) = capture();
    let server = TestPostgres::options().scram().start().await;
    let port = server.port();
    let quick = |url: String| DbConfig {
        acquire_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..DbConfig::new(url)
    };
    let mut shown = String::new();
    for url in [
        format!("postgres://zhuji:{PASSWORD}@127.0.0.1:{port}/postgres"),
        format!("postgres://zhuji:{PASSWORD}@127.0.0.1:{port}/nosuch"),
        format!("postgres://zhuji:{PASSWORD}@127.0.0.1:1/postgres"),
        format!("postgres://zhuji:{PASSWORD}@nosuch.invalid/postgres"),
        format!("postgres://zhuji:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=verify-full"),
        format!("postgres://zhuji:{PASSWORD}@127.0.0.1:{port}/postgres?sslrootcert=/nosuch&sslmode=require"),
        // Not escaped: the parser sees pieces of the password in the wrong places.
        format!("postgres://zhuji:a/{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://zhuji:a#{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://zhuji:a?{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://zhuji:a@{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://zhuji:a:{PASSWORD}/b@127.0.0.1/postgres"),
        format!("postgres://zhuji:%{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://{PASSWORD}:{PASSWORD}/x"),
        format!("mysql://zhuji:{PASSWORD}@127.0.0.1/postgres"),
        format!("postgres://127.0.0.1/postgres?password={PASSWORD}&{PASSWORD}=1"),
        PASSWORD.to_owned(),
    ] {
        let config = quick(url.clone());
        shown.push_str(&format!("{config:?}"));
        let error = DbPool::connect(&config).await.expect_err("a bad URL");
        shown.push_str(&everything(&error));
        if let Ok(pool) = DbPool::new(&config) {
            shown.push_str(&format!("{pool:?} {:?}", pool.health_check().run().await));
            if let Err(error) = pool.migrate("asl", &[]).await {
                shown.push_str(&everything(&error));
            }
        }
    }
    assert!(!shown.contains(PASSWORD) && !shown.contains("hunter2"), "{shown}");

    let database = server.database().await;
    let pool = DbPool::connect(&DbConfig::new(database.url())).await.unwrap();
    pool.batch_execute("CREATE TABLE p (name text UNIQUE, age int4 CHECK (age > 0))")
        .await
        .unwrap();
    pool.execute("INSERT INTO p VALUES ($1, 1)", &[&"Zhang San"])
        .await
        .unwrap();
    for (sql, value) in [
        ("INSERT INTO p VALUES ($1, 2)", "Zhang San"),
        ("INSERT INTO p VALUES ($1, -5)", "Zhang San"),
        ("SELECT $1::text::int4", "Zhang San"),
    ] {
        let error = pool.query(sql, &[&value]).await.expect_err(sql);
        let text = everything(&error);
        assert!(!text.contains("Zhang San"), "{text}");
    }
    let logged = captured.text();
    for secret in [PASSWORD, "test-password", "postgres://"] {
        // The driver's own debug lines are the driver's; ours must be clean.
        let ours: String = logged
            .lines()
            .filter(|line| line.contains("zhuji_db_pool"))
            .collect();
        assert!(!ours.contains(secret), "{ours}");
    }
}
