//! How large a pool may be: what was planned, less while there are more instances than planned.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::Result;
use crate::planner::{Plan, PlannerInput, plan};
use crate::pool::DbPool;
use crate::scope::Scope;
use crate::shared::Shared;

/// Two dials refused at the same time are one refusal.
const HALVED_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// For how long a refusal makes the pool count as degraded.
const REFUSAL_SHOWS: Duration = Duration::from_secs(30);

/// The limit of a pool, and why.
pub(crate) struct Sizing {
    fixed: Option<u32>,
    input: PlannerInput,
    max_connections_fixed: bool,
    /// Whether the instances can be counted: through a pooler they cannot.
    follows: bool,
    plan: Mutex<Option<Plan>>,
    follower: Mutex<Follower>,
    pace: Arc<Pace>,
}

/// How often to count and how soon to grow.
struct Pace {
    set: Mutex<(Duration, Duration)>,
    changed: Notify,
}

impl Pace {
    fn get(&self) -> (Duration, Duration) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one look at the server found.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Instances of this service with a connection, this one included.
    live: u32,
    /// Connections the server still has to give.
    free: u32,
}

/// Follows the number of instances: arithmetic only.
#[derive(Clone, Debug)]
struct Follower {
    /// Connections of the whole fleet.
    budget: u32,
    listeners: u32,
    /// What was planned or configured: never more.
    ceiling: u32,
    /// Up to so many instances, what was configured is not doubted.
    trusted: u32,
    limit: u32,
    /// Looks in a row that asked for a lower limit.
    asked: u8,
    changed: Instant,
    refused: Option<Instant>,
}

impl Follower {
    fn share(&self, live: u32) -> u32 {
        if live <= self.trusted {
            return self.ceiling;
        }
        (self.budget / live.max(1))
            .saturating_sub(self.listeners)
            .min(self.ceiling)
            .max(1)
    }

    /// Down at the second look that asks for it, at once as far as it says; up by one, and seldom.
    fn sampled(&mut self, now: Instant, seen: Seen, grow_every: Duration) -> Option<u32> {
        let share = self.share(seen.live);
        if share < self.limit {
            self.asked += 1;
            if self.asked < 2 {
                return None;
            }
            self.limit = share;
        } else {
            self.asked = 0;
            // Every other instance may be about to take one as well.
            let room = seen.free > seen.live;
            if share == self.limit || !room || now.saturating_duration_since(self.changed) < grow_every {
                return None;
            }
            self.limit += 1;
        }
        self.asked = 0;
        self.changed = now;
        Some(self.limit)
    }

    /// The server had no connection left while this process had `open`.
    fn refused(&mut self, now: Instant, open: u32) -> Option<u32> {
        let before = self.refused.replace(now);
        if before.is_some_and(|before| now.saturating_duration_since(before) < HALVED_AT_MOST_EVERY) {
            return None;
        }
        self.changed = now;
        let limit = (self.limit / 2).min(open).max(1);
        (limit != std::mem::replace(&mut self.limit, limit)).then_some(limit)
    }
}

impl Sizing {
    pub(crate) fn new(
        fixed: Option<u32>,
        input: PlannerInput,
        max_connections_fixed: bool,
        follows: bool,
    ) -> Self {
        let made = plan(&input);
        let ceiling = fixed.unwrap_or(made.size).max(1);
        Self {
            fixed,
            input,
            max_connections_fixed,
            follows,
            plan: Mutex::new(None),
            follower: Mutex::new(Follower {
                budget: made.budget,
                listeners: input.listeners,
                ceiling,
                trusted: fixed.map_or(0, |_| input.instances),
                limit: ceiling,
                asked: 0,
                changed: Instant::now(),
                refused: None,
            }),
            pace: Arc::new(Pace {
                set: Mutex::new((Duration::from_secs(15), Duration::from_secs(30))),
                changed: Notify::new(),
            }),
        }
    }

    fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self) -> Option<Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn limit(&self) -> usize {
        usize::try_from(self.follower().limit).unwrap_or(usize::MAX)
    }

    /// Whether the server had no connection for us lately.
    pub(crate) fn was_refused(&self) -> bool {
        self.follower()
            .refused
            .is_some_and(|at| at.elapsed() < REFUSAL_SHOWS)
    }
}

impl Shared {
    /// The server refused a connection because it has none left: this pool makes do with half, from now on.
    pub(crate) fn refused(&self) {
        if !self.sizing.follows {
            return;
        }
        let open = u32::try_from(self.pool.status().size).unwrap_or(u32::MAX);
        let halved = self.sizing.follower().refused(Instant::now(), open);
        if let Some(limit) = halved {
            tracing::warn!(
                limit,
                "the server has no connection left (53300): this pool makes do with fewer for now"
            );
            self.resize(limit);
        }
    }

    fn resize(&self, limit: u32) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit > self.pool.status().max_size {
            self.pool.resize(limit);
        }
        self.gate.resize(limit);
        self.close_surplus();
    }
}

impl DbPool {
    fn unscoped(&self) -> Self {
        Self {
            scope: Scope::server_default(),
            ..self.clone()
        }
    }

    /// Reads the server's limits, counts the instances and sizes the pool by both. Once; further calls do nothing.
    pub(crate) async fn learn(&self) -> Result<()> {
        let shared = &self.shared;
        let sizing = &shared.sizing;
        let connection = self.unscoped().get().await?;
        if sizing.plan().is_some() {
            return Ok(());
        }
        let rows = connection
            .query(
                "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN \
                 ('max_connections', 'superuser_reserved_connections', 'reserved_connections')",
                &[],
            )
            .await?;
        drop(connection);
        let mut input = sizing.input;
        input.superuser_reserved = 0;
        for row in &rows {
            let value: u32 = row.get::<_, &str>(1).parse().unwrap_or(0);
            match row.get::<_, &str>(0) {
                "max_connections" if !sizing.max_connections_fixed => input.max_connections = value,
                "superuser_reserved_connections" | "reserved_connections" => {
                    input.superuser_reserved += value
                }
                _ => {}
            }
        }
        let made = plan(&input);
        made.report(sizing.fixed);
        let live = match sizing.follows {
            true => self.look_at_server().await?.live,
            false => 1,
        };
        let limit = {
            let mut follower = sizing.follower();
            follower.budget = made.budget;
            follower.ceiling = sizing.fixed.unwrap_or(made.size).max(1);
            follower.limit = follower.share(live).min(follower.ceiling);
            if sizing.follows {
                follower.limit
            } else {
                follower.ceiling
            }
        };
        *sizing.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        shared.resize(limit);
        if sizing.follows {
            self.spawn_follower();
        }
        Ok(())
    }

    /// Counts the instances of this service, and what the server has left.
    async fn look_at_server(&self) -> Result<Seen> {
        // Without a module's role: the server hides the names of connections from strangers.
        let row = self
            .unscoped()
            .query_one(
                "SELECT count(DISTINCT split_part(application_name, '/', 2)) \
                 FILTER (WHERE split_part(application_name, '/', 1) = $1 AND application_name LIKE '%/%/%'), \
                 current_setting('max_connections')::int8 - count(*) \
                 - current_setting('superuser_reserved_connections')::int8 \
                 - coalesce(current_setting('reserved_connections', true), '0')::int8 \
                 FROM pg_catalog.pg_stat_activity \
                 WHERE datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'",
                &[&self.shared.dialer.service()],
            )
            .await?;
        let narrow = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        Ok(Seen {
            live: narrow(row.get(0)).max(1),
            free: narrow(row.get(1)),
        })
    }

    /// Changes how often the instances of the service are counted (15 s, give or take a fifth) and how soon after a
    /// change the limit may grow by one (30 s). For tests, and for fleets that scale in seconds.
    pub fn follow_instances_every(&self, count: Duration, grow: Duration) {
        let pace = &self.shared.sizing.pace;
        *pace.set.lock().unwrap_or_else(PoisonError::into_inner) = (count, grow);
        pace.changed.notify_one();
    }

    fn spawn_follower(&self) {
        let weak = Arc::downgrade(&self.shared);
        let pace = Arc::clone(&self.shared.sizing.pace);
        tokio::spawn(async move {
            loop {
                let pause = pace.get().0.mul_f64(0.8 + 0.4 * fastrand::f64());
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = pace.changed.notified() => continue,
                }
                let Some(shared) = weak.upgrade() else { return };
                if shared.pool.is_closed() {
                    return;
                }
                let pool = Self::of(shared);
                match pool.look_at_server().await {
                    Ok(seen) => pool.shared.follow(seen),
                    Err(error) => tracing::debug!(error = %error, "the instances could not be counted"),
                }
            }
        });
    }
}

impl Shared {
    fn follow(&self, seen: Seen) {
        self.instruments.instances.set(f64::from(seen.live));
        let (_, grow) = self.sizing.pace.get();
        let changed = self.sizing.follower().sampled(Instant::now(), seen, grow);
        if let Some(limit) = changed {
            tracing::info!(
                limit,
                instances = seen.live,
                free = seen.free,
                "the pool follows the number of instances"
            );
            self.resize(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROW: Duration = Duration::from_secs(30);

    fn follower(budget: u32, ceiling: u32) -> Follower {
        Follower {
            budget,
            listeners: 1,
            ceiling,
            trusted: 0,
            limit: ceiling,
            asked: 0,
            changed: Instant::now(),
            refused: None,
        }
    }

    fn seen(live: u32) -> Seen {
        Seen { live, free: 100 }
    }

    #[test]
    fn down_at_the_second_look_and_up_by_one_at_a_time() {
        let mut follower = follower(100, 16);
        let start = follower.changed;
        assert_eq!(follower.sampled(start, seen(20), GROW), None);
        assert_eq!(follower.sampled(start, seen(20), GROW), Some(4));
        assert_eq!(follower.sampled(start, seen(1), GROW), None, "not so soon");
        let mut now = start;
        for expected in 5..=16 {
            now += GROW;
            assert_eq!(follower.sampled(now, seen(1), GROW), Some(expected));
        }
        assert_eq!(
            follower.sampled(now + GROW, seen(1), GROW),
            None,
            "never above the plan"
        );
    }

    #[test]
    fn one_odd_look_changes_nothing() {
        let mut follower = follower(100, 16);
        let now = follower.changed;
        for _ in 0..10 {
            assert_eq!(follower.sampled(now, seen(20), GROW), None);
            assert_eq!(follower.sampled(now, seen(2), GROW), None);
        }
    }

    #[test]
    fn a_refusal_halves_at_once_and_never_below_one() {
        let mut follower = follower(100, 16);
        let mut now = follower.changed;
        for expected in [Some(8), Some(4), Some(2), Some(1), None] {
            assert_eq!(follower.refused(now, 16), expected);
            assert_eq!(follower.refused(now, 16), None, "the same refusal");
            now += HALVED_AT_MOST_EVERY * 2;
        }
        let full = Seen { live: 3, free: 3 };
        assert_eq!(follower.sampled(now + GROW, full, GROW), None, "no room to grow");
    }

    #[test]
    fn the_fleet_stays_within_its_budget_however_many_there_are() {
        for live in 1..=100 {
            let follower = follower(359, 32);
            let share = follower.share(live);
            assert!(share == 1 || (share + 1) * live <= 359, "{live}: {share}");
        }
    }
}
