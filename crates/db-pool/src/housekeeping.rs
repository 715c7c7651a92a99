use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use deadpool::managed::Object;

use crate::manager::Manager;
use crate::pool::DbPool;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);
/// How late a deadline may be seen.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// Starts the task that closes old connections, keeps the warm ones, names callers who do not give theirs back, shows
/// the pool's gauges and, for a pool that was not connected at first, plans its size. It holds the pool weakly and ends
/// with it.
pub(crate) fn start(shared: &Arc<Shared>) {
    tokio::spawn(keep(Keeper(Arc::downgrade(shared))));
    tokio::spawn(watch(Arc::downgrade(shared)));
}

/// When it ends with its runtime, the next caller on another one starts it anew.
struct Keeper(Weak<Shared>);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.keeps_house.store(false, Ordering::Relaxed);
        }
    }
}

async fn keep(keeper: Keeper) {
    loop {
        // Jitter, so that the instances of a fleet do not redial in step.
        tokio::time::sleep(EVERY.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        let Some(shared) = keeper.0.upgrade() else { return };
        if shared.pool.is_closed() {
            shared.show();
            // There is nothing to keep any more.
            std::mem::forget(keeper);
            return;
        }
        shared.gate.settle();
        shared.reap();
        shared.name_leaks();
        shared.show();
        let pool = DbPool::of(shared);
        if pool.plan().is_none() && pool.shared.pool.status().size > 0 {
            // It is tried again in a second.
            let _ = pool.learn().await;
        }
        pool.shared.warm().await;
    }
}

/// Sees to the deadlines of all who wait. A task of its own: the other one may have to wait for connections itself.
async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.loans.watch(Instant::now());
        if shared.gate.waiting() > 0 {
            shared.dialer.breaker.tick();
        }
        if shared.pool.is_closed() && shared.loans.count() == 0 {
            return;
        }
    }
}

impl Shared {
    /// Closes connections that sat idle for too long or are too old.
    fn reap(&self) {
        let now = Instant::now();
        let mut left = self.pool.status().size;
        let kept = self.pool.retain(|conn, _| {
            let cold = now.saturating_duration_since(conn.returned) >= self.limits.idle_timeout;
            let keep = conn.is_usable() && !conn.has_lived(now) && !(cold && left > self.limits.min_idle);
            left -= usize::from(!keep);
            keep
        });
        for _ in &kept.removed {
            self.instruments.discarded("reaped");
        }
        // Closing sends a message each; the pool is not locked any more.
        drop(kept);
        self.close_surplus();
        self.dialer.sweep();
    }

    /// Opens connections until there are as many as are kept warm. Failures are for those who need one to tell.
    pub(crate) async fn warm(&self) {
        let wanted = self.limits.min_idle.min(self.gate.limit());
        if self.pool.status().size >= wanted || self.dialer.breaker.cause().is_some() {
            return;
        }
        let started = Instant::now();
        let one = async || {
            let object = self.obtain(started, self.limits.acquire_timeout).await;
            object.ok().map(|object| Held(Some(object), self))
        };
        // Held at the same time, so that they are different ones.
        futures_util::future::join_all((0..wanted).map(|_| one())).await;
    }

    fn name_leaks(&self) {
        for loan in self.loans.overdue(self.limits.leak_after) {
            self.instruments.held_for_long();
            tracing::warn!(
                taken_at = %loan.place,
                held_seconds = loan.since.elapsed().as_secs(),
                schema = self.scopes.schema(loan.scope),
                "a database connection has been held for long: is it given back? (DB_LEAK_AFTER)"
            );
        }
    }

    fn show(&self) {
        let size = self.pool.status().size;
        let in_use = self.loans.count();
        self.instruments.max.set(gauge(self.gate.limit()));
        self.instruments.size.set(gauge(size));
        self.instruments.in_use.set(gauge(in_use));
        self.instruments.idle.set(gauge(size.saturating_sub(in_use)));
        self.instruments.waiting.set(gauge(self.gate.waiting()));
    }
}

struct Held<'a>(Option<Object<Manager>>, &'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            self.1.give_back(object, Instant::now());
        }
    }
}

fn gauge(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
