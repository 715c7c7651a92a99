use async_trait::async_trait;
use jiff::Timestamp;
use zhuji_db_pool::ToSql;

use super::rows::{column, count, small};
use super::{PostgresAdapter, explain, integer, sql};
use crate::error::Result;
use crate::schedule::{DueSchedules, Firing, NewSchedule, ScheduleAdapter};

#[async_trait]
impl ScheduleAdapter for PostgresAdapter {
    async fn set_schedules(&self, queue: &str, kinds: &[String], schedules: &[NewSchedule]) -> Result<()> {
        let now = self.query("schedule", queue, "SELECT now() AS now", &[]).await?;
        let now: Timestamp = match now.first() {
            Some(row) => column(row, "schedule", "now")?,
            None => return Ok(()),
        };
        for schedule in schedules {
            let Some(next) = schedule.next_after(now)? else {
                continue;
            };
            let attempts = integer(schedule.max_attempts);
            let params: [&(dyn ToSql + Sync); 10] = [
                &queue,
                &schedule.name,
                &schedule.cron,
                &schedule.zone,
                &schedule.kind,
                &schedule.payload,
                &schedule.priority,
                &attempts,
                &schedule.overlap,
                &next,
            ];
            let set = self.pool.execute(sql::SET_SCHEDULE, &params).await;
            set.map_err(|source| explain("schedule", &schedule.name, source))?;
        }
        let names: Vec<&str> = schedules.iter().map(|schedule| schedule.name.as_str()).collect();
        let params: [&(dyn ToSql + Sync); 3] = [&queue, &kinds, &names];
        self.query("schedule", queue, sql::DROP_SCHEDULES, &params)
            .await?;
        Ok(())
    }

    async fn keep_schedules(&self, queue: &str, names: &[String]) -> Result<()> {
        self.query("schedule", queue, sql::KEEP_SCHEDULES, &[&queue, &names])
            .await
            .map(drop)
    }

    async fn due_schedules(&self, queues: &[String]) -> Result<DueSchedules> {
        let rows = self
            .query("schedule", "timetable", sql::SCHEDULES, &[&Some(queues)])
            .await?;
        let mut found = DueSchedules {
            now: Timestamp::now(),
            due: Vec::new(),
            next: None,
        };
        for row in &rows {
            found.now = column(row, "schedule", "now")?;
            let tick: Timestamp = column(row, "schedule", "next_at")?;
            if tick > found.now {
                found.next = Some(found.next.map_or(tick, |next| next.min(tick)));
                continue;
            }
            let schedule = NewSchedule {
                name: column(row, "schedule", "name")?,
                cron: column(row, "schedule", "cron")?,
                zone: column(row, "schedule", "zone")?,
                kind: column(row, "schedule", "kind")?,
                payload: column(row, "schedule", "payload")?,
                priority: column(row, "schedule", "priority")?,
                max_attempts: small(row, "schedule", "max_attempts")?,
                overlap: column(row, "schedule", "overlap")?,
            };
            found
                .due
                .push((column(row, "schedule", "queue")?, schedule, tick));
        }
        Ok(found)
    }

    async fn fire(&self, firing: &Firing) -> Result<bool> {
        let id = firing.id.as_uuid();
        let params: [&(dyn ToSql + Sync); 5] = [&firing.queue, &firing.name, &firing.tick, &firing.next, &id];
        let rows = self.query("schedule", &firing.name, sql::FIRE, &params).await?;
        let fired = rows
            .first()
            .map_or(Ok(0), |row| count(row, "schedule", "count"))?
            > 0;
        if fired {
            self.bell.ring();
        }
        Ok(fired)
    }
}
