use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::task::AbortHandle;

use crate::adapter::{Hint, JobsAdapter, Rescued, SweepRequest};
use crate::config::JobsConfig;
use crate::jobs::Jobs;
use crate::meters;
use crate::record::QueueCounts;
use crate::wake::Wake;

const RESCUE_LIMIT: usize = 500;
const SWEEP_LIMIT: usize = 1000;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Steps of one sweep, with a pause between them: what is left waits for the next sweep.
const SWEEP_STEPS: usize = 20;
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// What another instance counted so lately will do.
const COUNTS_MAY_BE: Duration = Duration::from_secs(12);

/// The chores of a process with workers: takes up jobs whose worker was lost, forgets old ones, counts for the
/// metrics, listens for hints. Shared by the process's workers and ended with the last of them.
#[derive(Debug)]
pub(crate) struct Upkeep {
    tasks: [AbortHandle; 3],
}

impl Upkeep {
    pub(crate) fn share(jobs: &Jobs) -> Arc<Self> {
        let mut upkeep = jobs.inner.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upkeep) = upkeep.upgrade() {
            return upkeep;
        }
        let (adapter, config) = (jobs.inner.adapter.clone(), jobs.inner.config.clone());
        let wake = jobs.inner.wake.clone();
        let listen = config.listen;
        let chores = tokio::spawn(chores(adapter.clone(), config, wake.clone()));
        let timetable = tokio::spawn({
            let (inner, adapter, wake) = (jobs.inner.clone(), adapter.clone(), wake.clone());
            async move { inner.timetable.run(adapter, wake).await }
        });
        let hints = tokio::spawn(async move {
            if listen {
                hints(adapter, wake).await;
            }
        });
        let fresh = Arc::new(Self {
            tasks: [chores, timetable, hints].map(|task| task.abort_handle()),
        });
        *upkeep = Arc::downgrade(&fresh);
        fresh
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn chores(adapter: Arc<dyn JobsAdapter>, config: JobsConfig, wake: Wake) {
    let rescue_every = (config.lease / 3).min(Duration::from_secs(10));
    // Spread, so that a fleet that was started together does not sweep together.
    let mut next_sweep = Instant::now() + SWEEP_EVERY.mul_f64(fastrand::f64());
    let mut next_count = Instant::now();
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(rescue_every.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        rescue(adapter.as_ref(), &wake).await;
        if Instant::now() >= next_count {
            count(adapter.as_ref(), &mut known).await;
            next_count = Instant::now() + COUNT_EVERY;
        }
        if Instant::now() >= next_sweep {
            sweep(adapter.as_ref(), &config).await;
            next_sweep = Instant::now() + SWEEP_EVERY.mul_f64(0.8 + 0.4 * fastrand::f64());
        }
    }
}

async fn rescue(adapter: &dyn JobsAdapter, wake: &Wake) {
    loop {
        match adapter.rescue(RESCUE_LIMIT).await {
            Ok(Rescued { ready: 0, dead: 0 }) => return,
            Ok(rescued) => {
                let Rescued { ready, dead } = rescued;
                tracing::warn!(ready, dead, "jobs of lost workers taken up");
                meters::rescued(rescued);
                wake.now();
                if ready + dead < RESCUE_LIMIT as u64 {
                    return;
                }
            }
            Err(error) => {
                meters::store_error("rescue");
                tracing::debug!(%error, "lost jobs can't be looked for");
                return;
            }
        }
    }
}

async fn count(adapter: &dyn JobsAdapter, known: &mut BTreeSet<String>) {
    match adapter.recent_counts(COUNTS_MAY_BE).await {
        Ok(mut counts) => {
            // A queue that has run empty is not in the answer; its gauges must fall to zero all the same.
            let present: BTreeSet<String> = counts.iter().map(|counts| counts.queue.clone()).collect();
            let gone = known.difference(&present).cloned();
            counts.extend(gone.map(|queue| QueueCounts {
                queue,
                ..QueueCounts::default()
            }));
            meters::counted(&counts);
            known.extend(present);
        }
        Err(error) => {
            meters::store_error("count");
            tracing::debug!(%error, "jobs can't be counted");
        }
    }
}

async fn sweep(adapter: &dyn JobsAdapter, config: &JobsConfig) {
    let request = SweepRequest {
        done: config.keep_done,
        dead: config.keep_dead,
        limit: SWEEP_LIMIT,
    };
    for _ in 0..SWEEP_STEPS {
        match adapter.sweep(request).await {
            Ok(0) => return,
            Ok(swept) => {
                meters::swept(swept);
                tracing::debug!(swept, "old jobs forgotten");
                if swept < SWEEP_LIMIT as u64 {
                    return;
                }
            }
            Err(error) => {
                meters::store_error("sweep");
                tracing::debug!(%error, "old jobs can't be forgotten");
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Without hints the workers look by themselves, so trouble here is worth a line, not an alarm.
async fn hints(adapter: Arc<dyn JobsAdapter>, wake: Wake) {
    let mut failures = 0u32;
    loop {
        match adapter.hints().await {
            Ok(None) => return,
            Ok(Some(mut hints)) => {
                failures = 0;
                // Something may have been enqueued while nobody listened.
                wake.now();
                while let Some(hint) = hints.next().await {
                    match hint {
                        Ok(Hint::Leases) => wake.look_at_leases(),
                        Ok(_) => wake.now_and_soon(),
                        Err(error) => tracing::debug!(%error, "hints about new jobs are interrupted"),
                    }
                }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::info!(%error, "no hints about new jobs, looking for them instead");
                }
            }
        }
        failures += 1;
        let pause = Duration::from_millis(500)
            .saturating_mul(1 << failures.min(6))
            .min(Duration::from_secs(30));
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}
