use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use zhuji_db_pool::{DbConfig, DbPool, ErrorKind};
use zhuji_testkit::TestDatabase;

use crate::{config, eventually};

/// Keeps what is recorded by this thread: a number for each metric.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

struct Count(Arc<AtomicU64>);

impl HistogramFn for Count {
    fn record(&self, _value: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorded {
    fn slot(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: String = key
            .labels()
            .map(|label| format!("{{{}={}}}", label.key(), label.value()))
            .collect();
        let name = format!("{}{labels}", key.name());
        Arc::clone(self.0.lock().expect("nobody panics").entry(name).or_default())
    }

    fn raw(&self, name: &str) -> u64 {
        let all = self.0.lock().expect("nobody panics");
        all.get(name).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.raw(name))
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.slot(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Count(self.slot(key))))
    }
}

#[tokio::test]
async fn what_the_pool_does_can_be_seen() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let database = TestDatabase::new().await;
    let config = DbConfig {
        acquire_timeout: Duration::from_millis(100),
        statement_timeout: Duration::from_millis(100),
        ..config(&database, 2)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    for _ in 0..3 {
        pool.query("SELECT 1", &[]).await.unwrap();
    }
    assert_eq!(recorded.raw("zhuji_db_acquire_seconds{pool=main}"), 5);
    assert_eq!(recorded.raw("zhuji_db_hold_seconds{pool=main}"), 5);
    assert_eq!(recorded.raw("zhuji_db_dial_seconds{pool=main}"), 2);

    let held = tokio::join!(pool.get(), pool.get());
    assert_eq!(pool.get().await.unwrap_err().kind(), ErrorKind::Saturated);
    assert_eq!(
        recorded.raw("zhuji_db_acquire_failures_total{pool=main}{reason=saturated}"),
        1
    );
    eventually("the gauges are shown", async || {
        recorded.gauge("zhuji_db_pool_in_use{pool=main}") == 2.0
    })
    .await;
    eventually("and the limit", async || {
        recorded.gauge("zhuji_db_pool_max{pool=main}") == 2.0
    })
    .await;
    drop(held);
    eventually("the gauges follow", async || {
        recorded.gauge("zhuji_db_pool_idle{pool=main}") == 2.0
    })
    .await;

    pool.query("SELECT pg_sleep(5)", &[]).await.unwrap_err();
    assert_eq!(recorded.raw("zhuji_db_statement_timeouts_total{pool=main}"), 1);
    let _monitor = pool.spawn_monitor();
    eventually("the server's connections are counted", async || {
        recorded.gauge("zhuji_db_server_max_connections") > 0.0
    })
    .await;
}
