//! The last minutes, in a ring that never grows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use zhuji_metrics::MetricsExporter;

use super::exposition::{Exposition, Series};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// Ten minutes of them.
pub(super) const SAMPLES: usize = 120;
/// The pages themselves are left out: a page that loads itself again would never show a quiet service.
const PAGES: &str = "/admin";

/// Samples of this process, the oldest first.
pub(crate) struct History {
    samples: Mutex<VecDeque<Sample>>,
}

/// What happened between two looks at the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// Answers of 500 and above.
    pub(super) errors_per_second: f64,
    /// `None` if there was no request.
    pub(super) p99_seconds: Option<f64>,
    pub(super) pool_in_use: Option<f64>,
}

impl History {
    /// Samples until nobody holds the history any more.
    pub(crate) fn start(metrics: MetricsExporter) -> Arc<Self> {
        let history = Arc::new(Self {
            samples: Mutex::default(),
        });
        tokio::spawn(Self::follow(Arc::downgrade(&history), metrics));
        history
    }

    async fn follow(history: Weak<Self>, metrics: MetricsExporter) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before: Option<(Instant, Totals)> = None;
        loop {
            ticks.tick().await;
            let Some(history) = history.upgrade() else { return };
            let text = metrics.render();
            let totals = Totals::of(&Exposition::read(&text));
            let now = Instant::now();
            if let Some((then, before)) = &before {
                history.push(totals.since(before, now.duration_since(*then)));
            }
            before = Some((now, totals));
        }
    }

    fn push(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().copied().collect()
    }
}

/// Counters since the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Upper bounds in seconds, and how many requests were not slower.
    buckets: Vec<(f64, f64)>,
    pool_in_use: Option<f64>,
}

impl Totals {
    pub(super) fn of(metrics: &Exposition<'_>) -> Self {
        let mut totals = Self::default();
        for series in metrics.all("zhuji_http_requests_total") {
            if is_page(series) {
                continue;
            }
            totals.requests += series.value;
            if series
                .label("status")
                .is_some_and(|status| status.starts_with('5'))
            {
                totals.errors += series.value;
            }
        }
        for series in metrics.beginning("zhuji_http_request_seconds") {
            let ("_bucket", series) = series else { continue };
            let bound = series.label("le").and_then(|bound| bound.parse::<f64>().ok());
            let (Some(bound), false) = (bound, is_page(series)) else {
                continue;
            };
            match totals.buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += series.value,
                None => totals.buckets.push((bound, series.value)),
            }
        }
        totals
            .buckets
            .sort_by(|(left, _), (right, _)| left.total_cmp(right));
        let main = |pool: &&Series<'_>| pool.label("pool") == Some("main");
        totals.pool_in_use = metrics
            .all("zhuji_db_pool_in_use")
            .find(main)
            .map(|pool| pool.value);
        totals
    }

    fn since(&self, before: &Self, time: Duration) -> Sample {
        let seconds = time.as_secs_f64().max(0.001);
        let then = |bound: f64| {
            before
                .buckets
                .iter()
                .find(|(known, _)| *known == bound)
                .map_or(0.0, |(_, count)| *count)
        };
        let buckets: Vec<(f64, f64)> = self
            .buckets
            .iter()
            .map(|(bound, count)| (*bound, count - then(*bound)))
            .collect();
        Sample {
            requests_per_second: (self.requests - before.requests).max(0.0) / seconds,
            errors_per_second: (self.errors - before.errors).max(0.0) / seconds,
            p99_seconds: quantile(&buckets, 0.99),
            pool_in_use: self.pool_in_use,
        }
    }
}

fn is_page(series: &Series<'_>) -> bool {
    series
        .label("route")
        .is_some_and(|route| route.starts_with(PAGES))
}

/// As Prometheus estimates it: evenly spread within its bucket. Beyond the last bound it is that bound.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let total = buckets
        .last()
        .map(|(_, count)| *count)
        .filter(|count| *count > 0.0)?;
    let rank = total * share;
    let (mut from, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            let inside = (rank - below) / (count - below).max(f64::MIN_POSITIVE);
            return Some(if bound.is_finite() {
                from + (bound - from) * inside
            } else {
                from
            });
        }
        (from, below) = (*bound, *count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(text: &str) -> Totals {
        Totals::of(&Exposition::read(text))
    }

    #[test]
    fn what_happened_between_two_looks() {
        let before = totals(
            "zhuji_http_requests_total{module=\"asl\",status=\"200\"} 10\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"0.1\"} 10\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"0.2\"} 10\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"+Inf\"} 10\n",
        );
        let after = totals(
            "zhuji_http_requests_total{module=\"asl\",status=\"200\"} 105\n\
             zhuji_http_requests_total{module=\"asl\",status=\"503\"} 5\n\
             zhuji_http_requests_total{route=\"/admin/jobs\",status=\"200\"} 1000\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"0.1\"} 60\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"0.2\"} 110\n\
             zhuji_http_request_seconds_bucket{module=\"asl\",le=\"+Inf\"} 110\n\
             zhuji_http_request_seconds_sum{module=\"asl\"} 9\n\
             zhuji_db_pool_in_use{pool=\"replica\"} 9\n\
             zhuji_db_pool_in_use{pool=\"main\"} 3\n",
        );
        let sample = after.since(&before, Duration::from_secs(10));
        assert_eq!(
            (sample.requests_per_second, sample.errors_per_second),
            (10.0, 0.5)
        );
        assert_eq!(sample.pool_in_use, Some(3.0));
        // 100 requests: 50 within 0.1 s, 50 within 0.2 s.
        assert!((sample.p99_seconds.unwrap() - 0.198).abs() < 1e-9, "{sample:?}");
        assert_eq!(after.since(&after, Duration::from_secs(1)).p99_seconds, None);
    }

    #[test]
    fn the_ring_does_not_grow() {
        let history = History {
            samples: Mutex::default(),
        };
        for number in 0..SAMPLES + 3 {
            history.push(Sample {
                requests_per_second: number as f64,
                ..Sample::default()
            });
        }
        let samples = history.samples();
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples[0].requests_per_second, 3.0);
    }

    #[test]
    fn beyond_the_last_bound_is_the_last_bound() {
        assert_eq!(quantile(&[(0.1, 0.0), (f64::INFINITY, 4.0)], 0.99), Some(0.1));
        assert_eq!(quantile(&[], 0.99), None);
    }
}
