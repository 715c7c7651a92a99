use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::watch::Watch;

/// Where a connection was taken from the pool.
pub(crate) type Place = &'static Location<'static>;

/// Who holds a connection: for the drain report and the warning about those held for too long.
///
/// Each connection has a slot of its own, so that taking one locks nothing that others lock.
#[derive(Default)]
pub(crate) struct Loans {
    slots: Mutex<Vec<Weak<Slot>>>,
    count: AtomicUsize,
    /// Somebody waits for the last one.
    draining: AtomicBool,
    returned: Notify,
}

/// The loan of one connection, and the deadline of what it is doing.
#[derive(Default)]
pub(crate) struct Slot {
    loan: Mutex<Option<Loan>>,
    pub(crate) watch: Watch,
}

#[derive(Clone, Copy)]
pub(crate) struct Loan {
    pub(crate) since: Instant,
    /// Number of the [`Scope`](crate::scope::Scope).
    pub(crate) scope: u32,
    pub(crate) place: Place,
    warned: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Loan>> {
        self.loan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loans {
    fn slots(&self) -> MutexGuard<'_, Vec<Weak<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new connection's loans known.
    pub(crate) fn register(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
        slot.watch.begin();
    }

    pub(crate) fn open(&self, slot: &Slot, since: Instant, scope: u32, place: Place) {
        *slot.lock() = Some(Loan {
            since,
            scope,
            place,
            warned: false,
        });
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// No warning about this one.
    pub(crate) fn allow_for_long(&self, slot: &Slot) {
        if let Some(loan) = slot.lock().as_mut() {
            loan.warned = true;
        }
    }

    pub(crate) fn close(&self, slot: &Slot) {
        if slot.lock().take().is_none() {
            return;
        }
        let left = self.count.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 && self.draining.load(Ordering::SeqCst) {
            self.returned.notify_waiters();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn list(&self) -> Vec<Loan> {
        let live = |slot: &Weak<Slot>| slot.upgrade().and_then(|slot| *slot.lock());
        self.slots().iter().filter_map(live).collect()
    }

    /// Ends what is past its deadline.
    pub(crate) fn watch(&self, now: Instant) {
        for slot in self.slots().iter().filter_map(Weak::upgrade) {
            slot.watch.look(now);
        }
    }

    /// Those held for longer than `limit`, each once.
    pub(crate) fn overdue(&self, limit: Duration) -> Vec<Loan> {
        let slots: Vec<Arc<Slot>> = self.slots().iter().filter_map(Weak::upgrade).collect();
        let mut found = Vec::new();
        for slot in slots {
            let mut loan = slot.lock();
            if let Some(loan) = loan
                .as_mut()
                .filter(|loan| !loan.warned && loan.since.elapsed() > limit)
            {
                loan.warned = true;
                found.push(*loan);
            }
        }
        found
    }

    /// Ends when nobody holds a connection.
    pub(crate) async fn all_returned(&self) {
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let returned = self.returned.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            returned.await;
        }
    }
}
