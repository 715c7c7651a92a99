use std::time::Duration;

use async_trait::async_trait;

use super::MemoryAdapter;
use super::state::Entry;
use crate::adapter::NewJob;
use crate::error::Result;
use crate::schedule::{DueSchedules, Firing, NewSchedule, ScheduleAdapter};

#[async_trait]
impl ScheduleAdapter for MemoryAdapter {
    async fn set_schedules(&self, queue: &str, kinds: &[String], schedules: &[NewSchedule]) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.schedules.retain(|(of, name), entry| {
            of != queue || !kinds.contains(&entry.new.kind) || schedules.iter().any(|new| new.name == *name)
        });
        for new in schedules {
            let Some(next) = new.next_after(now)? else {
                continue;
            };
            let place = (queue.to_owned(), new.name.clone());
            match state.schedules.get_mut(&place) {
                Some(entry) => {
                    if (&entry.new.cron, &entry.new.zone) != (&new.cron, &new.zone) {
                        entry.next = next;
                    }
                    entry.new = new.clone();
                }
                None => {
                    let entry = Entry {
                        new: new.clone(),
                        next,
                        last: None,
                        last_job: None,
                    };
                    state.schedules.insert(place, entry);
                }
            }
        }
        Ok(())
    }

    async fn due_schedules(&self, queues: &[String]) -> Result<DueSchedules> {
        let now = self.clock.now();
        let state = self.lock();
        let mut found = DueSchedules {
            now,
            due: Vec::new(),
            next: None,
        };
        for ((queue, _), entry) in state
            .schedules
            .iter()
            .filter(|((queue, _), _)| queues.contains(queue))
        {
            if entry.next > now {
                found.next = Some(found.next.map_or(entry.next, |next| next.min(entry.next)));
            } else {
                found.due.push((queue.clone(), entry.new.clone(), entry.next));
            }
        }
        Ok(found)
    }

    async fn fire(&self, firing: &Firing) -> Result<bool> {
        let now = self.clock.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let place = (firing.queue.clone(), firing.name.clone());
        let Some(entry) = state.schedules.get_mut(&place) else {
            return Ok(false);
        };
        if entry.next != firing.tick || entry.next > now {
            return Ok(false);
        }
        entry.next = firing.next;
        entry.last = Some(firing.tick);
        let new = entry.new.clone();
        let unique_key = (!new.overlap).then(|| format!("schedule {}", new.name));
        if let Some(key) = &unique_key
            && state.has_unique(&firing.queue, &new.kind, key)
        {
            return Ok(false);
        }
        if let Some(entry) = state.schedules.get_mut(&place) {
            entry.last_job = Some(firing.id);
        }
        let job = NewJob {
            id: firing.id,
            queue: firing.queue.clone(),
            kind: new.kind,
            payload: new.payload,
            priority: new.priority,
            max_attempts: new.max_attempts,
            run_at: None,
            delay: Duration::ZERO,
            unique_key,
            traceparent: None,
            request_id: None,
            batch: None,
        };
        state.insert(now, job);
        Ok(true)
    }
}
