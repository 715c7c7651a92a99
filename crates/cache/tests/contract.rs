//! One suite over every adapter: what the handle promises must hold wherever the values are.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use zhuji_cache::{Cache, CacheAdapter, CacheConfig, CacheFactory, ErrorKind, MemoryAdapter, Ttl};
use zhuji_config::Secret;
use zhuji_testkit::TestRedis;

const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    cache: Cache,
    /// The same values without the handle's format byte and scopes; for `tiered` the shared store.
    raw: Arc<dyn CacheAdapter>,
    _redis: Option<TestRedis>,
}

async fn bench(kind: &str) -> Bench {
    if kind == "memory" {
        let raw: Arc<dyn CacheAdapter> = Arc::new(MemoryAdapter::new(64 << 20));
        return Bench {
            cache: Cache::new(raw.clone(), &CacheConfig::default()),
            raw,
            _redis: None,
        };
    }
    let redis = TestRedis::start().await;
    let config = CacheConfig {
        kind: Some(kind.to_owned()),
        redis_url: Some(Secret::new(redis.url())),
        // The suite runs on busy machines; how short a timeout can be is `outage.rs`'s subject.
        timeout: Duration::from_secs(5),
        ..CacheConfig::default()
    };
    let raw = Arc::new(zhuji_cache::RedisAdapter::new(&config).expect("a good URL"));
    let cache = CacheFactory::new()
        .build(&config)
        .await
        .expect("a good configuration");
    assert_eq!(cache.adapter_name(), kind);
    Bench {
        cache,
        raw,
        _redis: Some(redis),
    }
}

#[derive(Debug)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Paper {
    title: String,
    year: u16,
    authors: Vec<String>,
}

fn paper() -> Paper {
    Paper {
        title: "血铅 and “blood lead”".into(),
        year: 2022,
        authors: vec!["Menon".into(), "李".into()],
    }
}

async fn set_get_overwrite_delete(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), None);
    cache.set("p", &paper(), MINUTE).await.unwrap();
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), Some(paper()));
    let newer = Paper {
        year: 2023,
        ..paper()
    };
    cache.set("p", &newer, None).await.unwrap();
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), Some(newer));
    assert!(cache.delete("p").await.unwrap());
    assert!(!cache.delete("p").await.unwrap());
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), None);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.errors), (2, 2, 0), "{stats:?}");
}

async fn entries_end_on_time(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    cache
        .set("short", &1, Ttl::exact(Duration::from_millis(1000)))
        .await
        .unwrap();
    cache
        .set("renewed", &1, Ttl::exact(Duration::from_millis(1000)))
        .await
        .unwrap();
    cache.set("cut", &1, MINUTE).await.unwrap();
    cache.set("renewed", &2, MINUTE).await.unwrap();
    cache
        .set("cut", &2, Ttl::exact(Duration::from_millis(1000)))
        .await
        .unwrap();
    assert_eq!(cache.get::<u32>("short").await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(cache.get::<u32>("short").await.unwrap(), None);
    assert_eq!(cache.get::<u32>("renewed").await.unwrap(), Some(2));
    assert_eq!(cache.get::<u32>("cut").await.unwrap(), None);
    let zero = cache
        .set("zero", &1, Duration::ZERO)
        .await
        .expect_err("no time to live");
    assert_eq!(zero.kind(), ErrorKind::InvalidInput);
}

async fn odd_keys(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let long = "k".repeat(60_000);
    let keys = [
        "a b",
        "ключ/文献/🧪",
        "a\0b",
        "a\r\nDEL x",
        "a:b",
        "%3A",
        "*",
        "{x}",
        long.as_str(),
    ];
    for (n, key) in keys.iter().enumerate() {
        cache.set(key, &n, MINUTE).await.unwrap();
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(cache.get::<usize>(key).await.unwrap(), Some(n), "{key:?}");
    }
    for bad in ["", &"k".repeat(70_000)] {
        let error = cache.get::<u8>(bad).await.expect_err("an unusable key");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().len() < 400);
        let loaded = cache.get_or_load(bad, MINUTE, async || Ok::<_, Broken>(7)).await;
        assert_eq!(
            loaded.unwrap(),
            7,
            "a key that can't be used must not break the loader"
        );
    }
}

async fn any_bytes_and_sizes(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let big: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    for (key, value) in [("empty", vec![]), ("odd", vec![0, 255, 13, 10, 1]), ("big", big)] {
        cache.set_bytes(key, &value, MINUTE).await.unwrap();
        let read = cache.get_bytes(key).await.unwrap().expect("just stored");
        assert!(read == value, "{key}: {} bytes", read.len());
    }
    let text = "文".repeat(300_000);
    cache.set("text", &text, MINUTE).await.unwrap();
    assert!(cache.get::<String>("text").await.unwrap() == Some(text));
}

async fn another_type_is_a_miss(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    cache.set("p", "just text", MINUTE).await.unwrap();
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), None);
    assert_eq!(cache.get_bytes("p").await.unwrap(), None);
    assert_eq!(cache.stats().decode_errors, 2);
    let loaded: Paper = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>(paper()))
        .await
        .unwrap();
    assert_eq!(loaded, paper());
    assert_eq!(
        cache.get::<Paper>("p").await.unwrap(),
        Some(paper()),
        "the misfit was replaced"
    );
}

async fn hostile_stored_bytes_are_misses(kind: &str) {
    let Bench { cache, raw, .. } = &bench(kind).await;
    let nested = [&b"\x01"[..], "[".repeat(200_000).as_bytes()].concat();
    let hostile: [&[u8]; 7] = [
        b"",
        b"\x00",
        b"\x01",
        b"\x01{\"title\":",
        b"\xff\xff\xff\xff",
        b"\x01\xc3\x28",
        &nested,
    ];
    for (n, bytes) in hostile.iter().enumerate() {
        let key = format!("h{n}");
        raw.set(&key, Bytes::copy_from_slice(bytes), MINUTE)
            .await
            .unwrap();
        assert_eq!(cache.get::<serde_json::Value>(&key).await.unwrap(), None, "{n}");
        assert_eq!(cache.get_bytes(&key).await.unwrap(), None, "{n}");
    }
    assert_eq!(cache.stats().decode_errors, 14);
}

async fn namespaces_do_not_meet(kind: &str) {
    let Bench { cache, raw, .. } = &bench(kind).await;
    let scopes = ["asl", "as", "asl:", "%3A", "asl%3A", ""];
    for (n, scope) in scopes.iter().enumerate() {
        cache.scoped(scope).set("k", &n, MINUTE).await.unwrap();
    }
    for (n, scope) in scopes.iter().enumerate() {
        assert_eq!(
            cache.scoped(scope).get::<usize>("k").await.unwrap(),
            Some(n),
            "{scope:?}"
        );
    }
    let nested = cache.scoped("asl").scoped("pdf");
    nested.set("k", &"nested", MINUTE).await.unwrap();
    assert!(raw.get("asl:pdf:k").await.unwrap().is_some());
    assert_eq!(cache.scoped("asl").get::<usize>("k").await.unwrap(), Some(0));
    cache.scoped("asl").delete("k").await.unwrap();
    assert_eq!(
        nested.get::<String>("k").await.unwrap().as_deref(),
        Some("nested")
    );
}

async fn counters(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let tasks = (0..20).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..10 {
                seen.push(cache.increment("n", 3, MINUTE).await.unwrap());
            }
            seen
        })
    });
    let mut seen = HashSet::new();
    for task in tasks.collect::<Vec<_>>() {
        seen.extend(task.await.unwrap());
    }
    assert_eq!(seen.len(), 200, "no count was handed out twice");
    assert_eq!(cache.increment("n", 0, MINUTE).await.unwrap(), 600);
    assert_eq!(cache.increment("n", -601, MINUTE).await.unwrap(), -1);
    cache.set("text", "7", MINUTE).await.unwrap();
    let error = cache
        .increment("text", 1, MINUTE)
        .await
        .expect_err("a value is no counter");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    cache.increment("max", i64::MAX, MINUTE).await.unwrap();
    let error = cache
        .increment("max", 1, MINUTE)
        .await
        .expect_err("no room above");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    let short = Ttl::exact(Duration::from_millis(1500));
    cache.increment("window", 1, short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(cache.increment("window", 1, short).await.unwrap(), 2);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(
        cache.increment("window", 1, short).await.unwrap(),
        1,
        "counting up does not move the end"
    );
}

async fn one_load_for_many_callers(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                cache
                    .get_or_load("p", MINUTE, async || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Ok::<_, Broken>(paper())
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), paper());
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get::<Paper>("p").await.unwrap(), Some(paper()));
    assert_eq!(cache.stats().loads, 1);
}

async fn a_load_error_reaches_all_and_stays_nowhere(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = Arc::new(AtomicU32::new(0));
    let load = |cache: Cache, loads: Arc<AtomicU32>| async move {
        cache
            .get_or_load::<Paper, _, _, _>("p", MINUTE, async || {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(Broken("the registry is down"))
            })
            .await
    };
    let tasks: Vec<_> = (0..50)
        .map(|_| tokio::spawn(load(cache.clone(), loads.clone())))
        .collect();
    for task in tasks {
        assert_eq!(
            task.await.unwrap().unwrap_err().to_string(),
            "the registry is down"
        );
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    let loaded: Paper = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>(paper()))
        .await
        .unwrap();
    assert_eq!(loaded, paper());
}

async fn a_lost_leader_strands_nobody(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    for panics in [false, true] {
        let key = format!("p{panics}");
        let (loading, die) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let leader = tokio::spawn({
            let (cache, key, loading, die) = (cache.clone(), key.clone(), loading.clone(), die.clone());
            async move {
                cache
                    .get_or_load::<Paper, Broken, _, _>(&key, MINUTE, async || {
                        loading.notify_one();
                        die.notified().await;
                        if panics {
                            panic!("on purpose");
                        }
                        std::future::pending().await
                    })
                    .await
            }
        });
        loading.notified().await;
        let loads = Arc::new(AtomicU32::new(0));
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                let (cache, key, loads) = (cache.clone(), key.clone(), loads.clone());
                tokio::spawn(async move {
                    cache
                        .get_or_load(&key, MINUTE, async || {
                            loads.fetch_add(1, Ordering::SeqCst);
                            Ok::<_, Broken>(paper())
                        })
                        .await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(loads.load(Ordering::SeqCst), 0, "the leader is still at it");
        die.notify_one();
        if !panics {
            leader.abort();
        }
        for waiter in waiters {
            let value = tokio::time::timeout(Duration::from_secs(20), waiter)
                .await
                .expect("not stranded");
            assert_eq!(value.unwrap().unwrap(), paper());
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(leader.await.is_err());
    }
}

async fn a_delete_during_a_load_wins(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let (loading, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (cache, loading, go_on) = (cache.clone(), loading.clone(), go_on.clone());
        async move {
            cache
                .get_or_load("p", MINUTE, async || {
                    loading.notify_one();
                    go_on.notified().await;
                    Ok::<_, Broken>("old".to_owned())
                })
                .await
        }
    });
    loading.notified().await;
    cache.delete("p").await.unwrap();
    let fresh: String = cache
        .get_or_load("p", MINUTE, async || Ok::<_, Broken>("new".to_owned()))
        .await
        .unwrap();
    assert_eq!(fresh, "new", "a load begun before the delete is not joined");
    go_on.notify_one();
    assert_eq!(slow.await.unwrap().unwrap(), "old");
    assert_eq!(cache.get::<String>("p").await.unwrap().as_deref(), Some("new"));
}

async fn callers_of_other_types_help_themselves(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let number = cache.get_or_load("x", MINUTE, async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Broken>(7)
    });
    let text = cache.get_or_load("x", MINUTE, async || Ok::<_, Broken>("seven".to_owned()));
    let odd = cache.get_or_load("y", MINUTE, async || {
        Ok::<_, Broken>(std::collections::BTreeMap::from([(vec![1], 1)])) // JSON has no such keys
    });
    let (number, text, odd) = tokio::join!(number, text, odd);
    assert_eq!((number.unwrap(), text.unwrap()), (7, "seven".to_owned()));
    assert_eq!(odd.unwrap().len(), 1);
    let error = cache
        .set("y", &std::collections::BTreeMap::from([(vec![1], 1)]), None)
        .await;
    assert_eq!(error.expect_err("no JSON form").kind(), ErrorKind::Encode);
}

async fn nothing_can_be_cached_too(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let loads = AtomicU32::new(0);
    for _ in 0..3 {
        let found: Option<Paper> = cache
            .get_or_load("absent", MINUTE, async || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Broken>(None)
            })
            .await
            .unwrap();
        assert_eq!(found, None);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

async fn health_is_up_and_not_critical(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let check = cache.health_check();
    assert_eq!((check.name(), check.critical()), ("cache", false));
    assert_eq!(check.run().await, zhuji_health::Outcome::Up);
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("memory").await })* }
        mod redis { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("redis").await })* }
        mod tiered { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("tiered").await })* }
    };
}

suite!(
    set_get_overwrite_delete,
    entries_end_on_time,
    odd_keys,
    any_bytes_and_sizes,
    another_type_is_a_miss,
    hostile_stored_bytes_are_misses,
    namespaces_do_not_meet,
    counters,
    one_load_for_many_callers,
    a_load_error_reaches_all_and_stays_nowhere,
    a_lost_leader_strands_nobody,
    a_delete_during_a_load_wins,
    callers_of_other_types_help_themselves,
    nothing_can_be_cached_too,
    health_is_up_and_not_critical,
);
