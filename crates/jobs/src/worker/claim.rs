use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Running, Shared, run as run_job};
use crate::adapter::{ClaimRequest, Claimed, Fence};
use crate::context::Notes;
use crate::error::{Error, ErrorKind};
use crate::meters;
use crate::wake::Signal;

/// Claimed at once, at most.
const BATCH: usize = 500;
/// Under load many jobs are worth a claim, so it waits this long for more to end; with fewer at once than this it would
/// only lose time.
const LINGER: Duration = Duration::from_millis(2);
const WORTH_LINGERING: usize = 64;
/// The first pause after a hint that something is about to be committed.
const QUICK: Duration = Duration::from_millis(10);
/// The first pause after there was nothing more to do.
const IDLE: Duration = Duration::from_millis(200);
/// The shortest pause when the store knows when there will be more.
const SHORTEST: Duration = Duration::from_millis(5);
/// The first pause after the store failed; doubles up to 10 s.
const TROUBLE: Duration = Duration::from_millis(100);

/// One job's right to run: released when dropped.
pub(super) struct Permits {
    _process: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

/// Claims as many jobs as may run, until the worker stops. Never dropped in the middle of a claim, which could leave
/// jobs claimed that nobody runs.
pub(super) async fn run(shared: Arc<Shared>) {
    if shared.set.is_empty() {
        return;
    }
    let mut idle = Idle::new(&shared);
    let mut failures = 0;
    let kinds: Vec<String> = shared.set.kinds().map(str::to_owned).collect();
    if !prepare(&shared, &kinds, &mut idle).await {
        return;
    }
    let mut backlog = false;
    while let Some(permits) = permits(&shared, backlog).await {
        if shared.strays.load(Ordering::SeqCst) && !release_strays(&shared).await {
            drop(permits);
            failures += 1;
            idle.after_failure(failures).await;
            continue;
        }
        let request = ClaimRequest {
            worker: shared.id,
            queue: shared.queue.clone(),
            kinds: kinds.clone(),
            limit: permits.len(),
            lease: shared.jobs.inner.config.lease,
        };
        match shared.adapter().claim(&request).await {
            Ok(claims) => {
                let claimed = claims.jobs;
                if failures > 0 {
                    tracing::info!(module = shared.queue, "jobs can be claimed again");
                    failures = 0;
                }
                let full = claimed.len() == permits.len();
                let none = claimed.is_empty();
                backlog = full;
                for (claimed, permits) in claimed.into_iter().zip(permits) {
                    start(&shared, claimed, permits);
                }
                if !none {
                    idle.found_something();
                }
                if !full {
                    // The queue is empty for now; what comes next announces itself or is found by looking.
                    shared.limited.store(claims.again_in.is_some(), Ordering::Relaxed);
                    idle.wait(claims.again_in).await;
                }
            }
            Err(error) => {
                // The answer may have been lost after the claim took effect.
                shared.strays.store(true, Ordering::SeqCst);
                meters::store_error("claim");
                if failures == 0 {
                    tracing::warn!(module = shared.queue, %error, "jobs can't be claimed");
                } else {
                    tracing::debug!(module = shared.queue, %error, "jobs still can't be claimed");
                }
                failures += 1;
                drop(permits);
                idle.after_failure(failures).await;
            }
        }
        if shared.stopping.is_cancelled() {
            break;
        }
    }
}

/// Brings the limits and the timetable into the store; `false` if the worker was stopped meanwhile.
async fn prepare(shared: &Shared, kinds: &[String], idle: &mut Idle<'_>) -> bool {
    let mut failures = 0;
    while !shared.stopping.is_cancelled() {
        let error = match set_up(shared, kinds).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Unsupported {
            tracing::error!(module = shared.queue, %error, "limits or schedules are not kept to");
            return true;
        }
        meters::store_error("prepare");
        if failures == 0 {
            tracing::warn!(module = shared.queue, %error, "limits and schedules can't be stored yet");
        }
        failures += 1;
        idle.after_failure(failures).await;
    }
    false
}

async fn set_up(shared: &Shared, kinds: &[String]) -> Result<(), Error> {
    let limits: Vec<_> = shared
        .set
        .policies()
        .map(|(kind, policy)| (kind, policy.limit))
        .collect();
    shared
        .adapter()
        .set_limits(&shared.queue, shared.limit, &limits)
        .await?;
    let schedules = shared.set.schedules();
    match shared.adapter().timetable() {
        Some(adapter) => {
            adapter.set_schedules(&shared.queue, kinds, schedules).await?;
            if !schedules.is_empty() {
                let names = schedules.iter().map(|schedule| schedule.name.clone());
                shared.jobs.inner.timetable.add(&shared.queue, names);
            }
            Ok(())
        }
        None if schedules.is_empty() => Ok(()),
        None => {
            let reason = "this adapter keeps no timetable";
            Err(Error::new(
                ErrorKind::Unsupported,
                "schedule",
                &shared.queue,
                reason,
            ))
        }
    }
}

/// The right to run at least one job and up to a batch; `None` when the worker stops.
async fn permits(shared: &Shared, backlog: bool) -> Option<Vec<Permits>> {
    let first = async {
        let own = match &shared.own_permits {
            Some(own) => Some(own.clone().acquire_owned().await.ok()?),
            None => None,
        };
        let process = shared.jobs.inner.permits.clone().acquire_owned().await.ok()?;
        Some(Permits {
            _process: process,
            _own: own,
        })
    };
    let first = tokio::select! {
        biased;
        () = shared.stopping.cancelled() => return None,
        first = first => first?,
    };
    let mut permits = vec![first];
    gather(shared, &mut permits);
    let process = shared.jobs.inner.config.effective_concurrency();
    let most = shared
        .concurrency
        .map_or(process, |own| own.get().min(process))
        .min(BATCH);
    if backlog && most >= WORTH_LINGERING && permits.len() < most / 2 {
        tokio::time::sleep(LINGER).await;
        gather(shared, &mut permits);
    }
    Some(permits)
}

/// As many more as there are, up to a batch.
fn gather(shared: &Shared, permits: &mut Vec<Permits>) {
    while permits.len() < BATCH {
        let own = match &shared.own_permits {
            Some(own) => match own.clone().try_acquire_owned() {
                Ok(own) => Some(own),
                Err(_) => break,
            },
            None => None,
        };
        match shared.jobs.inner.permits.clone().try_acquire_owned() {
            Ok(process) => permits.push(Permits {
                _process: process,
                _own: own,
            }),
            Err(_) => break,
        }
    }
}

fn start(shared: &Arc<Shared>, claimed: Claimed, permits: Permits) {
    let fence = Fence {
        id: claimed.id,
        claim: claimed.claim,
        worker: shared.id,
    };
    let running = Running {
        cancelled: shared.stopping.child_token(),
        lost: shared.kill.child_token(),
        notes: Arc::new(Notes::new(shared.news.clone())),
    };
    shared.running().insert(fence, running.clone());
    shared
        .tasks
        .spawn(run_job::run(shared.clone(), fence, claimed, running, permits));
}

pub(super) async fn release_strays(shared: &Shared) -> bool {
    let keep = shared.fences();
    match shared.adapter().release(shared.id, &keep).await {
        Ok(released) => {
            shared.strays.store(false, Ordering::SeqCst);
            if released > 0 {
                tracing::info!(
                    module = shared.queue,
                    released,
                    "claims whose answer was lost are given back"
                );
            }
            true
        }
        Err(error) => {
            tracing::debug!(module = shared.queue, %error, "lost claims can't be given back yet");
            false
        }
    }
}

/// When to look again.
struct Idle<'a> {
    shared: &'a Shared,
    wake: watch::Receiver<Signal>,
    seen: Signal,
    pause: Duration,
    longest: Duration,
}

impl<'a> Idle<'a> {
    fn new(shared: &'a Shared) -> Self {
        let longest = shared.jobs.inner.config.poll_interval;
        let mut wake = shared.jobs.inner.wake.subscribe();
        let seen = *wake.borrow_and_update();
        Self {
            shared,
            wake,
            seen,
            pause: IDLE.min(longest),
            longest,
        }
    }

    fn found_something(&mut self) {
        self.pause = IDLE.min(self.longest);
    }

    /// Until something is there, may be there, or it is time to look anyway.
    async fn wait(&mut self, again_in: Option<Duration>) {
        loop {
            // Spread, so that the instances of a fleet do not look all at once.
            let mut pause = self.pause.mul_f64(0.8 + 0.4 * fastrand::f64());
            let known = again_in.is_some_and(|again| again < pause);
            if let Some(again) = again_in {
                pause = pause.min(again.max(SHORTEST));
            }
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return,
                changed = self.wake.changed() => {
                    let signal = *self.wake.borrow_and_update();
                    let (now, soon) = (signal.now != self.seen.now, signal.soon != self.seen.soon);
                    self.seen = signal;
                    if now || soon {
                        self.pause = if soon { QUICK } else { IDLE }.min(self.longest);
                    }
                    if now || changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause) => {
                    if !known {
                        self.pause = (self.pause * 2).min(self.longest);
                    }
                    return;
                }
            }
        }
    }

    async fn after_failure(&mut self, failures: u32) {
        let pause = TROUBLE
            .saturating_mul(1 << failures.saturating_sub(1).min(10))
            .min(Duration::from_secs(10));
        tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => {}
            () = tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())) => {}
        }
    }
}
