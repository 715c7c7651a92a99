//! Counters that are cheap to add to. A number that all processors write to at every call goes back and forth between
//! them and costs more than the call's own work; so each thread writes to one of a few, and what has come together is
//! passed on to the metrics every now and then, and whenever someone asks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram};

const STRIPES: usize = 4;
/// So many are passed on together.
const BATCH: u64 = 64;

/// Its own cache line (two, for the processors that fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    MINE.with(|mine| *mine)
}

/// A number kept for `stats()` and passed on to the metrics facade.
pub(crate) struct Tally {
    stripes: [Line<AtomicU64>; STRIPES],
    published: AtomicU64,
    metric: Counter,
}

impl Tally {
    pub(crate) fn new(metric: Counter) -> Self {
        Self {
            stripes: Default::default(),
            published: AtomicU64::new(0),
            metric,
        }
    }

    pub(crate) fn add(&self) {
        let before = self.stripes[stripe()].0.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_multiple_of(BATCH) {
            self.get();
        }
    }

    /// Also brings the metric up to date.
    pub(crate) fn get(&self) -> u64 {
        let total = self
            .stripes
            .iter()
            .map(|stripe| stripe.0.load(Ordering::Relaxed))
            .sum();
        let published = self.published.fetch_max(total, Ordering::Relaxed);
        if total > published {
            self.metric.increment(total - published);
        }
        total
    }
}

/// How long calls took, and how many there were. Calls that took about as long (within a factor of two) come together
/// and are recorded with their mean, so the metric's count and sum are exact.
pub(crate) struct Timing {
    stripes: [Line<[AtomicU64; CLASSES]>; STRIPES],
    count: Counter,
    seconds: Histogram,
}

/// Below 16 µs, then each twice as long, up to 0.3 s and all above.
const CLASSES: usize = 16;
const SHORTEST_CLASS_BITS: u32 = 14;
/// A class is one number, count and sum, so that both are read and written in one step: 12 bits and 52 (52 days).
const COUNT_AT: u32 = 52;

impl Timing {
    pub(crate) fn new(count: Counter, seconds: Histogram) -> Self {
        Self {
            stripes: Default::default(),
            count,
            seconds,
        }
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanos >> (COUNT_AT - 12) != 0 {
            // Over a quarter of an hour: not to be added up in so few bits.
            return self.publish(1, took.as_secs_f64());
        }
        let class = (u64::BITS - (nanos >> SHORTEST_CLASS_BITS).leading_zeros()) as usize;
        let class = &self.stripes[stripe()].0[class.min(CLASSES - 1)];
        let before = class.fetch_add((1 << COUNT_AT) | nanos, Ordering::Relaxed);
        if (before >> COUNT_AT) + 1 >= BATCH {
            self.empty(class);
        }
    }

    /// Brings the metrics up to date.
    pub(crate) fn flush(&self) {
        self.stripes
            .iter()
            .flat_map(|stripe| &stripe.0)
            .for_each(|class| self.empty(class));
    }

    fn empty(&self, class: &AtomicU64) {
        let held = class.swap(0, Ordering::Relaxed);
        let (count, nanos) = (held >> COUNT_AT, held & ((1 << COUNT_AT) - 1));
        if count > 0 {
            self.publish(count, nanos as f64 / 1e9 / count as f64);
        }
    }

    fn publish(&self, count: u64, mean_seconds: f64) {
        self.count.increment(count);
        self.seconds
            .record_many(mean_seconds, usize::try_from(count).unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use metrics::{CounterFn, HistogramFn};

    use super::*;

    #[derive(Default)]
    struct Recorded {
        count: AtomicU64,
        samples: Mutex<Vec<(f64, usize)>>,
    }

    impl CounterFn for Recorded {
        fn increment(&self, by: u64) {
            self.count.fetch_add(by, Ordering::Relaxed);
        }
        fn absolute(&self, _: u64) {}
    }

    impl HistogramFn for Recorded {
        fn record(&self, value: f64) {
            self.record_many(value, 1);
        }
        fn record_many(&self, value: f64, count: usize) {
            self.samples.lock().expect("not poisoned").push((value, count));
        }
    }

    #[test]
    fn nothing_is_lost_whoever_counts() {
        let recorded = Arc::new(Recorded::default());
        let tally = Tally::new(Counter::from_arc(recorded.clone()));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| (0..10_001).for_each(|_| tally.add()));
            }
        });
        assert!(
            recorded.count.load(Ordering::Relaxed) >= 50_000,
            "passed on while it is counted"
        );
        assert_eq!(tally.get(), 60_006);
        assert_eq!(recorded.count.load(Ordering::Relaxed), 60_006);
        tally.get();
        assert_eq!(recorded.count.load(Ordering::Relaxed), 60_006);
    }

    #[test]
    fn times_keep_their_count_their_sum_and_about_their_size() {
        let recorded = Arc::new(Recorded::default());
        let timing = Timing::new(
            Counter::from_arc(recorded.clone()),
            Histogram::from_arc(recorded.clone()),
        );
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        timing.record(Duration::from_micros(100 + n % 10));
                        timing.record(Duration::from_millis(3));
                    }
                });
            }
        });
        timing.record(Duration::from_secs(3600));
        timing.record(Duration::ZERO);
        timing.flush();
        timing.flush();
        let samples = recorded.samples.lock().expect("not poisoned");
        let count_in = |range: std::ops::Range<f64>| -> usize {
            samples
                .iter()
                .filter(|(value, _)| range.contains(value))
                .map(|(_, count)| count)
                .sum()
        };
        assert_eq!(
            (count_in(0.0001..0.00011), count_in(0.00299..0.00301)),
            (6000, 6000)
        );
        assert_eq!((count_in(3599.0..3601.0), count_in(0.0..0.000_001)), (1, 1));
        assert_eq!(recorded.count.load(Ordering::Relaxed), 12_002);
        let sum: f64 = samples.iter().map(|(value, count)| value * *count as f64).sum();
        assert!((sum - (3600.0 + 18.0 + 0.627)).abs() < 1e-6, "{sum}");
        assert!(samples.len() < 1000, "in batches: {}", samples.len());
    }
}
