use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use crate::meters;

/// Renews the leases of what runs here, three times per lease, until the very end: also while the worker is stopping,
/// because its handlers are still at work then.
pub(super) async fn run(shared: Arc<Shared>) {
    let lease = shared.jobs.inner.config.lease;
    let mut renewed = Instant::now();
    let mut failing = false;
    let mut wake = shared.jobs.inner.wake.subscribe();
    let mut called = wake.borrow_and_update().leases;
    loop {
        let pause = if failing { lease / 12 } else { lease / 3 };
        // Earlier if somebody wants a job cancelled.
        let call = async {
            while wake.changed().await.is_ok() {
                let leases = wake.borrow_and_update().leases;
                if leases != called {
                    called = leases;
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let pause = pause.mul_f64(0.8 + 0.2 * fastrand::f64());
        let _ = tokio::time::timeout(pause, call).await;
        let fences = shared.fences();
        if fences.is_empty() {
            renewed = Instant::now();
            failing = false;
            continue;
        }
        let asked = Instant::now();
        let answer = tokio::time::timeout(lease / 3, shared.adapter().renew(&fences, lease)).await;
        let error = match answer {
            Ok(Ok(kept)) => {
                renewed = asked;
                failing = false;
                let running = shared.running();
                for asked in kept.iter().filter(|kept| kept.cancel) {
                    if let Some(running) = running.get(&asked.fence) {
                        running.notes.cancel.store(true, Ordering::SeqCst);
                        running.cancelled.cancel();
                    }
                }
                let kept: HashSet<_> = kept.into_iter().map(|kept| kept.fence).collect();
                for fence in fences.iter().filter(|fence| !kept.contains(fence)) {
                    let Some(running) = running.get(fence) else {
                        continue;
                    };
                    if !running.notes.completed.load(Ordering::SeqCst) {
                        running.cancelled.cancel();
                        running.lost.cancel();
                    }
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", lease / 3),
        };
        meters::store_error("renew");
        let since = renewed.elapsed();
        tracing::warn!(
            module = shared.queue,
            jobs = fences.len(),
            error,
            "leases can't be renewed"
        );
        failing = true;
        if since >= lease.saturating_sub(Duration::from_millis(1)) {
            // They may be running elsewhere by now. What a handler makes of that is its decision; its result is
            // fenced in any case.
            for running in shared.running().values() {
                running.cancelled.cancel();
            }
        }
    }
}
