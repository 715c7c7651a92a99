//! The throw-away servers themselves.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zhuji_testkit::{
    DevCluster, DevRedis, FaultProxy, Moment, ProxyFault, TestDatabase, TestPostgres, TestRedis,
};

async fn query(url: &str, sql: &str) -> Result<String, String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .map_err(|error| format!("{error:?}"))?;
    tokio::spawn(connection);
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(|error| format!("{error:?}"))?;
    Ok(row.get(0))
}

async fn run(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect(sql);
    tokio::spawn(connection);
    client.batch_execute(sql).await.expect(sql);
}

async fn redis(url: &str, command: &str) -> std::io::Result<String> {
    let address = url.trim_start_matches("redis://");
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut buffer = [0; 256];
    let count = socket.read(&mut buffer).await?;
    Ok(String::from_utf8_lossy(&buffer[..count]).trim().to_owned())
}

#[tokio::test]
async fn a_database_of_ones_own_is_gone_afterwards() {
    let server = TestPostgres::start().await;
    let (one, two) = tokio::join!(server.database(), TestDatabase::new());
    assert_ne!(one.name(), two.name());
    one.execute("CREATE TABLE t ()").await;
    let sees = query(&two.url(), "SELECT (to_regclass('t') IS NULL)::text")
        .await
        .unwrap();
    assert_eq!(sees, "true");
    let name = one.name().to_owned();
    drop(one);
    let count = format!("SELECT count(*)::text FROM pg_database WHERE datname = '{name}'");
    assert_eq!(query(&server.url(), &count).await.unwrap(), "0");
}

#[tokio::test]
async fn a_stopped_server_comes_back_with_its_data() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    database.execute("CREATE TABLE t AS SELECT 'kept' AS a").await;
    server.stop_fast().await;
    assert!(query(&database.url(), "SELECT a FROM t").await.is_err());
    server.restart().await;
    assert_eq!(query(&database.url(), "SELECT a FROM t").await.unwrap(), "kept");
    server.stop_immediate().await;
    server.restart().await;
    assert_eq!(query(&database.url(), "SELECT 'up'").await.unwrap(), "up");
}

#[tokio::test]
async fn a_server_can_be_paused_and_killed() {
    let silent = Duration::from_millis(500);
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    database.execute("CREATE TABLE t AS SELECT 'kept' AS a").await;
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let (postgres, cache) = (server.pid().unwrap(), TestRedis::start().await);
    server.pause().await;
    cache.pause().await;
    // An open connection and a new one: both stay silent.
    assert!(
        tokio::time::timeout(silent, client.simple_query("SELECT 1"))
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(silent, query(&database.url(), "SELECT 'x'"))
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(silent, redis(&cache.url(), "PING"))
            .await
            .is_err()
    );
    server.resume().await;
    cache.resume().await;
    client.simple_query("SELECT 1").await.unwrap();
    assert_eq!(redis(&cache.url(), "PING").await.unwrap(), "+PONG");
    // Killed while it is paused, and with a client connected.
    server.pause().await;
    server.stop_hard().await;
    assert_eq!(server.pid(), None);
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(query(&database.url(), "SELECT 'x'").await.is_err());
    server.start_again().await;
    assert_ne!(server.pid(), Some(postgres));
    assert_eq!(query(&database.url(), "SELECT a FROM t").await.unwrap(), "kept");
    server.start_again().await;
    cache.pause().await;
    cache.stop().await;
    cache.start_again().await;
    assert_eq!(redis(&cache.url(), "PING").await.unwrap(), "+PONG");
    // Dropped while paused: nothing hangs.
    server.pause().await;
}

#[tokio::test]
async fn a_proxy_stands_in_front_of_them() {
    let (server, cache) = (TestPostgres::start().await, TestRedis::start().await);
    let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let database = FaultProxy::start_raw(address(server.port())).await.unwrap();
    let store = FaultProxy::start_raw(address(cache.port())).await.unwrap();
    let mut url = url::Url::parse(&server.url()).unwrap();
    url.set_port(Some(database.address().port())).unwrap();
    let (sql, redis_url) = ("SELECT repeat('x', 5000)", format!("redis://{}", store.address()));
    assert_eq!(query(url.as_str(), sql).await.unwrap().len(), 5000);
    assert_eq!(redis(&redis_url, "PING").await.unwrap(), "+PONG");
    database.script([ProxyFault::Reset(Moment::AnswerBody)]);
    assert!(query(url.as_str(), sql).await.is_err());
    store.script([ProxyFault::Reset(Moment::BeforeRequest)]);
    assert!(redis(&redis_url, "PING").await.is_err());
    database.refuse().await;
    assert!(query(url.as_str(), sql).await.unwrap_err().contains("refused"));
    database.accept_again().await;
    assert_eq!(query(url.as_str(), sql).await.unwrap().len(), 5000);
}

#[test]
fn the_development_cluster_keeps_data_and_password() {
    let home = tempfile::tempdir().unwrap();
    // Closed to others, as a home directory is: the server runs under another account when we are root.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let dir = home.path().join("deep/postgres");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ask = |url: &str, sql: &str| runtime.block_on(query(url, sql));

    let first = DevCluster::start(&dir, true).unwrap();
    assert!(first.is_owner());
    assert_eq!(ask(first.url(), "SELECT current_setting('fsync')").unwrap(), "on");
    runtime.block_on(run(first.url(), "CREATE TABLE t AS SELECT 1"));
    let mode = dir.join("password").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let second = DevCluster::start(&dir, true).unwrap();
    assert!(!second.is_owner());
    assert_eq!(second.url(), first.url());
    drop(second);
    assert_eq!(ask(first.url(), "SELECT 'still there'").unwrap(), "still there");
    let wrong = first.url().replacen("zhuji:", "zhuji:x", 1);
    assert!(ask(&wrong, "SELECT ''").unwrap_err().contains("28P01"));
    first.stop();

    // As after a power cut: a pid file whose number belongs to somebody else by now.
    let pid = std::process::id();
    std::fs::write(
        dir.join("data/postmaster.pid"),
        format!("{pid}\n/x\n0\n1\n\n*\n\nready\n"),
    )
    .unwrap();
    let third = DevCluster::start(&dir, true).unwrap();
    assert!(third.is_owner());
    assert_eq!(ask(third.url(), "SELECT count(*)::text FROM t").unwrap(), "1");
}

#[tokio::test]
async fn redis_starts_stops_and_restarts_on_its_port() {
    let server = TestRedis::start().await;
    let url = server.url();
    assert_eq!(redis(&url, "SET a 1").await.unwrap(), "+OK");
    server.stop().await;
    assert!(redis(&url, "PING").await.is_err());
    server.restart().await;
    assert_eq!(server.url(), url);
    assert_eq!(redis(&url, "GET a").await.unwrap(), "$-1", "nothing is kept");
}

#[tokio::test]
async fn the_development_redis_keeps_its_data() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("redis");
    let first = DevRedis::start(&dir).unwrap();
    assert_eq!(redis(first.url(), "SET a 1").await.unwrap(), "+OK");
    drop(first);
    let second = DevRedis::start(&dir).unwrap();
    assert_eq!(redis(second.url(), "GET a").await.unwrap(), "$1\r\n1");
}

/// Started by the test below as a process of its own, and killed.
#[tokio::test]
#[ignore = "a part of servers_do_not_outlive_a_killed_test"]
async fn victim() {
    let (postgres, redis) = tokio::join!(TestPostgres::start_own(), TestRedis::start());
    // The thread that started them is not the one that is asked here, and it is not the last to end.
    let file = std::env::var_os("VICTIM_SAYS").expect("set by the test");
    std::fs::write(file, format!("{} {}", postgres.port(), redis.port())).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn servers_do_not_outlive_a_killed_test() {
    let home = tempfile::tempdir().unwrap();
    let says = home.path().join("ports");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env("VICTIM_SAYS", &says)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let ports: Vec<u16> = loop {
        assert!(Instant::now() < deadline, "the victim did not start its servers");
        let text = std::fs::read_to_string(&says).unwrap_or_default();
        let ports: Vec<u16> = text
            .split_whitespace()
            .filter_map(|port| port.parse().ok())
            .collect();
        if ports.len() == 2 {
            break ports;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let listening = async |port: u16| tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    for port in &ports {
        assert!(listening(*port).await);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    for port in ports {
        while listening(port).await {
            assert!(
                Instant::now() < deadline,
                "a server outlived the process that started it"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
