//! One suite over every adapter: what the handle promises must hold wherever the values are.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod loads;
mod locks;
mod scopes;
mod values;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zhuji_cache::{Cache, CacheAdapter, CacheConfig, CacheFactory, MemoryAdapter};
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
    let (kind, redis) = match kind {
        "rediss" => ("redis", TestRedis::start_with_tls().await),
        kind => (kind, TestRedis::start().await),
    };
    let config = CacheConfig {
        kind: Some(kind.to_owned()),
        redis_url: Some(Secret::new(redis.url())),
        redis_ca_file: redis
            .url()
            .starts_with("rediss")
            .then(|| redis.authority().to_owned()),
        connect_timeout: Duration::from_secs(5),
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
    if kind == "tiered" {
        // What is in memory when the subscription begins is dropped: not in the middle of a case.
        until("it listens", async || cache.stats().adapter.flushes == 1).await;
    }
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

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

mod health {
    use crate::{Bench, bench};

    pub(crate) async fn health_is_up_and_not_critical(kind: &str) {
        let Bench { cache, .. } = &bench(kind).await;
        let check = cache.health_check();
        assert_eq!((check.name(), check.critical()), ("cache", false));
        assert_eq!(check.run().await, zhuji_health::Outcome::Up);
    }
}

macro_rules! suite {
    ($($module:ident::$case:ident),* $(,)?) => {
        suite!(@on memory: $($module::$case)*);
        suite!(@on redis: $($module::$case)*);
        suite!(@on rediss: $($module::$case)*);
        suite!(@on tiered: $($module::$case)*);
    };
    (@on $kind:ident: $($module:ident::$case:ident)*) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { crate::$module::$case(stringify!($kind)).await })*
        }
    };
}

suite!(
    values::set_get_overwrite_delete,
    values::entries_end_on_time,
    values::odd_keys,
    values::any_bytes_and_sizes,
    values::another_type_is_a_miss,
    values::hostile_stored_bytes_are_misses,
    values::many_at_once,
    values::a_batch_is_seen_whole_or_not_at_all,
    values::time_to_live_is_told_and_moved,
    values::shared_values_are_the_same_value,
    values::counters,
    scopes::namespaces_do_not_meet,
    scopes::a_namespace_is_dropped_in_one_step,
    loads::one_load_for_many_callers,
    loads::a_load_error_reaches_all_and_stays_nowhere,
    loads::a_lost_leader_strands_nobody,
    loads::a_delete_during_a_load_wins,
    loads::callers_of_other_types_help_themselves,
    loads::nothing_can_be_cached_too,
    loads::a_panic_of_the_loader_reaches_all_and_stays_nowhere,
    loads::there_is_none_lives_for_its_own_time,
    loads::a_stale_value_is_served_while_a_new_one_is_loaded,
    loads::a_delete_during_a_refresh_wins,
    loads::one_load_in_two_processes,
    locks::one_holder_at_a_time,
    locks::a_held_lock_is_extended_and_an_abandoned_one_ends,
    locks::fifty_take_turns,
    health::health_is_up_and_not_critical,
);
