//! Many callers of one thing, each with one call in flight.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

/// What they did, and how long each call took.
#[derive(Debug)]
pub(crate) struct Calls {
    elapsed: Duration,
    /// In order, the shortest first.
    times: Vec<Duration>,
}

impl Calls {
    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that this share of the calls took at most.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        quantile(&self.times, share)
    }

    pub(crate) fn longest(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }
}

/// Of times in order.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Lets so many callers call for so long. A call that is under way at the end is waited for and counted: a caller that
/// got nothing all the while is the one that matters.
pub(crate) async fn call<F, Fut, E>(callers: usize, duration: Duration, one: F) -> anyhow::Result<Calls>
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: fmt::Display + fmt::Debug + Send + Sync + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (one, stop) = (one.clone(), stop.clone());
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(1 << 12);
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                one().await.map_err(anyhow::Error::msg)?;
                let now = Instant::now();
                times.push(now - last);
                last = now;
            }
            anyhow::Ok(times)
        });
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended.context("a caller panicked")??);
    }
    let elapsed = begin.elapsed();
    times.sort_unstable();
    Ok(Calls { elapsed, times })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_are_some_of_them() {
        let times: Vec<Duration> = (1..=5).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(3));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(5));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
