use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zhuji_db_pool::{DbConfig, DbPool, Error, ErrorKind, Phase};
use zhuji_testkit::{TestPostgres, free_port};

use crate::config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_restart_under_load_is_survived_without_a_restart_of_ours() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 8)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let (pool, stop, seen) = (pool.clone(), Arc::clone(&stop), Arc::clone(&seen));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let result = pool.query_one("SELECT 1::int4", &[]).await;
                    let took = started.elapsed();
                    seen.lock().unwrap().note(took, result.map(drop));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();

    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = seen.lock().unwrap().good.len();
    // A busy machine may be late once; `cargo xtask bench db` has the median.
    let mut recovered = Vec::new();
    while recovered.iter().all(|took| *took > TIGHT) && recovered.len() < 3 {
        server.stop_immediate().await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let down = Instant::now();
        server.restart().await;
        let back = Instant::now();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let seen = seen.lock().unwrap();
        let after: Vec<_> = seen.good.iter().filter(|at| **at > down).collect();
        assert!(after.len() > 100, "{}", after.len());
        recovered.push(after.iter().min().unwrap().saturating_duration_since(back));
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }

    let seen = seen.lock().unwrap();
    let longest = seen.took.iter().max().unwrap();
    eprintln!(
        "errors {:?}, longest call {longest:?}, back after {recovered:?}",
        seen.errors
    );
    assert!(before > 100, "{before}");
    assert!(recovered.iter().any(|took| *took <= TIGHT), "{recovered:?}");
    assert!(
        recovered.iter().all(|took| *took < Duration::from_secs(1)),
        "{recovered:?}"
    );
    // Held for a second at most, because the server may only be restarting; then told at once.
    let held = Duration::from_millis(1300);
    let late = seen.took.iter().filter(|took| **took > held).count();
    assert!(
        late * 100 <= seen.took.len(),
        "{late} of {} beyond {held:?}",
        seen.took.len()
    );
    assert!(*longest < Duration::from_millis(2500), "{longest:?}");
    assert!(seen.errors.contains_key("Unreachable"), "{:?}", seen.errors);
}

/// To the first good query after the server is back.
const TIGHT: Duration = Duration::from_millis(300);

#[derive(Default)]
struct Seen {
    good: Vec<Instant>,
    errors: BTreeMap<String, u32>,
    took: Vec<Duration>,
}

impl Seen {
    fn note(&mut self, took: Duration, result: Result<(), Error>) {
        self.took.push(took);
        match result {
            Ok(()) => self.good.push(Instant::now()),
            Err(error) => {
                assert!(error.is_unavailable(), "{error:?}");
                *self.errors.entry(format!("{:?}", error.kind())).or_insert(0) += 1;
            }
        }
    }
}

#[tokio::test]
async fn while_the_server_is_down_callers_are_told_the_cause_and_few_dials_are_made() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Accepts and hangs up, and counts.
    let dials = Arc::new(Mutex::new(Vec::new()));
    let counting = Arc::clone(&dials);
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counting.lock().unwrap().push(Instant::now());
            drop(socket);
        }
    });
    let url = format!("postgres://user:hunter2@127.0.0.1:{port}/db?sslmode=disable");
    let pool = DbPool::new(&DbConfig {
        pool_size: Some(32),
        ..DbConfig::new(url)
    })
    .unwrap();
    let started = Instant::now();
    let all = futures_util::future::join_all((0..100).map(|_| pool.get())).await;
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    for result in all {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
    // Known to be down for a second: told at once from now on.
    let again = Instant::now();
    for _ in 0..50 {
        assert_eq!(pool.get().await.unwrap_err().kind(), ErrorKind::Unreachable);
    }
    assert!(
        again.elapsed() < Duration::from_millis(500),
        "{:?}",
        again.elapsed()
    );
    let count = dials.lock().unwrap().len();
    assert!(count < 60, "{count} dials in {:?}", started.elapsed());
    server.abort();
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_dialling_timeout() {
    // A full backlog of a listener that accepts nothing is slow to make; one that accepts and is silent is not.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://user:hunter2@127.0.0.1:{port}/db");
    let config = DbConfig {
        acquire_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(900),
        ..DbConfig::new(url)
    };
    let started = Instant::now();
    let error = DbPool::connect(&config).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(900));
    assert_eq!(
        (error.kind(), error.phase()),
        (ErrorKind::Timeout, Some(Phase::Dialling)),
        "{error}"
    );
    assert!(error.is_unavailable() && error.is_retryable());
    drop(listener);
}

#[tokio::test]
async fn a_short_interruption_is_not_noticed() {
    let server = TestPostgres::start_own().await;
    let database = server.database().await;
    let pool = DbPool::connect(&config(&database, 4)).await.unwrap();
    server.stop_immediate().await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.query_one("SELECT 1", &[]).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.restart().await;
    waiting.await.unwrap().expect("held until the server was back");
}

#[tokio::test]
async fn a_pool_that_was_never_connected_finds_its_server_later() {
    let port = free_port();
    let url = format!("postgres://u:p@127.0.0.1:{port}/db?sslmode=disable");
    let pool = DbPool::new(&DbConfig::new(url)).unwrap();
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let text = error.to_string();
    assert!(
        text.contains("refused") && text.contains(&port.to_string()),
        "{text}"
    );
}
