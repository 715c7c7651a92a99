//! Values, counters and their ends.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use zhuji_cache::{Cache, CacheAdapter, CacheConfig, ErrorKind, Ttl};

use crate::{Bench, Broken, MINUTE, Paper, bench, paper};

pub(crate) async fn set_get_overwrite_delete(kind: &str) {
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

pub(crate) async fn entries_end_on_time(kind: &str) {
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

pub(crate) async fn odd_keys(kind: &str) {
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

pub(crate) async fn any_bytes_and_sizes(kind: &str) {
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

pub(crate) async fn another_type_is_a_miss(kind: &str) {
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

pub(crate) async fn hostile_stored_bytes_are_misses(kind: &str) {
    let Bench { raw, .. } = &bench(kind).await;
    let spy = Arc::new(Spy {
        inner: raw.clone(),
        last_set: Mutex::default(),
    });
    let cache = Cache::new(spy.clone(), &CacheConfig::default());
    let nested = [&b"\x01"[..], "[".repeat(200_000).as_bytes()].concat();
    let hostile: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x01",
        b"\x01{\"title\":",
        b"\x03\x00\x00{}",
        b"\xff\xff\xff\xff",
        b"\x01\xc3\x28",
        &nested,
    ];
    for (n, bytes) in hostile.iter().enumerate() {
        let key = format!("h{n}");
        cache.set(&key, &1, MINUTE).await.unwrap();
        let full = spy.last_set.lock().unwrap().clone();
        assert!(full.ends_with(&key), "{full}");
        raw.set(&full, Bytes::copy_from_slice(bytes), MINUTE)
            .await
            .unwrap();
        assert_eq!(cache.get::<serde_json::Value>(&key).await.unwrap(), None, "{n}");
        assert_eq!(cache.get_bytes(&key).await.unwrap(), None, "{n}");
        let loaded = cache
            .get_or_refresh(&key, MINUTE, MINUTE, async || Ok::<_, Broken>(7))
            .await;
        assert_eq!(loaded.unwrap(), 7, "{n}");
    }
    assert_eq!(cache.stats().decode_errors, 24);
}

pub(crate) async fn many_at_once(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    let keys: Vec<String> = (0..1200).map(|n| format!("k{n}")).collect();
    let numbers: Vec<usize> = (0..1200).collect();
    assert_eq!(cache.get_many::<usize>(&[] as &[&str]).await.unwrap(), []);
    cache
        .set_many(std::iter::empty::<(&str, &u8)>(), MINUTE)
        .await
        .unwrap();
    cache.set_many(keys.iter().zip(&numbers), MINUTE).await.unwrap();
    cache.set("k7", "seven", MINUTE).await.unwrap();
    cache.delete("k8").await.unwrap();
    for _ in 0..2 {
        let found = cache.get_many::<usize>(&keys).await.unwrap();
        let wanted = numbers.iter().map(|n| (![7, 8].contains(n)).then_some(*n));
        assert!(found.iter().copied().eq(wanted), "{found:?}");
    }
    assert_eq!(
        cache
            .get_many::<usize>(&["k9", "none", "k3", "k9"])
            .await
            .unwrap(),
        [Some(9), None, Some(3), Some(9)]
    );
    let stats = cache.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.decode_errors),
        (2399, 5, 2),
        "{stats:?}"
    );

    // All or nothing: what can't be stored keeps the rest out.
    let bad = std::collections::BTreeMap::from([(vec![1], 1)]);
    let error = cache
        .set_many([("new1", &Ok(1)), ("new2", &Err(&bad))], MINUTE)
        .await
        .expect_err("no JSON form");
    assert_eq!(error.kind(), ErrorKind::Encode);
    let error = cache
        .set_many([("new1", &1), ("", &1)], MINUTE)
        .await
        .expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        cache.get_many::<u8>(&["new1", "new2"]).await.unwrap(),
        [None, None]
    );
    let short = Ttl::exact(Duration::from_millis(300));
    cache.set_many([("s1", &1), ("s2", &2)], short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cache.get_many::<u8>(&["s1", "s2"]).await.unwrap(), [None, None]);
}

/// Readers of the store itself: what each process holds in memory before it is the tiers' subject.
pub(crate) async fn a_batch_is_seen_whole_or_not_at_all(kind: &str) {
    let Bench { cache, raw, .. } = &bench(kind).await;
    let keys: Vec<String> = (0..100).map(|n| format!("b{n}")).collect();
    cache
        .set_many(keys.iter().map(|key| (key, &0)), MINUTE)
        .await
        .unwrap();
    let reader = Cache::new(raw.clone(), &CacheConfig::default());
    let writer = tokio::spawn({
        let (cache, keys) = (cache.clone(), keys.clone());
        async move {
            for round in 1..=50 {
                cache
                    .set_many(keys.iter().map(|key| (key, &round)), MINUTE)
                    .await
                    .unwrap();
            }
        }
    });
    let mut seen = HashSet::new();
    while !writer.is_finished() {
        let values = reader.get_many::<i32>(&keys).await.unwrap();
        assert!(
            values.iter().all(|value| value.is_some() && *value == values[0]),
            "{values:?}"
        );
        seen.insert(values[0]);
    }
    writer.await.unwrap();
    assert_eq!(reader.get_many::<i32>(&keys).await.unwrap(), vec![Some(50); 100]);
}

pub(crate) async fn time_to_live_is_told_and_moved(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    assert!(!cache.exists("k").await.unwrap());
    assert_eq!(cache.ttl("k").await.unwrap(), None);
    assert!(!cache.touch("k", MINUTE).await.unwrap());
    cache
        .set("k", &1, Ttl::exact(Duration::from_millis(1500)))
        .await
        .unwrap();
    cache.set("end", &1, MINUTE).await.unwrap();
    assert!(cache.exists("k").await.unwrap());
    let left = cache.ttl("k").await.unwrap().expect("it is there");
    assert!(
        left <= Duration::from_millis(1500) && left > Duration::ZERO,
        "{left:?}"
    );
    assert!(cache.touch("k", MINUTE).await.unwrap());
    assert!(
        cache
            .touch("end", Ttl::exact(Duration::from_millis(200)))
            .await
            .unwrap()
    );
    let left = cache.ttl("k").await.unwrap().expect("it is there");
    assert!((50..=66).contains(&left.as_secs()), "{left:?}");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(1), "it lives on");
    assert_eq!(cache.get::<u8>("end").await.unwrap(), None);
    assert!(!cache.exists("end").await.unwrap());
    let error = cache
        .touch("k", Duration::ZERO)
        .await
        .expect_err("no time to live");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // Every time to live is spread by a tenth.
    let mut seen = HashSet::new();
    for n in 0..20 {
        let key = format!("spread{n}");
        cache.set(&key, &1, Duration::from_secs(1000)).await.unwrap();
        let left = cache.ttl(&key).await.unwrap().expect("it is there").as_secs_f64();
        assert!((890.0..=1100.0).contains(&left), "{left}");
        seen.insert(left as u64);
    }
    assert!(seen.len() > 5, "{seen:?}");
}

pub(crate) async fn shared_values_are_the_same_value(kind: &str) {
    let Bench { cache, .. } = &bench(kind).await;
    assert_eq!(cache.get_shared::<Paper>("p").await.unwrap(), None);
    cache.set("p", &paper(), MINUTE).await.unwrap();
    let one = cache
        .get_shared::<Paper>("p")
        .await
        .unwrap()
        .expect("just stored");
    let two = cache
        .get_shared::<Paper>("p")
        .await
        .unwrap()
        .expect("just stored");
    assert_eq!(*one, paper());
    assert_eq!(
        Arc::ptr_eq(&one, &two),
        kind == "memory" || kind == "tiered",
        "decoded once where it lies here"
    );
    assert_eq!(
        *cache
            .get_shared::<serde_json::Value>("p")
            .await
            .unwrap()
            .expect("as JSON"),
        serde_json::json!(paper())
    );
    assert_eq!(
        cache.get_shared::<u8>("p").await.unwrap(),
        None,
        "another type is a miss"
    );
    cache
        .set("p", &Paper { year: 1, ..paper() }, MINUTE)
        .await
        .unwrap();
    assert_eq!(
        cache
            .get_shared::<Paper>("p")
            .await
            .unwrap()
            .expect("just stored")
            .year,
        1
    );
    let loaded = cache
        .get_or_load_shared("q", MINUTE, async || Ok::<_, Broken>(paper()))
        .await
        .unwrap();
    let again = cache
        .get_or_load_shared("q", MINUTE, async || Err::<Paper, _>(Broken("not asked")))
        .await
        .unwrap();
    assert_eq!((&*loaded, &*again), (&paper(), &paper()));
}

pub(crate) async fn counters(kind: &str) {
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

/// Passes the bare minimum on, and tells under which key a value was stored.
#[derive(Debug)]
struct Spy {
    inner: Arc<dyn CacheAdapter>,
    last_set: Mutex<String>,
}

#[async_trait::async_trait]
impl CacheAdapter for Spy {
    fn name(&self) -> &'static str {
        "spy"
    }
    async fn get(&self, key: &str) -> zhuji_cache::Result<Option<Bytes>> {
        self.inner.get(key).await
    }
    async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> zhuji_cache::Result<()> {
        *self.last_set.lock().unwrap() = key.to_owned();
        self.inner.set(key, value, ttl).await
    }
    async fn delete(&self, key: &str) -> zhuji_cache::Result<bool> {
        self.inner.delete(key).await
    }
    async fn check(&self) -> zhuji_cache::Result<()> {
        self.inner.check().await
    }
}
