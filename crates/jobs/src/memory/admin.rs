use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MemoryAdapter;
use super::state::{Row, State};
use crate::adapter::JobsAdapter;
use crate::admin::{
    AdminAdapter, AttemptRecord, Cancellation, DeadFilter, DeadStep, JobDetail, JobFilter, QueueRecord,
    ScheduleRecord,
};
use crate::error::Result;
use crate::job::JobId;
use crate::record::{JobRecord, JobState};

/// Shown of a payload in a list.
const EXCERPT: usize = 1000;

fn dead(state: &State, filter: &DeadFilter, after: Option<JobId>, limit: usize) -> Vec<JobId> {
    let fits = |row: &&Row| {
        row.record.state == JobState::Dead
            && filter
                .queue
                .as_ref()
                .is_none_or(|queue| *queue == row.record.queue)
            && filter.kind.as_ref().is_none_or(|kind| *kind == row.record.kind)
            && after.is_none_or(|after| row.record.id > after)
    };
    let mut found: Vec<JobId> = state
        .rows
        .values()
        .filter(fits)
        .map(|row| row.record.id)
        .collect();
    found.sort_unstable();
    found.truncate(limit);
    found
}

#[async_trait]
impl AdminAdapter for MemoryAdapter {
    async fn queues(&self) -> Result<Vec<QueueRecord>> {
        let counts = self.counts().await?;
        let state = self.lock();
        let mut queues: BTreeMap<String, QueueRecord> = BTreeMap::new();
        for counts in counts {
            let queue = queues.entry(counts.queue.clone()).or_default();
            queue.counts = counts;
        }
        for ((queue, kind), rule) in &state.rules {
            let queue = queues.entry(queue.clone()).or_default();
            if kind.is_empty() {
                queue.limit = rule.limit;
            } else {
                queue.kinds.insert(kind.clone(), rule.limit);
            }
        }
        for queue in &state.paused {
            queues.entry(queue.clone()).or_default().paused = true;
        }
        for (queue, _) in state.schedules.keys() {
            queues.entry(queue.clone()).or_default();
        }
        let named = queues.into_iter().map(|(name, mut queue)| {
            queue.counts.queue.clone_from(&name);
            queue.queue = name;
            queue
        });
        Ok(named.collect())
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        let now = self.clock.now();
        let state = self.lock();
        let shown = state.rows.values().map(|row| row.shown(now));
        let mut found: Vec<JobRecord> = shown
            .filter(|job| {
                filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
                    && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
                    && filter.state.is_none_or(|state| state == job.state)
                    && filter.after.is_none_or(|after| job.id < after)
            })
            .collect();
        found.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
        found.truncate(filter.limit);
        for job in &mut found {
            if let Some((end, _)) = job.payload.char_indices().nth(EXCERPT) {
                job.payload.truncate(end);
            }
        }
        Ok(found)
    }

    async fn show(&self, id: JobId) -> Result<Option<JobDetail>> {
        let now = self.clock.now();
        let state = self.lock();
        Ok(state.rows.get(&id).map(|row| {
            let record = row.shown(now);
            let mut history = row.history.clone();
            history.extend(AttemptRecord::present(&record, row.worker.map(|worker| worker.0)));
            JobDetail {
                progress: record.progress,
                record,
                history,
                result: row.result.clone(),
                cancel_requested: row.cancel && row.record.state == JobState::Running,
            }
        }))
    }

    async fn retry(&self, id: JobId) -> Result<bool> {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(shown) = state.rows.get(&id).map(|row| row.shown(now).state) else {
            return Ok(false);
        };
        Ok(match shown {
            JobState::Scheduled => {
                state.hurry(id, now);
                true
            }
            JobState::Dead | JobState::Cancelled => state.replay(id, now),
            _ => false,
        })
    }

    async fn cancel(&self, id: JobId) -> Result<Option<Cancellation>> {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(row) = state.rows.get_mut(&id) else {
            return Ok(None);
        };
        Ok(match row.record.state {
            JobState::Running => {
                row.cancel = true;
                Some(Cancellation::Requested)
            }
            JobState::Ready | JobState::Scheduled => {
                state.cancel_waiting(id, now);
                Some(Cancellation::Cancelled)
            }
            _ => None,
        })
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<()> {
        let mut state = self.lock();
        if paused {
            state.paused.insert(queue.to_owned());
        } else {
            state.paused.remove(queue);
        }
        Ok(())
    }

    async fn replay_dead(&self, filter: &DeadFilter, after: Option<JobId>, limit: usize) -> Result<DeadStep> {
        let now = self.clock.now();
        let mut state = self.lock();
        let found = dead(&state, filter, after, limit);
        let changed = found.iter().filter(|id| state.replay(**id, now)).count();
        Ok(DeadStep {
            changed: changed as u64,
            more_after: found.last().copied().filter(|_| found.len() >= limit),
        })
    }

    async fn drop_dead(&self, filter: &DeadFilter, limit: usize) -> Result<DeadStep> {
        let mut state = self.lock();
        let found = dead(&state, filter, None, limit);
        for id in &found {
            if let Some(at) = state.rows.remove(id).and_then(|row| row.record.finished_at) {
                state.finished.remove(&(at, *id));
            }
        }
        Ok(DeadStep {
            changed: found.len() as u64,
            more_after: found.last().copied().filter(|_| found.len() >= limit),
        })
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>> {
        let state = self.lock();
        let record = |((queue, name), entry): (&(String, String), &super::state::Entry)| ScheduleRecord {
            queue: queue.clone(),
            name: name.clone(),
            cron: entry.new.cron.clone(),
            zone: entry.new.zone.clone(),
            kind: entry.new.kind.clone(),
            next: entry.next,
            last: entry.last,
            last_job: entry.last_job,
        };
        Ok(state.schedules.iter().map(record).collect())
    }
}
