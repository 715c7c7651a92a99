use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

use super::claim::release_strays;
use super::{Shared, Upkeep};
use crate::adapter::WorkerId;

/// A running worker.
///
/// Dropped without [`stop`](Self::stop), it ends like a killed process: handlers are dropped, nothing is reported, and
/// its jobs run again when their leases end.
#[derive(Debug)]
#[must_use = "dropping the handle ends the worker"]
pub struct WorkerHandle {
    shared: Arc<Shared>,
    claim: JoinHandle<()>,
    helpers: [AbortHandle; 3],
    _upkeep: Arc<Upkeep>,
}

/// What became of the jobs that were running when a worker was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Ended by themselves within the deadline, well or badly.
    pub finished: usize,
    /// Given back to the queue with their attempt uncounted.
    pub handed_back: usize,
    /// Did not end: handlers that block their thread, or a store out of reach. They run again when their leases end.
    pub abandoned: usize,
}

impl WorkerHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        claim: JoinHandle<()>,
        helpers: [AbortHandle; 3],
        upkeep: Arc<Upkeep>,
    ) -> Self {
        Self {
            shared,
            claim,
            helpers,
            _upkeep: upkeep,
        }
    }

    /// The worker's random name.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// How many jobs it is running.
    pub fn running(&self) -> usize {
        self.shared.running().len()
    }

    /// Stops the worker within `deadline`: claims nothing more, tells the handlers
    /// ([`JobContext::cancelled`](crate::JobContext::cancelled)), waits for them, and towards the end (the last fifth
    /// of the time, at most a second) drops those that are left and gives their jobs back, to be run by another worker
    /// at once. Leases are renewed to the end.
    ///
    /// Dropping the future ends the worker as dropping the handle does.
    pub async fn stop(mut self, deadline: Duration) -> StopReport {
        let shared = self.shared.clone();
        let reserve = (deadline / 5).min(Duration::from_secs(1));
        let end = Instant::now() + deadline;
        let grace = end - reserve;
        shared.finished.store(0, Ordering::Relaxed);
        shared.handed_back.store(0, Ordering::Relaxed);
        shared.stopping.cancel();
        // A claim under way is waited for: what it brings is handed back at once.
        let claims_ended = timeout_at(grace, &mut self.claim).await.is_ok();
        shared.tasks.close();
        if timeout_at(grace, shared.tasks.wait()).await.is_err() {
            shared.force.cancel();
            let _ = timeout_at(end, shared.tasks.wait()).await;
        }
        if !claims_ended {
            self.claim.abort();
            shared.strays.store(true, Ordering::SeqCst);
        }
        if shared.strays.load(Ordering::SeqCst) {
            let _ = timeout_at(end, release_strays(&shared)).await;
        }
        let report = StopReport {
            finished: shared.finished.load(Ordering::Relaxed),
            handed_back: shared.handed_back.load(Ordering::Relaxed),
            abandoned: shared.running().len(),
        };
        let StopReport {
            finished,
            handed_back,
            abandoned,
        } = report;
        // Not louder: whoever stops workers has the report and knows what it is a part of.
        tracing::debug!(
            module = shared.queue,
            finished,
            handed_back,
            abandoned,
            "worker stopped"
        );
        report
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
        self.shared.kill.cancel();
        self.claim.abort();
        for helper in &self.helpers {
            helper.abort();
        }
    }
}
