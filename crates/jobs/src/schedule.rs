use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use cronexpr::{Crontab, MakeTimestamp};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::error::{Error, ErrorKind, Result};
use crate::job::{Job, JobId};

/// A job that comes again and again: an entry of the timetable, given to a worker with
/// [`JobSet::schedule`](crate::JobSet::schedule).
///
/// The timetable is in the store, so that every tick fires once however many instances there are, by the store's clock.
/// When nobody was there at a tick, or at several, the job is enqueued once when somebody is (one catch-up), and then
/// the next time is the next tick after that.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(crate) new: NewSchedule,
}

/// What is stored of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Unique within the queue.
    pub name: String,
    /// When: a cron line, or `@every 15m`.
    pub cron: String,
    /// The place whose clocks count.
    pub zone: String,
    /// The kind of its jobs.
    pub kind: String,
    /// Its job as JSON text.
    pub payload: String,
    /// Higher runs first.
    pub priority: i16,
    /// Attempts of each job.
    pub max_attempts: u32,
    /// Whether to fire while the last job is unfinished.
    pub overlap: bool,
}

impl Schedule {
    /// A job at the times of a cron line of five fields, in UTC: minute, hour, day of the month, month, day of the week.
    /// `*`, lists, ranges, steps, names (`MON`, `JAN`), `L`, `W` and `#` are known. Times that a change of clocks skips
    /// are left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], with what is wrong in the line; [`ErrorKind::Encode`] for a job without a JSON form.
    pub fn cron<J: Job>(name: impl Into<String>, cron: &str, job: &J) -> Result<Self> {
        let schedule = Self::new(name.into(), cron.to_owned(), job)?;
        When::parse(&schedule.new.cron, &schedule.new.zone)?;
        Ok(schedule)
    }

    /// A job every so often (at least a second), counted from the epoch, so that all instances agree.
    ///
    /// # Errors
    ///
    /// As [`cron`](Self::cron).
    pub fn every<J: Job>(name: impl Into<String>, period: Duration, job: &J) -> Result<Self> {
        Self::new(name.into(), format!("{EVERY} {}s", period.as_secs().max(1)), job)
    }

    fn new<J: Job>(name: String, cron: String, job: &J) -> Result<Self> {
        if name.is_empty() || name.len() > 512 || name.contains('\0') {
            let reason = "its name must have 1 to 512 bytes and no NUL";
            return Err(Error::new(ErrorKind::InvalidInput, "schedule", J::KIND, reason));
        }
        let payload = serde_json::to_string(job).map_err(|source| {
            Error::new(ErrorKind::Encode, "schedule", J::KIND, "the job has no JSON form").with_source(source)
        })?;
        Ok(Self {
            new: NewSchedule {
                name,
                cron,
                zone: "UTC".to_owned(),
                kind: J::KIND.to_owned(),
                payload,
                priority: 0,
                max_attempts: J::policy().max_attempts.clamp(1, i32::MAX as u32),
                overlap: true,
            },
        })
    }

    /// On the clocks of this place, daylight saving time included: `Asia/Shanghai`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone.
    pub fn zone(mut self, zone: &str) -> Result<Self> {
        When::parse(&self.new.cron, zone)?;
        self.new.zone = zone.to_owned();
        Ok(self)
    }

    /// Leaves a tick out while the job of the one before is unfinished.
    #[must_use]
    pub fn unless_unfinished(mut self) -> Self {
        self.new.overlap = false;
        self
    }

    /// Higher runs first.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.new.priority = priority;
        self
    }
}

impl NewSchedule {
    /// The first tick after `time`; `None` if there is none any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the line or the zone can't be read.
    pub fn next_after(&self, time: Timestamp) -> Result<Option<Timestamp>> {
        Ok(When::parse(&self.cron, &self.zone)?.next_after(time))
    }
}

const EVERY: &str = "@every";

enum When {
    Cron(Box<Crontab>),
    Every(i64),
}

impl When {
    fn parse(cron: &str, zone: &str) -> Result<Self> {
        let refuse =
            |reason: String| Error::new(ErrorKind::InvalidInput, "schedule", format!("`{cron}`"), reason);
        if let Some(period) = cron.strip_prefix(EVERY) {
            let seconds = period.trim().strip_suffix('s').and_then(|n| n.parse().ok());
            return match seconds {
                Some(seconds) if seconds > 0 => Ok(Self::Every(seconds)),
                _ => Err(refuse("the period is not a number of seconds".to_owned())),
            };
        }
        if cron.split_whitespace().count() != 5 {
            return Err(refuse("a cron line has five fields".to_owned()));
        }
        TimeZone::get(zone).map_err(|_| refuse(format!("there is no time zone {zone:?}")))?;
        let crontab = cronexpr::parse_crontab(&format!("{cron} {zone}"))
            .map_err(|error| refuse(error.to_string().replace('\n', " ")))?;
        Ok(Self::Cron(Box::new(crontab)))
    }

    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(crontab) => crontab
                .find_next(MakeTimestamp(time))
                .ok()
                .map(|next| next.timestamp()),
            Self::Every(period) => {
                let next = (time.as_second().div_euclid(*period) + 1).checked_mul(*period)?;
                Timestamp::from_second(next).ok()
            }
        }
    }
}

/// What is due on the timetable.
#[derive(Clone, Debug)]
pub struct DueSchedules {
    /// The store's time.
    pub now: Timestamp,
    /// Entries whose tick has come: queue, entry, and the tick.
    pub due: Vec<(String, NewSchedule, Timestamp)>,
    /// The next tick of the rest.
    pub next: Option<Timestamp>,
}

/// One firing of a schedule.
#[derive(Clone, Debug)]
pub struct Firing {
    /// The queue.
    pub queue: String,
    /// The entry's name.
    pub name: String,
    /// The tick it fires for.
    pub tick: Timestamp,
    /// The tick after it.
    pub next: Timestamp,
    /// The id of the job.
    pub id: JobId,
}

/// Where a timetable is kept.
#[async_trait]
pub trait ScheduleAdapter: Send + Sync + fmt::Debug {
    /// Makes these the entries of the queue as far as jobs of `kinds` are concerned: adds new ones, leaves alone the next
    /// tick of those that are as they were, and drops the others once no instance has them any more. A store that
    /// several processes share waits for that, because an instance of the version before may start at any time in a
    /// rolling deploy.
    async fn set_schedules(&self, queue: &str, kinds: &[String], schedules: &[NewSchedule]) -> Result<()>;

    /// Says that this instance still has these entries. Called every few minutes.
    async fn keep_schedules(&self, queue: &str, names: &[String]) -> Result<()> {
        let _ = (queue, names);
        Ok(())
    }

    /// What is due in these queues.
    async fn due_schedules(&self, queues: &[String]) -> Result<DueSchedules>;

    /// Enqueues the job of this tick and moves the entry on to the next, at once; `false` if somebody else did, or if
    /// the last job is unfinished and the entry does not overlap.
    async fn fire(&self, firing: &Firing) -> Result<bool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Tick;
    impl Job for Tick {
        const KIND: &'static str = "tick";
    }

    fn ticks(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::cron("x", cron, &Tick)
            .expect(cron)
            .zone(zone)
            .expect(zone);
        let mut time: Timestamp = from.parse().expect(from);
        (0..count)
            .map(|_| {
                time = schedule.new.next_after(time).expect("reads").expect("more");
                time.to_string()
            })
            .collect()
    }

    #[test]
    fn ticks_are_on_the_clocks_of_the_place() {
        assert_eq!(
            ticks("0 3 * * *", "Asia/Shanghai", "2026-01-01T00:00:00Z", 2),
            ["2026-01-01T19:00:00Z", "2026-01-02T19:00:00Z"]
        );
        // Summer time begins on 29 March: the wall clock counts, not the distance.
        assert_eq!(
            ticks("0 8 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
            ["2026-03-28T07:00:00Z", "2026-03-29T06:00:00Z"]
        );
        // 02:30 does not exist on that day.
        let skipped = ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert!(
            !skipped.contains(&"2026-03-29T00:30:00Z".to_owned()),
            "{skipped:?}"
        );
        assert_eq!(
            ticks("*/20 9-10 * * MON-FRI", "UTC", "2026-01-02T10:30:00Z", 2),
            ["2026-01-02T10:40:00Z", "2026-01-05T09:00:00Z"]
        );
    }

    #[test]
    fn every_so_often_is_counted_from_the_epoch() {
        let schedule = Schedule::every("x", Duration::from_secs(900), &Tick)
            .expect("fits")
            .new;
        let at = |time: &str| {
            schedule
                .next_after(time.parse().expect("a time"))
                .expect("reads")
                .expect("more")
                .to_string()
        };
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T00:15:00Z");
        assert_eq!(at("2026-01-01T00:14:59.9Z"), "2026-01-01T00:15:00Z");
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        for (cron, zone) in [
            ("* * * *", "UTC"),
            ("61 * * * *", "UTC"),
            ("* * * * * *", "UTC"),
            ("* * * * *", "Mars/Base"),
            ("", "UTC"),
        ] {
            let error = Schedule::cron("x", cron, &Tick)
                .and_then(|schedule| schedule.zone(zone))
                .expect_err(cron);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains('\n'));
        }
        assert!(Schedule::cron("", "* * * * *", &Tick).is_err());
    }
}
