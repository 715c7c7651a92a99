//! What one instance writes, the others do not go on answering from memory.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use zhuji_cache::{Cache, CacheConfig, Ttl};
use zhuji_testkit::TestRedis;

use crate::{admin, build, config, recovered, until};

/// Memory that would answer for half a minute if nobody told it otherwise.
fn patient(redis: &TestRedis) -> CacheConfig {
    CacheConfig {
        local_ttl: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..config("tiered", redis.url())
    }
}

async fn two_instances(config: &CacheConfig) -> (Cache, Cache) {
    let (one, two) = (build(config).await, build(config).await);
    for cache in [&one, &two] {
        until("it listens", async || cache.stats().adapter.flushes == 1).await;
    }
    (one, two)
}

async fn number(cache: &Cache, key: &str) -> Option<u32> {
    cache.get(key).await.expect("up")
}

/// In memory, so that the next read is answered from there.
async fn hold(cache: &Cache, key: &str, value: u32) {
    until("it is held", async || {
        let before = cache.stats().adapter.local_hits;
        assert_eq!(number(cache, key).await, Some(value));
        cache.stats().adapter.local_hits > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_write_is_told() {
    let redis = TestRedis::start().await;
    let (one, two) = two_instances(&patient(&redis)).await;
    let start = Instant::now();

    one.set("k", &1, None).await.expect("up");
    hold(&two, "k", 1).await;
    one.set("k", &2, None).await.expect("up");
    assert_eq!(
        number(&one, "k").await,
        Some(2),
        "the writer sees its own write at once"
    );
    until("a set", async || number(&two, "k").await == Some(2)).await;

    hold(&two, "k", 2).await;
    one.delete("k").await.expect("up");
    until("a delete", async || number(&two, "k").await.is_none()).await;

    let keys: Vec<String> = (0..700).map(|n| format!("m{n}")).collect();
    one.set_many(keys.iter().map(|key| (key, &1)), None)
        .await
        .expect("up");
    assert_eq!(two.get_many::<u32>(&keys).await.expect("up"), vec![Some(1); 700]);
    one.set_many(keys.iter().map(|key| (key, &2)), None)
        .await
        .expect("up");
    until("a batch", async || {
        two.get_many::<u32>(&keys).await.expect("up") == vec![Some(2); 700]
    })
    .await;

    one.set("t", &1, None).await.expect("up");
    hold(&two, "t", 1).await;
    one.touch("t", Ttl::exact(Duration::from_millis(1)))
        .await
        .expect("up");
    until("a shorter life", async || number(&two, "t").await.is_none()).await;

    let loaded = one
        .get_or_load("l", None, async || Ok::<_, Infallible>(1))
        .await
        .expect("infallible");
    hold(&two, "l", loaded).await;
    let (asl, other_asl) = (one.scoped("asl"), two.scoped("asl"));
    asl.set("k", &1, None).await.expect("up");
    hold(&other_asl, "k", 1).await;
    asl.clear().await.expect("up");
    assert_eq!(number(&asl, "k").await, None);
    until("a namespace's end", async || {
        number(&other_asl, "k").await.is_none()
    })
    .await;
    assert_eq!(number(&two, "l").await, Some(1), "the rest stays");

    // Nothing above ended because its time was up.
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "too slow to tell: {:?}",
        start.elapsed()
    );
    let stats = two.stats().adapter;
    assert_eq!(stats.flushes, 1, "no message was lost: {stats:?}");
    assert!(stats.invalidations >= 704, "{stats:?}");
    assert_eq!(
        one.stats().adapter.invalidations,
        0,
        "its own writes are not told to it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_subscription_drops_all_that_is_held() {
    let redis = TestRedis::start().await;
    let (one, two) = two_instances(&patient(&redis)).await;
    for round in 2..5 {
        one.set("k", &1, None).await.expect("up");
        until("told", async || number(&two, "k").await == Some(1)).await;
        hold(&two, "k", 1).await;
        // Deaf for a moment; what is written meanwhile was told to nobody.
        let killed: u32 = admin(&redis, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(killed, 2);
        // Past every cache: no message at all, as if it had been lost.
        let keys: Vec<String> = admin(&redis, &["KEYS", "*:k"]);
        let _: String = admin(&redis, &["SET", &keys[0], "\u{1}99"]);
        until("it listens again", async || two.stats().adapter.flushes >= round).await;
        assert_eq!(number(&two, "k").await, Some(99));
        until("so does the other", async || one.stats().adapter.flushes >= round).await;
    }
}

/// The server answers nobody, and its connections stay open: only a ping finds that out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_subscription_is_noticed() {
    let redis = TestRedis::start().await;
    let config = CacheConfig {
        timeout: Duration::from_millis(100),
        ..patient(&redis)
    };
    let (_, two) = two_instances(&config).await;
    redis.pause().await;
    // Longer than the pause between pings and the wait for their answer, so that it has to be given up.
    tokio::time::sleep(Duration::from_secs(6)).await;
    redis.resume().await;
    until("it listens again", async || two.stats().adapter.flushes >= 2).await;
    recovered(&two, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_message_the_bound_holds() {
    let redis = TestRedis::start().await;
    let config = CacheConfig {
        local_ttl: Duration::from_millis(1500),
        ..patient(&redis)
    };
    let (one, two) = two_instances(&config).await;
    one.set("k", &1, None).await.expect("up");
    hold(&two, "k", 1).await;
    let keys: Vec<String> = admin(&redis, &["KEYS", "*:k"]);
    let _: String = admin(&redis, &["SET", &keys[0], "\u{1}2"]);
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(number(&two, "k").await, Some(2));

    // Fetched just before its end, a value does not live on in memory.
    one.set("short", &1, Ttl::exact(Duration::from_millis(1400)))
        .await
        .expect("up");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(number(&two, "short").await, Some(1));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(number(&two, "short").await, None);

    // What is in memory is served while the server is away.
    let loaded = one
        .get_or_load("warm", None, async || Ok::<_, Infallible>(1))
        .await
        .expect("infallible");
    redis.stop().await;
    assert_eq!(one.get::<u32>("warm").await.expect("from memory"), Some(loaded));
}
