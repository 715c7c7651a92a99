use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::buckets::Rule;
use crate::adapter::{Fence, Finish, NewJob, WorkerId};
use crate::admin::{AttemptOutcome, AttemptRecord};
use crate::batch::{BatchId, BatchRecord, NewBatch};
use crate::job::JobId;
use crate::record::{JobRecord, JobState};
use crate::schedule::NewSchedule;

/// This many finished jobs are remembered, whatever the settings say: memory is not a database.
const MOST_FINISHED: usize = 10_000;
pub(super) const LOST: &str = "the worker was lost: its lease ended";

#[derive(Default)]
pub(super) struct State {
    pub(super) rows: HashMap<JobId, Row>,
    /// By queue, in the order in which they are to run.
    pub(super) ready: BTreeMap<String, BTreeSet<Turn>>,
    pub(super) running: HashSet<JobId>,
    /// Ids of unfinished jobs by queue, kind and unique key.
    unique: HashMap<(String, String, String), JobId>,
    pub(super) finished: BTreeSet<(Timestamp, JobId)>,
    pub(super) batches: HashMap<BatchId, (BatchRecord, Option<NewJob>)>,
    /// By queue and kind; kind "" is the queue as a whole.
    pub(super) rules: BTreeMap<(String, String), Rule>,
    pub(super) paused: BTreeSet<String>,
    /// By queue and name.
    pub(super) schedules: BTreeMap<(String, String), Entry>,
}

pub(super) type Turn = (Reverse<i16>, Timestamp, JobId);

pub(super) struct Entry {
    pub(super) new: NewSchedule,
    pub(super) next: Timestamp,
    pub(super) last: Option<Timestamp>,
    pub(super) last_job: Option<JobId>,
}

pub(super) struct Row {
    /// Ready stands for scheduled as well: which of them it is depends on the time.
    pub(super) record: JobRecord,
    /// How often it was claimed; never taken back.
    pub(super) claims: u64,
    pub(super) worker: Option<WorkerId>,
    pub(super) lease_until: Timestamp,
    pub(super) cancel: bool,
    pub(super) result: Option<String>,
    pub(super) history: Vec<AttemptRecord>,
}

impl Row {
    pub(super) fn turn(&self) -> Turn {
        (Reverse(self.record.priority), self.record.run_at, self.record.id)
    }

    pub(super) fn is_held_by(&self, fence: &Fence) -> bool {
        self.record.state == JobState::Running
            && self.record.id == fence.id
            && self.claims == fence.claim
            && self.worker == Some(fence.worker)
    }

    /// As it is shown.
    pub(super) fn shown(&self, now: Timestamp) -> JobRecord {
        let mut record = self.record.clone();
        if record.state == JobState::Ready && record.run_at > now {
            record.state = JobState::Scheduled;
        }
        record
    }

    fn unique(&self) -> Option<(String, String, String)> {
        let key = self.record.unique_key.clone()?;
        Some((self.record.queue.clone(), self.record.kind.clone(), key))
    }
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

pub(super) fn between(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

impl State {
    /// The id of the new job, or of the unfinished one of the same key.
    pub(super) fn insert(&mut self, now: Timestamp, new: NewJob) -> JobId {
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
                batch: new.batch,
                progress: None,
            },
            claims: 0,
            worker: None,
            lease_until: now,
            cancel: false,
            result: None,
            history: Vec::new(),
        };
        if let Some(key) = row.unique() {
            match self.unique.get(&key) {
                Some(id) => return *id,
                None => self.unique.insert(key, row.record.id),
            };
        }
        self.queue(&row);
        self.rows.insert(new.id, row);
        new.id
    }

    fn queue(&mut self, row: &Row) {
        self.ready
            .entry(row.record.queue.clone())
            .or_default()
            .insert(row.turn());
    }

    pub(super) fn insert_batch(&mut self, now: Timestamp, new: NewBatch) {
        let mut record = BatchRecord::new(&new, now);
        if new.members.is_empty() {
            record.ended_at = Some(now);
            if let Some(next) = new.next.clone() {
                self.insert(now, next);
            }
        }
        self.batches.insert(new.id, (record, new.next));
        for member in new.members {
            self.insert(now, member);
        }
    }

    /// Ends a run. The caller has checked that the row is running.
    pub(super) fn leave(&mut self, id: JobId, now: Timestamp, finish: Finish, lost: bool) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        self.running.remove(&id);
        let worker = row.worker.take();
        let finish = match finish {
            Finish::Retry { .. } | Finish::HandBack if row.cancel => Finish::Cancelled,
            finish => finish,
        };
        let record = &mut row.record;
        let failed = match &finish {
            Finish::Done { .. } | Finish::HandBack => None,
            Finish::Cancelled => Some((AttemptOutcome::Cancelled, None)),
            Finish::Dead { error } | Finish::Retry { error, .. } => {
                let outcome = if lost {
                    AttemptOutcome::Lost
                } else {
                    AttemptOutcome::Failed
                };
                Some((outcome, Some(error.clone())))
            }
        };
        if let Some((outcome, error)) = failed {
            row.history.push(AttemptRecord {
                attempt: record.attempt,
                worker: worker.map(|worker| worker.0),
                started: record.started_at,
                ended: Some(now),
                outcome,
                error,
            });
        }
        record.state = match finish {
            Finish::Done { result } => {
                row.result = result;
                // Remembered for the history.
                row.worker = worker;
                JobState::Done
            }
            Finish::Cancelled => JobState::Cancelled,
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
            let (queue, turn) = (record.queue.clone(), row.turn());
            self.ready.entry(queue).or_default().insert(turn);
        } else {
            self.end(id, now);
        }
    }

    /// Cancels a job that waits.
    pub(super) fn cancel_waiting(&mut self, id: JobId, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.record.state = JobState::Cancelled;
        let (queue, turn) = (row.record.queue.clone(), row.turn());
        if let Some(ready) = self.ready.get_mut(&queue) {
            ready.remove(&turn);
        }
        self.end(id, now);
    }

    /// What follows from a final state.
    fn end(&mut self, id: JobId, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        row.record.finished_at = Some(now);
        let (unique, batch) = (row.unique(), row.record.batch);
        let failed = row.record.state != JobState::Done;
        if let Some(key) = unique {
            self.unique.remove(&key);
        }
        self.finished.insert((now, id));
        while self.finished.len() > MOST_FINISHED
            && let Some((_, oldest)) = self.finished.pop_first()
        {
            self.rows.remove(&oldest);
        }
        if let Some((record, next)) = batch.and_then(|batch| self.batches.get_mut(&batch)) {
            record.pending -= 1;
            record.failed += u64::from(failed);
            if record.pending == 0 {
                record.ended_at = Some(now);
                if let Some(next) = next.clone() {
                    self.insert(now, next);
                }
            }
        }
    }

    /// Puts a finished job back; `false` if its unique key is taken.
    pub(super) fn replay(&mut self, id: JobId, now: Timestamp) -> bool {
        let Some(row) = self.rows.get_mut(&id) else {
            return false;
        };
        if let Some(key) = row.unique() {
            if self.unique.contains_key(&key) {
                return false;
            }
            self.unique.insert(key, id);
        }
        let record = &mut row.record;
        let finished_at = record.finished_at.take();
        record.state = JobState::Ready;
        record.attempt = 0;
        record.run_at = now;
        record.batch = None;
        record.progress = None;
        row.cancel = false;
        let (queue, turn) = (record.queue.clone(), row.turn());
        self.ready.entry(queue).or_default().insert(turn);
        if let Some(at) = finished_at {
            self.finished.remove(&(at, id));
        }
        true
    }

    /// Makes a job that waits for its time run now.
    pub(super) fn hurry(&mut self, id: JobId, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        let before = row.turn();
        row.record.run_at = now;
        let after = row.turn();
        let ready = self.ready.entry(row.record.queue.clone()).or_default();
        ready.remove(&before);
        ready.insert(after);
    }

    /// Whether an unfinished job of this queue and kind has the key.
    pub(super) fn has_unique(&self, queue: &str, kind: &str, key: &str) -> bool {
        self.unique
            .contains_key(&(queue.to_owned(), kind.to_owned(), key.to_owned()))
    }
}
