//! Servers that change or vanish without a word.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind};
use zhuji_testkit::{FaultProxy, TestPostgres};

use crate::{config, eventually};

#[tokio::test]
async fn when_the_primary_becomes_read_only_writers_move_to_the_other_host() {
    let (old, new) = (TestPostgres::start_own().await, TestPostgres::start_own().await);
    for server in [&old, &new] {
        let pool = DbPool::connect(&DbConfig::new(server.url())).await.unwrap();
        pool.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    }
    let (a, b) = (old.port(), new.port());
    let url = format!(
        "postgres://zhuji:test-password@127.0.0.1:{a},127.0.0.1:{b}/postgres?target_session_attrs=read-write"
    );
    let pool = DbPool::connect(&DbConfig {
        pool_size: Some(4),
        min_idle: 4,
        ..DbConfig::new(url)
    })
    .await
    .unwrap();
    let port = async |pool: &DbPool| -> i32 {
        pool.query_one("SELECT inet_server_port()", &[])
            .await
            .unwrap()
            .get(0)
    };
    assert_eq!(port(&pool).await, i32::from(a));
    let admin = DbPool::connect(&DbConfig::new(old.url())).await.unwrap();
    admin
        .execute("ALTER SYSTEM SET default_transaction_read_only = on", &[])
        .await
        .unwrap();
    admin.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    eventually("the old one is read only", async || {
        pool.execute("INSERT INTO t VALUES (1)", &[])
            .await
            .is_err_and(|error| error.kind() == ErrorKind::ReadOnly)
    })
    .await;
    // Each connection learns it once, and is not used again.
    let started = Instant::now();
    let mut refused = 0;
    let mut good = 0;
    while good < 20 {
        match pool.execute("INSERT INTO t VALUES (1)", &[]).await {
            Ok(_) => good += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
                refused += 1;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    assert!(refused <= 4, "{refused}");
    assert_eq!(port(&pool).await, i32::from(b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_gone_without_a_word_costs_nobody_more_than_a_deadline() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let proxy = FaultProxy::start_raw(([127, 0, 0, 1], server.port()).into())
        .await
        .unwrap();
    let url = database
        .url()
        .replace(&server.port().to_string(), &proxy.address().port().to_string());
    let pool = DbPool::connect(&DbConfig {
        pool_size: Some(4),
        min_idle: 4,
        statement_timeout: Duration::from_millis(500),
        acquire_timeout: Duration::from_millis(1500),
        ..DbConfig::new(url)
    })
    .await
    .unwrap();
    // Idle for long enough to be doubted.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    proxy.blackhole().await;
    let started = Instant::now();
    let calls = (0..8).map(|_| pool.query("SELECT 1", &[]));
    let results = futures_util::future::join_all(calls).await;
    // Acquiring, then the statement's deadline and the two seconds the server's answer has.
    assert!(
        started.elapsed() < Duration::from_millis(1500 + 500 + 2000 + 1000),
        "{:?}",
        started.elapsed()
    );
    for result in results {
        let error = result.map(drop).unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
    proxy.resume().await;
    eventually("it recovers by itself", async || {
        pool.query("SELECT 1", &[]).await.is_ok()
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_are_told_to_notice_a_dead_peer() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 1)).await.unwrap();
    let _held = pool.get().await.unwrap();
    let mut found = 0;
    let this = rustix::process::getpid();
    let pidfd = rustix::process::pidfd_open(this, rustix::process::PidfdFlags::empty()).unwrap();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let duplicate =
            rustix::process::pidfd_getfd(&pidfd, number, rustix::process::PidfdGetfdFlags::empty());
        let Ok(socket): Result<OwnedFd, _> = duplicate else {
            continue;
        };
        let peer = rustix::net::getpeername(&socket)
            .ok()
            .and_then(|peer| std::net::SocketAddr::try_from(peer?).ok());
        if peer.is_some_and(|peer| peer.port() == server.port()) {
            found += 1;
            assert_eq!(
                sockopt::tcp_user_timeout(&socket).unwrap(),
                10_000,
                "milliseconds"
            );
            assert!(sockopt::socket_keepalive(&socket).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), Duration::from_secs(30));
            assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), Duration::from_secs(10));
            assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 3);
        }
    }
    assert!(found >= 1);
}
