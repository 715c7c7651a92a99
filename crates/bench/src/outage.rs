//! What callers live through while a server is away.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinHandle;

/// Between the calls of one caller.
const PAUSE: Duration = Duration::from_millis(5);

/// How a call failed, in a few words.
pub(crate) type Failure = String;

/// What all callers of one contender lived through.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    /// When good calls ended.
    good: Vec<Instant>,
    pub(crate) longest: Duration,
    pub(crate) failures: BTreeMap<Failure, usize>,
}

impl Lived {
    /// From `ready` to the end of the first good call after it.
    pub(crate) fn back_after(&self, ready: Instant) -> Option<Duration> {
        self.good
            .iter()
            .filter_map(|at| at.checked_duration_since(ready))
            .min()
    }

    pub(crate) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// `812 failed: 804 × refused, 8 × cut off`
    pub(crate) fn told(&self) -> String {
        let mut kinds: Vec<(&Failure, &usize)> = self.failures.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let kinds: Vec<String> = kinds
            .into_iter()
            .map(|(kind, count)| format!("{count} × {kind}"))
            .collect();
        let good = self.good.len();
        match self.failed() {
            0 => format!("{good} good, none failed"),
            failed => format!("{good} good, {failed} failed: {}", kinds.join(", ")),
        }
    }
}

/// Callers that go on until they are told to stop.
#[derive(Debug)]
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Lived>>,
}

impl Callers {
    pub(crate) fn start<F, Fut>(count: usize, one: F) -> Self
    where
        F: Fn() -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|_| tokio::spawn(caller(one.clone(), stop.clone())));
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// Waits for the calls that are under way.
    pub(crate) async fn stop(self) -> anyhow::Result<Lived> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Lived::default();
        for task in self.tasks {
            let one = task.await.context("a caller panicked")?;
            all.good.extend(one.good);
            all.longest = all.longest.max(one.longest);
            for (kind, count) in one.failures {
                *all.failures.entry(kind).or_default() += count;
            }
        }
        Ok(all)
    }
}

async fn caller<F, Fut>(one: F, stop: Arc<AtomicBool>) -> Lived
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let mut lived = Lived::default();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let result = one().await;
        let end = Instant::now();
        lived.longest = lived.longest.max(end - begin);
        match result {
            Ok(()) => lived.good.push(end),
            Err(kind) => *lived.failures.entry(kind).or_default() += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    lived
}
