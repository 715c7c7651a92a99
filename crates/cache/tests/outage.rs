//! The server goes away in every way a server can, and nobody waits for it.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zhuji_cache::{Cache, CacheConfig, CacheFactory, ErrorKind, RedisAdapter, Ttl};
use zhuji_config::Secret;
use zhuji_health::Outcome;
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
    while cache.set("recovered", &1, None).await.is_err() {
        assert!(start.elapsed() < within, "not recovered after {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cache.get::<u8>("recovered").await.expect("recovered"), Some(1));
    assert!(!cache.stats().adapter.breaker_open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_under_load() {
    for kind in ["redis", "tiered"] {
        let redis = TestRedis::start().await;
        let cache = build(&config(kind, redis.url())).await;
        recovered(&cache, Duration::from_secs(5)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..32)
            .map(|caller| {
                let (cache, stop, served) = (cache.clone(), stop.clone(), served.clone());
                tokio::spawn(async move {
                    let mut longest = (Duration::ZERO, Duration::ZERO);
                    let mut round = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        let start = Instant::now();
                        let _ = cache.get::<u64>(&format!("plain/{}", round % 5)).await;
                        longest.0 = longest.0.max(start.elapsed());
                        let start = Instant::now();
                        let key = format!("load/{caller}/{}", round % 7);
                        let loaded = cache.get_or_load(&key, Duration::from_millis(50), async || {
                            Ok::<_, Infallible>(round)
                        });
                        loaded.await.expect("a loader that can't fail");
                        longest.1 = longest.1.max(start.elapsed());
                        served.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    longest
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        redis.stop().await;
        let at_kill = served.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let during = served.load(Ordering::Relaxed) - at_kill;
        assert!(
            during > 1000,
            "{kind}: get_or_load goes on without Redis, served {during}"
        );
        let error = cache
            .set("k", &1, None)
            .await
            .expect_err("an explicit write says so");
        assert!(error.is_unavailable() && error.is_retryable(), "{error:?}");
        assert!(cache.stats().adapter.breaker_open);
        assert!(matches!(cache.health_check().run().await, Outcome::Down(_)));
        redis.restart().await;
        recovered(&cache, Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            let (get, load) = caller.await.expect("no caller panicked");
            assert!(get < TIMEOUT + SLACK, "{kind}: a get took {get:?}");
            assert!(load < 3 * TIMEOUT + SLACK, "{kind}: a get_or_load took {load:?}");
        }
        assert_eq!(cache.health_check().run().await, Outcome::Up);
    }
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
    let mut kinds = Vec::new();
    while !cache.stats().adapter.breaker_open {
        let start = Instant::now();
        let error = cache.get::<u8>("k").await.expect_err("silence is no answer");
        assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}", start.elapsed());
        kinds.push(error.kind());
        assert!(
            kinds.len() <= 5,
            "the breaker opens after five failures: {kinds:?}"
        );
    }
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Timeout), "{kinds:?}");
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

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
            },
        );
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                let _ = writeln!(self.0.lock().unwrap(), "{field}={value:?}");
            },
        );
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn the_password_is_shown_nowhere_and_a_corrected_one_is_noticed() {
    const PASSWORD: &str = "hunter2-secret";
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let redis = TestRedis::start().await;
    let require = |password: &str, with: &str| {
        let url = format!("redis://:{with}@127.0.0.1:{}", redis.port());
        let mut admin = ::redis::Client::open(url)
            .expect("a good URL")
            .get_connection()
            .expect("up");
        ::redis::cmd("CONFIG")
            .arg("SET")
            .arg("requirepass")
            .arg(password)
            .exec(&mut admin)
            .expect("allowed");
    };
    {
        let mut admin = ::redis::Client::open(redis.url())
            .expect("a good URL")
            .get_connection()
            .expect("up");
        ::redis::cmd("CONFIG")
            .arg("SET")
            .arg("requirepass")
            .arg("other")
            .exec(&mut admin)
            .expect("allowed");
    }
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}/0", redis.port());
    let config = config("tiered", &url);
    let cache = build(&config).await;
    let error = cache.set("k", &1, None).await.expect_err("the wrong password");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let mut seen = format!(
        "{config:?} {cache:?} {error} {error:?} {:?}",
        RedisAdapter::new(&config)
    );
    let mut cause = std::error::Error::source(&error);
    while let Some(source) = cause {
        let _ = write!(seen, "{source} {source:?}");
        cause = source.source();
    }
    let _ = write!(seen, "{:?}", cache.health_check().run().await);
    require(PASSWORD, "other");
    recovered(&cache, Duration::from_secs(5)).await;
    redis.stop().await;
    for _ in 0..6 {
        let _ = cache.set("k", &1, None).await;
    }
    let mut bad = config.clone();
    bad.redis_url = Some(Secret::new(format!("redis://u:{PASSWORD}@h:nonsense/x")));
    let error = CacheFactory::new().build(&bad).await.expect_err("no such URL");
    let _ = write!(seen, "{error} {error:?}");
    tokio::task::yield_now().await;
    seen.push_str(&log.0.lock().unwrap());
    assert!(seen.contains("suspended"), "the log was watched: {seen}");
    assert!(!seen.contains("hunter2"), "{seen}");
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
        async fn get(&self, _: &str) -> zhuji_cache::Result<Option<bytes::Bytes>> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instances_write_is_seen_within_the_bound() {
    let redis = TestRedis::start().await;
    let config = CacheConfig {
        local_ttl: Duration::from_millis(1500),
        timeout: Duration::from_secs(2),
        ..config("tiered", redis.url())
    };
    let (one, two) = (build(&config).await, build(&config).await);
    one.set("k", &1, None).await.expect("up");
    assert_eq!(two.get::<u8>("k").await.expect("up"), Some(1));
    one.set("k", &2, None).await.expect("up");
    assert_eq!(
        one.get::<u8>("k").await.expect("up"),
        Some(2),
        "the writer sees its own write at once"
    );
    assert_eq!(
        two.get::<u8>("k").await.expect("up"),
        Some(1),
        "answered from memory"
    );
    assert_eq!(two.stats().adapter.local_hits, 1);
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(two.get::<u8>("k").await.expect("up"), Some(2));
    one.delete("k").await.expect("up");
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(two.get::<u8>("k").await.expect("up"), None);

    // Fetched just before its end, a value does not live on in memory.
    one.set("short", &1, Ttl::exact(Duration::from_millis(1400)))
        .await
        .expect("up");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(two.get::<u8>("short").await.expect("up"), Some(1));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(two.get::<u8>("short").await.expect("up"), None);

    // What is in memory is served while the server is away.
    assert_eq!(
        one.get_or_load("warm", None, async || Ok::<_, Infallible>(1))
            .await
            .expect("infallible"),
        1
    );
    redis.stop().await;
    assert_eq!(one.get::<u8>("warm").await.expect("from memory"), Some(1));
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
