//! Many callers of one key that is not there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use zhuji_cache::{Cache, CacheConfig, CacheFactory};
use zhuji_testkit::TestRedis;

use super::MOKA;
use crate::report::{Better, Row};
use crate::rounds::{Samples, Side, order};
use crate::suite::{Options, Suite};

const CALLERS: usize = 1000;
/// What a load takes.
const LOAD: Duration = Duration::from_millis(10);
const VALUE: u64 = 42;

pub(super) async fn measure(redis: &TestRedis, options: &Options, suite: &mut Suite) -> anyhow::Result<()> {
    for kind in ["memory", "redis"] {
        let case = format!("get_or_load, {CALLERS} callers of one missing key, {kind}");
        if !options.wants(&case) {
            continue;
        }
        let config = CacheConfig {
            kind: Some(kind.to_owned()),
            redis_url: Some(redis.url().into()),
            ..CacheConfig::default()
        };
        let ours = CacheFactory::new().build(&config).await?;
        let theirs = moka::future::Cache::<String, u64>::new(10_000);
        let mut loads = Vec::new();
        let mut times = Samples::default();
        for round in 0..=options.short_rounds() {
            for side in order(round) {
                let key: Arc<str> = format!("missing:{round}").into();
                let (took, count) = match side {
                    Side::Ours => herd(key, |key, count| our_load(ours.clone(), key, count)).await?,
                    Side::Theirs => herd(key, |key, count| their_load(theirs.clone(), key, count)).await?,
                };
                if round > 0 {
                    times.add(side, took.as_secs_f64() * 1e3);
                    if side == Side::Ours {
                        loads.push(count as f64);
                    }
                }
            }
        }
        suite.rows.push(Row::against_target(
            format!("{case}: loads"),
            "loads",
            Better::Less,
            1.0,
            &loads,
        ));
        // Against a cache in this process, which says nothing of one behind a socket.
        if kind == "memory" {
            let case = format!("{case}: until all have it");
            suite
                .rows
                .push(Row::against_peer(case, "ms", Better::Less, MOKA, &times));
        }
    }
    Ok(())
}

async fn our_load(cache: Cache, key: Arc<str>, loads: Arc<AtomicUsize>) -> anyhow::Result<u64> {
    let value = cache
        .get_or_load(&key, Duration::from_secs(60), || load(loads))
        .await;
    value.context("the loader does not fail")
}

async fn their_load(
    cache: moka::future::Cache<String, u64>,
    key: Arc<str>,
    loads: Arc<AtomicUsize>,
) -> anyhow::Result<u64> {
    let value = cache.try_get_with_by_ref(&*key, load(loads)).await;
    value.context("the loader does not fail")
}

async fn load(loads: Arc<AtomicUsize>) -> Result<u64, Infallible> {
    loads.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(LOAD).await;
    Ok(VALUE)
}

/// Lets all callers ask at once; how long it took until the last had its answer, and how many loads.
async fn herd<F, Fut>(key: Arc<str>, ask: F) -> anyhow::Result<(Duration, usize)>
where
    F: Fn(Arc<str>, Arc<AtomicUsize>) -> Fut,
    Fut: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    let loads = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(ask(key.clone(), loads.clone())))
        .collect();
    for task in tasks {
        let value = task.await??;
        ensure!(value == VALUE, "a caller got {value}");
    }
    Ok((begin.elapsed(), loads.load(Ordering::Relaxed)))
}
