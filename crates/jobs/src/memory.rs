use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use zhuji_db_pool::Transaction;

use crate::adapter::{
    ClaimRequest, Claimed, Fence, Finish, JobsAdapter, NewJob, Report, Rescued, SweepRequest, WorkerId,
};
use crate::error::Result;
use crate::job::JobId;
use crate::record::{JobRecord, JobState, QueueCounts};

/// This many finished jobs are remembered, whatever the settings say: memory is not a database.
const MOST_FINISHED: usize = 10_000;
const LOST: &str = "the worker was lost: its lease ended";

/// Jobs in this process's memory: for tests, and for programs without a database. They end with the process.
///
/// It keeps the same promises as the PostgreSQL adapter, except that it can't take part in a transaction:
/// `enqueue_in` and `complete_in` take effect at once.
pub struct MemoryAdapter {
    clock: Clock,
    state: Mutex<State>,
}

/// Goes forward steadily, also when somebody sets the machine's clock.
struct Clock {
    started: Instant,
    at: Timestamp,
}

impl Clock {
    fn now(&self) -> Timestamp {
        later(self.at, self.started.elapsed())
    }
}

#[derive(Default)]
struct State {
    rows: HashMap<JobId, Row>,
    /// By queue, in the order in which they are to run.
    ready: BTreeMap<String, BTreeSet<Turn>>,
    running: HashSet<JobId>,
    /// Ids of unfinished jobs by queue, kind and unique key.
    unique: HashMap<(String, String, String), JobId>,
    finished: BTreeSet<(Timestamp, JobId)>,
}

type Turn = (Reverse<i16>, Timestamp, JobId);

struct Row {
    record: JobRecord,
    /// How often it was claimed; never taken back.
    claims: u64,
    worker: Option<WorkerId>,
    lease_until: Timestamp,
}

impl Row {
    fn turn(&self) -> Turn {
        (Reverse(self.record.priority), self.record.run_at, self.record.id)
    }

    fn is_held_by(&self, fence: &Fence) -> bool {
        self.record.state == JobState::Running
            && self.record.id == fence.id
            && self.claims == fence.claim
            && self.worker == Some(fence.worker)
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

fn between(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

impl MemoryAdapter {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            clock: Clock {
                started: Instant::now(),
                at: Timestamp::now(),
            },
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step under the lock can panic half-way, so a poisoned lock is as good as a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryAdapter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAdapter")
            .field("jobs", &self.lock().rows.len())
            .finish_non_exhaustive()
    }
}

impl State {
    fn insert(&mut self, now: Timestamp, new: NewJob) -> JobId {
        if let Some(key) = &new.unique_key {
            let key = (new.queue.clone(), new.kind.clone(), key.clone());
            match self.unique.get(&key) {
                Some(id) => return *id,
                None => self.unique.insert(key, new.id),
            };
        }
        let row = Row {
            record: JobRecord {
                id: new.id,
                queue: new.queue,
                kind: new.kind,
                payload: new.payload,
                state: JobState::Ready,
                priority: new.priority,
                attempt: 0,
                max_attempts: new.max_attempts,
                run_at: later(new.run_at.unwrap_or(now), new.delay),
                created_at: now,
                started_at: None,
                finished_at: None,
                error: None,
                unique_key: new.unique_key,
                traceparent: new.traceparent,
                request_id: new.request_id,
            },
            claims: 0,
            worker: None,
            lease_until: now,
        };
        self.ready
            .entry(row.record.queue.clone())
            .or_default()
            .insert(row.turn());
        self.rows.insert(new.id, row);
        new.id
    }

    /// Ends a run. The caller has checked that the row is running.
    fn leave(&mut self, id: JobId, now: Timestamp, finish: Finish) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        self.running.remove(&id);
        row.worker = None;
        let record = &mut row.record;
        record.state = match finish {
            Finish::Done => JobState::Done,
            Finish::Dead { error } => {
                record.error = Some(error);
                JobState::Dead
            }
            Finish::Retry { delay, error } => {
                record.error = Some(error);
                record.run_at = later(now, delay);
                JobState::Ready
            }
            Finish::HandBack => {
                record.attempt -= 1;
                JobState::Ready
            }
        };
        if record.state == JobState::Ready {
            let turn = row.turn();
            self.ready
                .entry(row.record.queue.clone())
                .or_default()
                .insert(turn);
            return;
        }
        record.finished_at = Some(now);
        if let Some(key) = &record.unique_key {
            self.unique
                .remove(&(record.queue.clone(), record.kind.clone(), key.clone()));
        }
        self.finished.insert((now, id));
        while self.finished.len() > MOST_FINISHED
            && let Some((_, oldest)) = self.finished.pop_first()
        {
            self.rows.remove(&oldest);
        }
    }
}

#[async_trait]
impl JobsAdapter for MemoryAdapter {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        let mut state = self.lock();
        let now = self.clock.now();
        Ok(jobs.into_iter().map(|new| state.insert(now, new)).collect())
    }

    async fn enqueue_in(&self, _: &Transaction<'_>, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        self.enqueue(jobs).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<Claimed>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.clock.now();
        let Some(ready) = state.ready.get_mut(&request.queue) else {
            return Ok(Vec::new());
        };
        let mine = |turn: &&Turn| {
            turn.1 <= now
                && state
                    .rows
                    .get(&turn.2)
                    .is_some_and(|row| request.kinds.contains(&row.record.kind))
        };
        let turns: Vec<Turn> = ready.iter().filter(mine).take(request.limit).copied().collect();
        let mut claimed = Vec::with_capacity(turns.len());
        for turn in turns {
            ready.remove(&turn);
            let Some(row) = state.rows.get_mut(&turn.2) else {
                continue;
            };
            row.worker = Some(request.worker);
            row.lease_until = later(now, request.lease);
            row.claims += 1;
            let record = &mut row.record;
            record.state = JobState::Running;
            record.attempt += 1;
            record.started_at = Some(now);
            state.running.insert(record.id);
            claimed.push(Claimed {
                traceparent: record.traceparent.clone(),
                request_id: record.request_id.clone(),
                waited: between(record.run_at, now),
                ..Claimed::new(
                    record.id,
                    record.queue.clone(),
                    record.kind.clone(),
                    record.payload.clone(),
                    row.claims,
                    record.attempt,
                    record.max_attempts,
                )
            });
        }
        Ok(claimed)
    }

    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Fence>> {
        let mut state = self.lock();
        let until = later(self.clock.now(), lease);
        let mut kept = Vec::with_capacity(running.len());
        for fence in running {
            if let Some(row) = state.rows.get_mut(&fence.id).filter(|row| row.is_held_by(fence)) {
                row.lease_until = until;
                kept.push(*fence);
            }
        }
        Ok(kept)
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let mut state = self.lock();
        let now = self.clock.now();
        let finish = |report: &Report| {
            let held = state
                .rows
                .get(&report.fence.id)
                .is_some_and(|row| row.is_held_by(&report.fence));
            if held {
                state.leave(report.fence.id, now, report.finish.clone());
            }
            held
        };
        Ok(reports.iter().map(finish).collect())
    }

    async fn finish_in(&self, _: &Transaction<'_>, fence: Fence) -> Result<bool> {
        let done = self
            .finish(&[Report {
                fence,
                finish: Finish::Done,
            }])
            .await?;
        Ok(done == [true])
    }

    async fn rescue(&self, limit: usize) -> Result<Rescued> {
        let mut state = self.lock();
        let now = self.clock.now();
        let lost: Vec<(JobId, bool)> = state
            .running
            .iter()
            .filter_map(|id| state.rows.get(id))
            .filter(|row| row.lease_until < now)
            .map(|row| (row.record.id, row.record.attempt >= row.record.max_attempts))
            .take(limit)
            .collect();
        let mut rescued = Rescued::default();
        for (id, was_last) in lost {
            let error = LOST.to_owned();
            if was_last {
                rescued.dead += 1;
                state.leave(id, now, Finish::Dead { error });
            } else {
                rescued.ready += 1;
                state.leave(
                    id,
                    now,
                    Finish::Retry {
                        delay: Duration::ZERO,
                        error,
                    },
                );
            }
        }
        Ok(rescued)
    }

    async fn release(&self, worker: WorkerId, keep: &[Fence]) -> Result<u64> {
        let mut state = self.lock();
        let now = self.clock.now();
        let strays: Vec<JobId> = state
            .running
            .iter()
            .filter_map(|id| state.rows.get(id))
            .filter(|row| row.worker == Some(worker) && !keep.iter().any(|fence| row.is_held_by(fence)))
            .map(|row| row.record.id)
            .collect();
        for id in &strays {
            state.leave(*id, now, Finish::HandBack);
        }
        Ok(strays.len() as u64)
    }

    async fn sweep(&self, request: SweepRequest) -> Result<u64> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.clock.now();
        let old: Vec<(Timestamp, JobId)> = state
            .finished
            .iter()
            .filter(|(at, id)| {
                let dead = state
                    .rows
                    .get(id)
                    .is_some_and(|row| row.record.state == JobState::Dead);
                between(*at, now) > if dead { request.dead } else { request.done }
            })
            .take(request.limit)
            .copied()
            .collect();
        for entry in &old {
            state.finished.remove(entry);
            state.rows.remove(&entry.1);
        }
        Ok(old.len() as u64)
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        Ok(self.lock().rows.get(&id).map(|row| row.record.clone()))
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let state = self.lock();
        let now = self.clock.now();
        let mut queues: BTreeMap<&str, QueueCounts> = BTreeMap::new();
        for row in state.rows.values() {
            let record = &row.record;
            if record.state == JobState::Done {
                continue;
            }
            let counts = queues.entry(&record.queue).or_insert_with(|| QueueCounts {
                queue: record.queue.clone(),
                ..QueueCounts::default()
            });
            match record.state {
                JobState::Ready if record.run_at > now => counts.scheduled += 1,
                JobState::Ready => {
                    counts.ready += 1;
                    counts.oldest_ready = counts.oldest_ready.max(between(record.run_at, now));
                }
                JobState::Running => {
                    counts.running += 1;
                    counts.stuck += u64::from(row.lease_until < now);
                }
                JobState::Dead => {
                    counts.dead += 1;
                    let lately = record
                        .finished_at
                        .is_some_and(|at| between(at, now) < Duration::from_secs(3600));
                    counts.dead_lately += u64::from(lately);
                }
                JobState::Done => {}
            }
        }
        Ok(queues.into_values().collect())
    }
}
