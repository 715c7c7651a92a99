//! Passwords stay out of sight.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zhuji_cache::{CacheFactory, ErrorKind, RedisAdapter};
use zhuji_config::Secret;
use zhuji_testkit::TestRedis;

use crate::{build, config, recovered};

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
