//! Every `sslmode` against real servers: with TLS, with TLS required, and without.

use std::path::Path;
use std::time::Duration;

use zhuji_db_pool::{DbConfig, DbPool, Error, ErrorKind};
use zhuji_testkit::TestPostgres;

/// Connects to `host` (at 127.0.0.1 in every case) and tells whether the connection is encrypted.
async fn connect(server: &TestPostgres, host: &str, parameters: &str) -> Result<bool, Error> {
    let port = server.port();
    let url =
        format!("postgres://zhuji:test-password@{host}:{port}/postgres?hostaddr=127.0.0.1&{parameters}");
    let config = DbConfig {
        acquire_timeout: Duration::from_secs(2),
        ..DbConfig::new(url)
    };
    let pool = DbPool::connect(&config).await?;
    let row = pool
        .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await?;
    Ok(row.get(0))
}

fn root(file: &Path) -> String {
    format!("sslrootcert={}", file.display())
}

#[tokio::test]
async fn a_server_that_offers_tls() {
    let server = TestPostgres::options().tls().scram().start().await;
    let (ca, stranger) = (root(server.ca_file()), root(server.wrong_ca_file()));
    let try_it = async |host: &str, parameters: String| connect(&server, host, &parameters).await;

    // No verification: TLS or not as libpq does it.
    assert!(!try_it("localhost", "sslmode=disable".into()).await.unwrap());
    assert!(!try_it("localhost", "sslmode=allow".into()).await.unwrap());
    assert!(try_it("localhost", "sslmode=prefer".into()).await.unwrap());
    assert!(
        try_it("localhost", String::new()).await.unwrap(),
        "prefer is the default"
    );
    assert!(try_it("wrong.example", "sslmode=require".into()).await.unwrap());

    // The authority is checked, the name is not.
    assert!(
        try_it("wrong.example", format!("sslmode=verify-ca&{ca}"))
            .await
            .unwrap()
    );
    assert!(
        try_it("wrong.example", format!("sslmode=require&{ca}"))
            .await
            .unwrap()
    );
    for mode in ["verify-ca", "require"] {
        let error = try_it("localhost", format!("sslmode={mode}&{stranger}"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }

    // Both are.
    assert!(
        try_it("localhost", format!("sslmode=verify-full&{ca}"))
            .await
            .unwrap()
    );
    let error = try_it("wrong.example", format!("sslmode=verify-full&{ca}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let error = try_it("localhost", format!("sslmode=verify-full&{stranger}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    for parameters in ["sslrootcert=system", "sslmode=verify-full"] {
        match try_it("localhost", parameters.to_owned()).await {
            Err(error) if error.kind() == ErrorKind::Config => {
                assert!(
                    error.to_string().contains("ca-certificates"),
                    "no authorities on this system: {error}"
                );
            }
            Err(error) => assert_eq!(
                error.kind(),
                ErrorKind::Tls,
                "no public authority signed it: {error}"
            ),
            Ok(_) => panic!("{parameters}: nobody vouches for that certificate"),
        }
    }
}

#[tokio::test]
async fn a_server_that_demands_tls() {
    let server = TestPostgres::options().tls_required().start().await;
    let error = connect(&server, "localhost", "sslmode=disable")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert_eq!(error.sql_state().map(|code| code.code()), Some("28000"));
    for mode in ["allow", "prefer", "require"] {
        assert!(
            connect(&server, "localhost", &format!("sslmode={mode}"))
                .await
                .unwrap(),
            "{mode}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    let server = TestPostgres::start_own().await;
    for mode in ["disable", "allow", "prefer"] {
        assert!(
            !connect(&server, "localhost", &format!("sslmode={mode}"))
                .await
                .unwrap(),
            "{mode}"
        );
    }
    let error = connect(&server, "localhost", "sslmode=require")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(
        error.to_string().contains("server does not support TLS"),
        "{error}"
    );
    // A unix socket needs none, as with libpq.
    let socket = server
        .socket_dir()
        .expect("a private server")
        .display()
        .to_string()
        .replace('/', "%2F");
    let port = server.port();
    let url = format!("postgres://zhuji@{socket}:{port}/postgres?sslmode=require");
    DbPool::connect(&DbConfig::new(url)).await.unwrap();
}

#[test]
fn hostile_and_mistaken_urls_are_refused_with_a_hint() {
    let refused = |url: &str, hint: &str| {
        let error = DbPool::new(&DbConfig::new(url)).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(hint), "{url}: {error}");
    };
    refused("", "postgres://");
    refused("host=localhost user=zhuji", "postgres://");
    refused("postgres://", "names no host");
    refused("postgres:///db", "names no host");
    refused("postgres://h/db", "names no user");
    refused("postgres://u@h:0/db", "port");
    refused("postgres://u@h:65536/db", "port");
    refused("postgres://u:p/w@h/db", "percent-encode");
    refused("postgres://u:p@w@h/db", "%40");
    refused("postgres://u:p#w@h/db", "%23");
    refused("postgres://u:p%w@h/db", "%25");
    refused("postgres://u:%ff@h/db", "UTF-8");
    refused("postgres://u:p w@h/db", "percent-encode");
    refused("postgres://u:p\n@h/db", "percent-encode");
    refused("postgres://u:%00@h/db", "NUL");
    refused("postgres://u@::1/db", "brackets");
    refused("postgres://u@[::1/db", "`]`");
    refused("postgres://u@h,/db", "a host is empty");
    refused("postgres://u@a,b/db?port=1,2,3", "ports");
    refused(
        "postgres://u@h/db?sslmode=maybe",
        "disable, allow, prefer, require, verify-ca, verify-full",
    );
    refused("postgres://u@h/db?sslmode=verify-ca", "sslrootcert");
    refused(
        "postgres://u@h/db?sslmode=require&sslrootcert=system",
        "verify-full",
    );
    refused(
        "postgres://u@h/db?sslmode=verify-full&sslrootcert=/nosuch",
        "/nosuch",
    );
    refused("postgres://u@h/db?sslcert=/x", "belong together");
    refused("postgres://u@h/db?connection_limit=5", "DB_POOL_SIZE");
    refused("postgres://u@h/db?pgbouncer=true", "DATABASE_POOLED_URL");
    refused("postgres://u@h/db?schema=public", "own schema");
    refused("postgres://u@h/db?nosuch=1", "PostgreSQL does not know");
    refused("postgres://u@h/db?sslmode", "no value");
    let long = format!("postgres://{}@h/db", "u".repeat(1 << 20));
    refused(&long, "63 bytes");
    for fine in [
        "postgresql://u:p%40%2F%23@h/db",
        "postgres://u@h",
        "postgres://u@[::1]:5432/db",
        "postgres://u@a:1,b:2/db?target_session_attrs=read-write&load_balance_hosts=random",
        "postgres://u@%2Fvar%2Frun%2Fpostgresql/db",
        "postgres://u@/db?host=/var/run/postgresql&connect_timeout=0",
        "postgres://u@h/db?sslnegotiation=direct&sslmode=require",
    ] {
        DbPool::new(&DbConfig::new(fine)).expect(fine);
    }
}

#[test]
fn settings_that_cannot_be_used_name_their_variable() {
    let refused = |config: DbConfig, variable: &str| {
        let error = DbPool::new(&config).expect_err(variable);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(variable), "{error}");
    };
    let good = DbConfig::new("postgres://u@h/db");
    refused(DbConfig::default(), "DATABASE_URL");
    refused(
        DbConfig {
            acquire_timeout: Duration::ZERO,
            ..good.clone()
        },
        "DB_ACQUIRE_TIMEOUT",
    );
    refused(
        DbConfig {
            statement_timeout: Duration::MAX,
            ..good.clone()
        },
        "DB_STATEMENT_TIMEOUT",
    );
    refused(
        DbConfig {
            pool_size: Some(0),
            ..good.clone()
        },
        "DB_POOL_SIZE",
    );
    refused(
        DbConfig {
            max_instances: 0,
            ..good.clone()
        },
        "DB_MAX_INSTANCES",
    );
    let pooled_url = Some(zhuji_config::Secret::new("nonsense"));
    refused(DbConfig { pooled_url, ..good }, "DATABASE_POOLED_URL");
}
