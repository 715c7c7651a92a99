//! The server goes away under load, and comes back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zhuji_cache::Cache;
use zhuji_health::Outcome;
use zhuji_testkit::TestRedis;

use crate::{SLACK, TIMEOUT, build, config, recovered};

/// Callers that read, load and count until they are stopped.
struct Crowd {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<Took>>,
}

/// How long calls took.
#[derive(Default)]
struct Took {
    get: Vec<Duration>,
    load: Vec<Duration>,
    increment: Vec<Duration>,
}

impl Crowd {
    fn gather(cache: &Cache) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let callers = (0..32).map(|caller| {
            let (cache, stop, served) = (cache.clone(), stop.clone(), served.clone());
            tokio::spawn(async move {
                let mut took = Took::default();
                let mut round = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let start = Instant::now();
                    let _ = cache.get::<u64>(&format!("plain/{}", round % 5)).await;
                    took.get.push(start.elapsed());
                    let start = Instant::now();
                    let key = format!("load/{caller}/{}", round % 7);
                    let load = async || Ok::<_, Infallible>(round);
                    cache
                        .get_or_load(&key, Duration::from_millis(50), load)
                        .await
                        .expect("it can't fail");
                    took.load.push(start.elapsed());
                    let start = Instant::now();
                    let _ = cache.increment("n", 1, None).await;
                    took.increment.push(start.elapsed());
                    served.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                took
            })
        });
        Self {
            callers: callers.collect(),
            stop,
            served,
        }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    async fn leave(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Took::default();
        for caller in self.callers {
            let took = caller.await.expect("no caller panicked");
            all.get.extend(took.get);
            all.load.extend(took.load);
            all.increment.extend(took.increment);
        }
        for (call, took, bound) in [
            ("get", all.get, TIMEOUT),
            ("increment", all.increment, TIMEOUT),
            // Before the load and after it.
            ("load", all.load, 2 * TIMEOUT),
        ] {
            in_time(&format!("{what}, {call}"), took, bound);
        }
    }
}

/// A busy machine may hold up a few calls; a stall would hold up many. (Of a server that is away for three seconds each
/// caller would see some twenty calls in time before and a few that are not.)
fn in_time(what: &str, mut took: Vec<Duration>, bound: Duration) {
    took.sort_unstable();
    let (tight, loose) = (bound + bound / 5, bound + SLACK);
    let late = took.iter().filter(|took| **took > tight).count();
    let longest = took.last().copied().unwrap_or_default();
    println!(
        "{what}: {} calls, {late} beyond {tight:?}, longest {longest:?}",
        took.len()
    );
    assert!(
        late * 100 <= took.len(),
        "{what}: {late} of {} beyond {tight:?}",
        took.len()
    );
    assert!(longest < loose, "{what}: {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_for_three_seconds() {
    for kind in ["redis", "tiered"] {
        let redis = TestRedis::start().await;
        let cache = build(&config(kind, redis.url())).await;
        recovered(&cache, Duration::from_secs(5)).await;
        let lock = cache
            .try_lock("l", Duration::from_secs(2))
            .await
            .expect("up")
            .expect("free");
        let crowd = Crowd::gather(&cache);
        tokio::time::sleep(Duration::from_millis(500)).await;
        redis.stop_hard().await;
        let at_kill = crowd.served();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let during = crowd.served() - at_kill;
        assert!(
            during > 1000,
            "{kind}: get_or_load goes on without Redis, served {during}"
        );
        let refused = [
            cache
                .set("k", &1, None)
                .await
                .expect_err("an explicit write says so"),
            cache
                .increment("n", 1, None)
                .await
                .expect_err("a counter says so"),
            cache
                .try_lock("l2", Duration::from_secs(2))
                .await
                .expect_err("a lock says so"),
            cache.clear().await.expect_err("a namespace's end says so"),
        ];
        for error in refused {
            assert!(error.is_unavailable() && error.is_retryable(), "{error:?}");
        }
        assert!(lock.is_lost(), "{kind}: it could not be extended");
        assert!(cache.stats().adapter.breaker_open);
        assert!(matches!(cache.health_check().run().await, Outcome::Down(_)));
        redis.start_again().await;
        recovered(&cache, Duration::from_secs(5)).await;
        crowd.leave(kind).await;
        assert_eq!(cache.health_check().run().await, Outcome::Up);
    }
}

/// The kernel goes on taking connections and bytes for a stopped process; nothing is ever refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_for_three_seconds() {
    for kind in ["redis", "tiered"] {
        let redis = TestRedis::start().await;
        let cache = build(&config(kind, redis.url())).await;
        recovered(&cache, Duration::from_secs(5)).await;
        let crowd = Crowd::gather(&cache);
        tokio::time::sleep(Duration::from_millis(500)).await;
        redis.pause().await;
        let at_stop = crowd.served();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let during = crowd.served() - at_stop;
        assert!(
            during > 1000,
            "{kind}: get_or_load goes on without Redis, served {during}"
        );
        redis.resume().await;
        recovered(&cache, Duration::from_secs(10)).await;
        crowd.leave(kind).await;
    }
}

/// Another instance writes while this one can't hear it. Once both are connected again, what this one answers is never
/// older than the bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_nothing_is_older_than_its_bound() {
    let redis = TestRedis::start().await;
    let config = zhuji_cache::CacheConfig {
        local_ttl: Duration::from_secs(2),
        ..config("tiered", redis.url())
    };
    let (writer, reader) = (build(&config).await, build(&config).await);
    recovered(&writer, Duration::from_secs(5)).await;
    recovered(&reader, Duration::from_secs(5)).await;
    // The n-th write is made at `written[n]`.
    let written = Arc::new(std::sync::Mutex::new(vec![Instant::now()]));
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (written, stop) = (written.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let n = written.lock().expect("not poisoned").len();
                // Only what the store has taken is out: a write that failed here may be seen by nobody.
                if writer.set("k", &n, None).await.is_ok() {
                    written.lock().expect("not poisoned").push(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let reading = tokio::spawn({
        let (written, stop) = (written.clone(), stop.clone());
        async move {
            let mut oldest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                if let Ok(Some(n)) = reader.get::<usize>("k").await {
                    // Out of date since the write after it.
                    let next = written.lock().expect("not poisoned").get(n + 1).copied();
                    oldest =
                        oldest.max(next.map_or(Duration::ZERO, |next| asked.saturating_duration_since(next)));
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            oldest
        }
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        redis.stop_hard().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        redis.start_again().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.expect("it wrote");
    let oldest = reading.await.expect("it read");
    let writes = written.lock().expect("not poisoned").len();
    println!("{writes} writes; a value was answered at most {oldest:?} after it was replaced");
    assert!(writes > 50, "{writes}");
    assert!(oldest < config.local_ttl + SLACK, "{oldest:?}");
}
