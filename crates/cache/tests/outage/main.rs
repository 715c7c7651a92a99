//! The server goes away in every way a server can, and nobody waits for it.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]
// The figures behind what is asserted.
#![allow(clippy::print_stdout)]

mod invalidation;
mod load;
mod secrets;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zhuji_cache::{Cache, CacheConfig, CacheFactory, ErrorKind};
use zhuji_config::Secret;
use zhuji_testkit::TestRedis;

const TIMEOUT: Duration = Duration::from_millis(100);
/// What a busy two-core machine may add to a wait before it counts as a stall.
const SLACK: Duration = Duration::from_millis(900);

fn config(kind: &str, url: impl Into<String>) -> CacheConfig {
    CacheConfig {
        kind: Some(kind.to_owned()),
        redis_url: Some(Secret::new(url)),
        ..CacheConfig::default()
    }
}

async fn build(config: &CacheConfig) -> Cache {
    CacheFactory::new()
        .build(config)
        .await
        .expect("a good configuration")
}

/// Until Redis answers through `cache` again.
async fn recovered(cache: &Cache, within: Duration) {
    let start = Instant::now();
    // A read that finds the server late is a miss, not an error.
    while cache.set("recovered", &1, None).await.is_err()
        || cache.get::<u8>("recovered").await.expect("reads fail open") != Some(1)
    {
        assert!(start.elapsed() < within, "not recovered after {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!cache.stats().adapter.breaker_open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_does_not_wait_for_a_server_that_is_down() {
    let redis = TestRedis::start().await;
    redis.stop().await;
    for kind in ["redis", "tiered"] {
        let start = Instant::now();
        let cache = build(&config(kind, redis.url())).await;
        assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
        let loaded: u32 = cache
            .get_or_load("k", None, async || Ok::<_, Infallible>(7))
            .await
            .expect("infallible");
        assert_eq!(loaded, 7);
        redis.restart().await;
        recovered(&cache, Duration::from_secs(5)).await;
        redis.stop().await;
    }
}

/// Passes bytes on, or holds them back for ever: a peer that is gone without a FIN, a frozen server.
struct Proxy {
    url: String,
    frozen: Arc<AtomicBool>,
}

impl Proxy {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("bound"));
        let frozen = Arc::new(AtomicBool::new(false));
        let state = frozen.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        pass(from_client, to_server, &state),
                        pass(from_server, to_client, &state)
                    );
                });
            }
        });
        Self { url, frozen }
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, frozen: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if frozen.load(Ordering::Relaxed) {
            // For good: this connection never speaks again, also after the thaw.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_costs_one_timeout_and_is_dialled_anew() {
    let redis = TestRedis::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let cache = build(&config("redis", &proxy.url)).await;
    recovered(&cache, Duration::from_secs(5)).await;
    proxy.frozen.store(true, Ordering::Relaxed);
    let (mut kinds, mut took) = (Vec::new(), Vec::new());
    while !cache.stats().adapter.breaker_open {
        let start = Instant::now();
        let error = cache.get::<u8>("k").await.expect_err("silence is no answer");
        took.push(start.elapsed());
        kinds.push(error.kind());
        assert!(
            kinds.len() <= 5,
            "the breaker opens after five failures: {kinds:?}"
        );
    }
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Timeout), "{kinds:?}");
    // A busy machine may hold one of them up.
    took.sort_unstable();
    assert!(took[took.len() / 2] < TIMEOUT + TIMEOUT / 2, "{took:?}");
    assert!(
        took.last().is_some_and(|longest| *longest < TIMEOUT + SLACK),
        "{took:?}"
    );
    let start = Instant::now();
    for _ in 0..1000 {
        let error = cache.get::<u8>("k").await.expect_err("the breaker is open");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(
        start.elapsed() < SLACK,
        "an open breaker answers at once: {:?}",
        start.elapsed()
    );
    proxy.frozen.store(false, Ordering::Relaxed);
    recovered(&cache, Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_call_after_a_dropped_connection_is_not_lost() {
    let redis = TestRedis::start().await;
    let cache = build(&config("redis", redis.url())).await;
    cache.set("k", &7, None).await.expect("Redis is there");
    for _ in 0..3 {
        let mut admin = ::redis::Client::open(redis.url())
            .expect("a good URL")
            .get_connection()
            .expect("up");
        ::redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .exec(&mut admin)
            .expect("allowed");
        assert_eq!(cache.get::<u8>("k").await.expect("sent again"), Some(7));
    }
}

#[tokio::test]
async fn an_unknown_type_names_the_known_ones() {
    let config = CacheConfig {
        kind: Some("memcached".into()),
        ..CacheConfig::default()
    };
    let error = CacheFactory::new()
        .build(&config)
        .await
        .expect_err("no such adapter");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("memory, redis, tiered"), "{error}");
}

#[tokio::test]
async fn a_registered_adapter_is_chosen_by_name_and_guarded() {
    #[derive(Debug)]
    struct Endless;
    #[async_trait::async_trait]
    impl zhuji_cache::CacheAdapter for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }
        async fn get(&self, key: &str) -> zhuji_cache::Result<Option<bytes::Bytes>> {
            if key.ends_with("~gen") {
                return Ok(Some("1".into())); // the generation of the namespace
            }
            std::future::pending().await
        }
        async fn set(&self, _: &str, _: bytes::Bytes, _: Duration) -> zhuji_cache::Result<()> {
            std::future::pending().await
        }
        async fn delete(&self, _: &str) -> zhuji_cache::Result<bool> {
            std::future::pending().await
        }
        async fn check(&self) -> zhuji_cache::Result<()> {
            Ok(())
        }
    }
    let config = CacheConfig {
        kind: Some("endless".into()),
        ..CacheConfig::default()
    };
    let factory = CacheFactory::new().register("endless", async |_| {
        Ok(Arc::new(Endless) as Arc<dyn zhuji_cache::CacheAdapter>)
    });
    let cache = factory.build(&config).await.expect("registered");
    assert_eq!(
        cache.get::<u8>("k").await.expect_err("cut off").kind(),
        ErrorKind::Timeout
    );
    let error = cache.increment("n", 1, None).await.expect_err("has no counters");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn memory_stays_within_its_size() {
    let config = CacheConfig {
        memory_size: zhuji_config::ByteSize::mib(1),
        ..CacheConfig::default()
    };
    let cache = build(&config).await;
    for n in 0..2000 {
        cache
            .set_bytes(&format!("k{n}"), vec![0; 4096], None)
            .await
            .expect("memory does not fail");
    }
    // Upkeep rides along with calls, at most every few hundred milliseconds.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = cache.get_bytes("k1999").await;
    }
    let stats = cache.stats().adapter;
    assert!(stats.bytes <= 1 << 20, "{stats:?}");
    assert!(stats.evictions > 1000, "{stats:?}");
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A command as an administrator would give it.
fn admin<T: ::redis::FromRedisValue>(redis: &TestRedis, words: &[&str]) -> T {
    let mut connection = ::redis::Client::open(redis.url())
        .expect("a good URL")
        .get_connection()
        .expect("up");
    let mut command = ::redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut connection).expect("allowed")
}
