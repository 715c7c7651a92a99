use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::check::{Check, Outcome};
use crate::heartbeat::Heartbeat;
use crate::phase::{Life, Phase, Probe};
use crate::settings::HealthSettings;
use crate::snapshot::{CheckStatus, Snapshot, overall};
use crate::state::{Recorded, Slot};

/// One result, as handed to an observer; made for gauges and histograms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observation<'a> {
    /// The check's name.
    pub name: &'a str,
    /// Whether it is critical.
    pub critical: bool,
    /// Where it stands after this result.
    pub status: CheckStatus,
    /// Whether this run failed, believed yet or not.
    pub failed: bool,
    /// Whether the standing changed with this result.
    pub changed: bool,
    /// How long the run took.
    pub latency: Duration,
    /// Why it is not up.
    pub error_kind: Option<&'a str>,
}

type Observer = Arc<dyn Fn(&Observation<'_>) + Send + Sync>;

/// Collects checks and settings; made by [`HealthMonitor::builder`].
#[must_use = "nothing is checked until `start`"]
pub struct HealthBuilder {
    settings: HealthSettings,
    version: Arc<str>,
    checks: Vec<(Arc<Slot>, Arc<dyn Check>)>,
    observers: Vec<Observer>,
}

impl HealthBuilder {
    /// Replaces the defaults.
    pub fn settings(mut self, settings: HealthSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The version shown to operators.
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = version.into();
        self
    }

    /// Adds a check under its own name.
    pub fn check(self, check: Arc<dyn Check>) -> Self {
        let (name, critical) = (check.name().to_owned(), check.critical());
        self.check_as(name, critical, check)
    }

    /// Adds a check under another name or weight: a product module's check is `asl.index` and not critical,
    /// because one module must not take the others out of rotation.
    ///
    /// A name that is already taken gets a number: `cache`, `cache#2`.
    pub fn check_as(mut self, name: impl Into<String>, critical: bool, check: Arc<dyn Check>) -> Self {
        let wanted = name.into();
        let mut name = wanted.clone();
        let mut number = 1;
        while self.checks.iter().any(|(slot, _)| *slot.name == *name) {
            number += 1;
            name = format!("{wanted}#{number}");
        }
        self.checks
            .push((Arc::new(Slot::new(name.into(), critical)), check));
        self
    }

    /// Calls back after every result, on the check's own task. Keep it short; a panic in it is caught.
    pub fn observe(mut self, observer: impl Fn(&Observation<'_>) + Send + Sync + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Starts one background task per check, and the heartbeat. Every check runs for the first time at once.
    ///
    /// # Panics
    ///
    /// When called outside a tokio runtime, or inside one without time.
    pub fn start(self) -> HealthMonitor {
        let (reported, _) = watch::channel(0);
        let shared = Arc::new(Shared {
            life: Life::default(),
            heartbeat: Heartbeat::new(self.settings.heartbeat),
            slots: self.checks.iter().map(|(slot, _)| slot.clone()).collect(),
            settings: self.settings,
            version: self.version,
            started: Instant::now(),
            observers: self.observers,
            reported,
        });
        let mut tasks = Vec::with_capacity(self.checks.len() + 1);
        let beating = shared.clone();
        tasks.push(tokio::spawn(async move { beating.heartbeat.run().await }));
        for (slot, check) in self.checks {
            tasks.push(tokio::spawn(watch_over(shared.clone(), slot, check)));
        }
        HealthMonitor {
            inner: Arc::new(Inner {
                shared,
                tasks: Mutex::new(tasks),
            }),
        }
    }
}

impl fmt::Debug for HealthBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.checks.iter().map(|(slot, _)| &*slot.name).collect();
        f.debug_struct("HealthBuilder")
            .field("checks", &names)
            .field("settings", &self.settings)
            .finish()
    }
}

struct Shared {
    settings: HealthSettings,
    version: Arc<str>,
    slots: Vec<Arc<Slot>>,
    life: Life,
    heartbeat: Heartbeat,
    started: Instant,
    observers: Vec<Observer>,
    /// How many checks have reported at least once.
    reported: watch::Sender<usize>,
}

struct Inner {
    shared: Arc<Shared>,
    /// The tasks hold `Shared` and not `Inner`, so that dropping the last handle ends them.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// The running engine. A handle: cheap to clone; the checks stop when the last clone is dropped.
#[derive(Clone)]
pub struct HealthMonitor {
    inner: Arc<Inner>,
}

impl HealthMonitor {
    /// Starts to collect checks.
    pub fn builder() -> HealthBuilder {
        HealthBuilder {
            settings: HealthSettings::default(),
            version: "".into(),
            checks: Vec::new(),
            observers: Vec::new(),
        }
    }

    /// What is known right now. Reads memory only: no I/O, no waiting, whatever the probes' rate.
    pub fn snapshot(&self) -> Snapshot {
        let shared = &self.inner.shared;
        let (now, stale_after) = (Instant::now(), shared.settings.stale_after());
        let checks: Vec<_> = shared
            .slots
            .iter()
            .map(|slot| slot.read(now, stale_after))
            .collect();
        let (status, database) = overall(&checks);
        Snapshot {
            status,
            database,
            checks,
            phase: shared.life.phase(),
            version: shared.version.clone(),
            uptime: shared.started.elapsed(),
            event_loop_lag: shared.heartbeat.lag(),
        }
    }

    /// Waits until every check has reported once, at most for `deadline`; `false` when one has not.
    /// Safe to cancel.
    pub async fn wait_first_round(&self, deadline: Duration) -> bool {
        let wanted = self.inner.shared.slots.len();
        let mut reported = self.inner.shared.reported.subscribe();
        let all = reported.wait_for(|count| *count >= wanted);
        matches!(tokio::time::timeout(deadline, all).await, Ok(Ok(_)))
    }

    /// Where the process stands. [`Phase::Starting`] until [`mark_ready`](Self::mark_ready).
    pub fn phase(&self) -> Phase {
        self.inner.shared.life.phase()
    }

    /// Migrations and modules are up. Has no effect on a draining process' readiness.
    pub fn mark_ready(&self) {
        self.inner.shared.life.start();
    }

    /// The process is going away. There is no way back.
    pub fn mark_draining(&self) {
        self.inner.shared.life.drain();
    }

    /// The live probe: whether the event loop still turns. Looks at no dependency, because an outage of a shared
    /// database must not restart every instance.
    pub fn liveness(&self) -> Probe {
        let shared = &self.inner.shared;
        Probe::new((shared.heartbeat.silence() > shared.settings.wedged_after).then_some("wedged"))
    }

    /// The ready probe: started and not draining.
    pub fn readiness(&self) -> Probe {
        let phase = self.phase();
        Probe::new((phase != Phase::Ready).then_some(phase.as_str()))
    }

    /// The startup probe: passes from the first [`mark_ready`](Self::mark_ready) on, also while draining.
    pub fn startup(&self) -> Probe {
        Probe::new((!self.inner.shared.life.started()).then_some("starting"))
    }

    /// How late the event loop's heartbeat is; for a gauge.
    pub fn event_loop_lag(&self) -> Duration {
        self.inner.shared.heartbeat.lag()
    }

    /// Stops every check and waits until the last has let go of what it holds. Call it after traffic has ended
    /// and before pools close; results grow stale from then on.
    pub async fn shutdown(&self) {
        let tasks = {
            let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // An aborted task reports its cancellation; that is what was asked for.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for HealthMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("HealthMonitor")
            .field("status", &snapshot.status)
            .field("phase", &snapshot.phase)
            .field("checks", &snapshot.checks.len())
            .finish()
    }
}

/// The life of one check.
async fn watch_over(shared: Arc<Shared>, slot: Arc<Slot>, check: Arc<dyn Check>) {
    let settings = &shared.settings;
    let mut first = true;
    loop {
        let begun = Instant::now();
        let outcome = run_once(&*check, settings.timeout).await;
        let latency = begun.elapsed();
        let recorded = slot.record(&outcome, latency, settings);
        if std::mem::take(&mut first) {
            shared.reported.send_modify(|count| *count += 1);
        }
        report(&slot, &recorded);
        notify(&shared.observers, &slot, &recorded, &outcome, latency);
        let pause = if recorded.unconfirmed {
            settings.interval.min(settings.confirm_after)
        } else {
            settings.interval
        };
        tokio::time::sleep(pause.saturating_add(pause.mul_f64(fastrand::f64() / 10.0))).await;
    }
}

/// Runs a check under its deadline, and turns a panic into a failure.
async fn run_once(check: &dyn Check, timeout: Duration) -> Outcome {
    let run = async {
        let mut run = pin!(async { check.run().await });
        std::future::poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
                Ok(poll) => poll,
                Err(_) => Poll::Ready(Outcome::down("panic")),
            },
        )
        .await
    };
    tokio::time::timeout(timeout, run)
        .await
        .unwrap_or_else(|_| Outcome::down("timeout"))
}

fn report(slot: &Slot, recorded: &Recorded) {
    let (check, critical) = (&*slot.name, slot.critical);
    let error_kind = recorded.kind.as_deref().unwrap_or("");
    if recorded.before == recorded.after {
        if recorded.unconfirmed {
            tracing::debug!(
                check,
                critical,
                error_kind,
                "health check failed, not yet confirmed"
            );
        }
        return;
    }
    match recorded.after {
        CheckStatus::Down if critical => {
            tracing::error!(check, critical, error_kind, "health check is down");
        }
        CheckStatus::Down => tracing::warn!(check, critical, error_kind, "health check is down"),
        CheckStatus::Degraded => tracing::warn!(check, critical, error_kind, "health check is degraded"),
        // The first good result is no news.
        CheckStatus::Up if recorded.before == CheckStatus::Pending => {
            tracing::debug!(check, critical, "health check is up");
        }
        CheckStatus::Up | CheckStatus::Pending => tracing::info!(check, critical, "health check is up again"),
    }
}

fn notify(observers: &[Observer], slot: &Slot, recorded: &Recorded, outcome: &Outcome, latency: Duration) {
    let observation = Observation {
        name: &slot.name,
        critical: slot.critical,
        status: recorded.after,
        failed: outcome.is_failure(),
        changed: recorded.before != recorded.after,
        latency,
        error_kind: recorded.kind.as_deref(),
    };
    for observer in observers {
        if catch_unwind(AssertUnwindSafe(|| observer(&observation))).is_err() {
            tracing::error!(check = &*slot.name, "a health observer panicked");
        }
    }
}
