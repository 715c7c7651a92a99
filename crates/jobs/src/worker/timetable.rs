use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::adapter::JobsAdapter;
use crate::job::JobId;
use crate::meters;
use crate::schedule::{Firing, ScheduleAdapter};
use crate::wake::Wake;

/// The clocks of store and machine may drift apart, and others may change the timetable.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Well within the time after which an entry that nobody has is dropped.
const KEEP_EVERY: Duration = Duration::from_secs(240);

/// By queue, the names of the entries that the programs of this process have.
type Entries = BTreeMap<String, BTreeSet<String>>;

/// The schedules that this process fires. What only another version of the program has is left to that one's instances.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    entries: Mutex<Entries>,
    changed: Notify,
}

impl Timetable {
    pub(super) fn add(&self, queue: &str, names: impl Iterator<Item = String>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.entry(queue.to_owned()).or_default().extend(names);
        self.changed.notify_one();
    }

    fn entries(&self) -> Entries {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clone()
    }

    /// Fires what is due, as long as a worker of the process runs.
    pub(super) async fn run(&self, adapter: Arc<dyn JobsAdapter>, wake: Wake) {
        let Some(schedules) = adapter.timetable() else {
            return;
        };
        let mut kept = Instant::now();
        loop {
            let entries = self.entries();
            if entries.is_empty() {
                self.changed.notified().await;
                continue;
            }
            let looked = async {
                if kept.elapsed() >= KEEP_EVERY {
                    for (queue, names) in &entries {
                        let names: Vec<String> = names.iter().cloned().collect();
                        schedules.keep_schedules(queue, &names).await?;
                    }
                    kept = Instant::now();
                }
                step(schedules, &entries, &wake).await
            };
            let pause = match looked.await {
                Ok(pause) => pause,
                Err(error) => {
                    meters::store_error("schedule");
                    tracing::debug!(%error, "the timetable can't be looked at");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// How long to wait for the next tick.
async fn step(schedules: &dyn ScheduleAdapter, entries: &Entries, wake: &Wake) -> crate::Result<Duration> {
    let queues: Vec<String> = entries.keys().cloned().collect();
    let found = schedules.due_schedules(&queues).await?;
    let mut next = found.next;
    for (queue, schedule, tick) in found.due {
        if !entries
            .get(&queue)
            .is_some_and(|own| own.contains(&schedule.name))
        {
            continue;
        }
        let following = match schedule.next_after(found.now) {
            // No tick will come any more: as far away as may be.
            Ok(following) => following.unwrap_or(Timestamp::MAX),
            Err(error) => {
                tracing::warn!(module = queue, schedule = schedule.name, %error, "a schedule can't be read");
                continue;
            }
        };
        let firing = Firing {
            queue,
            name: schedule.name,
            tick,
            next: following,
            id: JobId::generate(),
        };
        if schedules.fire(&firing).await? {
            let late_ms = found.now.duration_since(tick).as_millis();
            tracing::debug!(module = firing.queue, schedule = firing.name, job_id = %firing.id, late_ms, "schedule fired");
            wake.now();
        }
        next = Some(next.map_or(following, |next| next.min(following)));
    }
    let pause = next.map_or(LOOK_AT_LEAST_EVERY, |next| {
        Duration::try_from(next.duration_since(found.now)).unwrap_or_default()
    });
    Ok(pause.clamp(SHORTEST_PAUSE, LOOK_AT_LEAST_EVERY))
}
