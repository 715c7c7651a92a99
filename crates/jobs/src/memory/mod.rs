//! Jobs in this process's memory.

mod admin;
mod buckets;
mod schedule;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use zhuji_db_pool::Transaction;

use self::buckets::Rule;
use self::state::{LOST, State, Turn, between, later};
use crate::adapter::{
    ClaimRequest, Claimed, Claims, Fence, Finish, JobsAdapter, NewJob, Renewed, Report, Rescued,
    SweepRequest, WorkerId,
};
use crate::admin::AdminAdapter;
use crate::batch::{BatchId, BatchRecord, NewBatch};
use crate::error::Result;
use crate::job::JobId;
use crate::limit::Limit;
use crate::record::{JobRecord, JobState, Progress, QueueCounts};
use crate::schedule::ScheduleAdapter;

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

    async fn claim(&self, request: &ClaimRequest) -> Result<Claims> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.clock.now();
        let mut claims = Claims::default();
        if state.paused.contains(&request.queue) {
            return Ok(claims);
        }
        let mut allowance = state.allowance(&request.queue, now);
        let mut kept_back = false;
        let most = request.limit.min(allowance.queue);
        let mut turns: Vec<Turn> = Vec::new();
        for turn in state.ready.get(&request.queue).into_iter().flatten() {
            if turns.len() >= most {
                break;
            }
            let Some(row) = state.rows.get(&turn.2) else {
                continue;
            };
            if turn.1 > now {
                let pause = between(now, turn.1);
                claims.again_in = Some(claims.again_in.map_or(pause, |former| former.min(pause)));
                continue;
            }
            if !request.kinds.contains(&row.record.kind) {
                continue;
            }
            if turns.len() >= most {
                kept_back = true;
                break;
            }
            match allowance.kinds.get_mut(&row.record.kind) {
                Some(0) => {
                    kept_back = true;
                    continue;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            turns.push(*turn);
        }
        if let Some(again) = allowance.again_in.filter(|_| kept_back) {
            claims.again_in = Some(claims.again_in.map_or(again, |former| former.min(again)));
        }
        for turn in turns {
            if let Some(ready) = state.ready.get_mut(&request.queue) {
                ready.remove(&turn);
            }
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
            record.progress = None;
            state.running.insert(record.id);
            claims.jobs.push(Claimed {
                traceparent: record.traceparent.clone(),
                request_id: record.request_id.clone(),
                waited: between(record.run_at, now),
                batch: record.batch,
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
        for job in &claims.jobs {
            state.spend(&job.queue, &job.kind);
        }
        Ok(claims)
    }

    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Renewed>> {
        let mut state = self.lock();
        let until = later(self.clock.now(), lease);
        let mut kept = Vec::with_capacity(running.len());
        for fence in running {
            if let Some(row) = state.rows.get_mut(&fence.id).filter(|row| row.is_held_by(fence)) {
                row.lease_until = until;
                kept.push(Renewed {
                    fence: *fence,
                    cancel: row.cancel,
                });
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
                state.leave(report.fence.id, now, report.finish.clone(), false);
            }
            held
        };
        Ok(reports.iter().map(finish).collect())
    }

    async fn finish_in(&self, _: &Transaction<'_>, fence: Fence, result: Option<&str>) -> Result<bool> {
        let finish = Finish::Done {
            result: result.map(str::to_owned),
        };
        Ok(self.finish(&[Report { fence, finish }]).await? == [true])
    }

    async fn rescue(&self, limit: usize) -> Result<Rescued> {
        let mut state = self.lock();
        let now = self.clock.now();
        let lost: Vec<(JobId, bool, bool)> = state
            .running
            .iter()
            .filter_map(|id| state.rows.get(id))
            .filter(|row| row.lease_until < now)
            .map(|row| {
                (
                    row.record.id,
                    row.record.attempt >= row.record.max_attempts,
                    row.cancel,
                )
            })
            .take(limit)
            .collect();
        let mut rescued = Rescued::default();
        for (id, was_last, cancel) in lost {
            let error = LOST.to_owned();
            let finish = match was_last && !cancel {
                true => Finish::Dead { error },
                false => Finish::Retry {
                    delay: Duration::ZERO,
                    error,
                },
            };
            match was_last || cancel {
                true => rescued.dead += 1,
                false => rescued.ready += 1,
            }
            state.leave(id, now, finish, true);
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
            state.leave(*id, now, Finish::HandBack, false);
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
        let keep = request.done.max(request.dead);
        state
            .batches
            .retain(|_, (batch, _)| batch.ended_at.is_none_or(|at| between(at, now) <= keep));
        Ok(old.len() as u64)
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        let now = self.clock.now();
        Ok(self.lock().rows.get(&id).map(|row| row.shown(now)))
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        let state = self.lock();
        let now = self.clock.now();
        let mut queues: BTreeMap<&str, QueueCounts> = BTreeMap::new();
        for row in state.rows.values() {
            let record = &row.record;
            if matches!(record.state, JobState::Done | JobState::Cancelled) {
                continue;
            }
            let counts = queues.entry(&record.queue).or_insert_with(|| QueueCounts {
                queue: record.queue.clone(),
                ..QueueCounts::default()
            });
            match record.state {
                JobState::Ready if record.run_at > now => counts.scheduled += 1,
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
                _ => {
                    counts.ready += 1;
                    counts.oldest_ready = counts.oldest_ready.max(between(record.run_at, now));
                }
            }
        }
        Ok(queues.into_values().collect())
    }

    async fn progress(&self, progress: &[(Fence, Progress)]) -> Result<()> {
        let mut state = self.lock();
        for (fence, progress) in progress {
            if let Some(row) = state.rows.get_mut(&fence.id).filter(|row| row.is_held_by(fence)) {
                row.record.progress = Some(*progress);
            }
        }
        Ok(())
    }

    async fn enqueue_batch(&self, batch: NewBatch) -> Result<()> {
        self.lock().insert_batch(self.clock.now(), batch);
        Ok(())
    }

    async fn enqueue_batch_in(&self, _: &Transaction<'_>, batch: NewBatch) -> Result<()> {
        self.enqueue_batch(batch).await
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>> {
        Ok(self.lock().batches.get(&id).map(|(record, _)| record.clone()))
    }

    async fn set_limits(&self, queue: &str, limit: Option<Limit>, kinds: &[(&str, Limit)]) -> Result<()> {
        let mut state = self.lock();
        let now = self.clock.now();
        for (kind, limit) in limit
            .into_iter()
            .map(|limit| ("", limit))
            .chain(kinds.iter().copied())
        {
            let name = (queue.to_owned(), kind.to_owned());
            if limit.is_none() {
                state.rules.remove(&name);
            } else if state.rules.get(&name).is_none_or(|rule| rule.limit != limit) {
                state.rules.insert(name, Rule::new(limit, now));
            }
        }
        Ok(())
    }

    fn admin(&self) -> Option<&dyn AdminAdapter> {
        Some(self)
    }

    fn timetable(&self) -> Option<&dyn ScheduleAdapter> {
        Some(self)
    }
}
