use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::watch::Watch;

/// Where a connection was taken from the pool.
pub(crate) type Place = &'static Location<'static>;

/// Who holds a connection: for the drain report and the warning about those held for too long.
///
/// Each connection has a slot of its own, so that taking one locks nothing that others lock.
#[derive(Default)]
pub(crate) struct Loans {
    slots: Mutex<Vec<Weak<Slot>>>,
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

    pub(crate) fn open(&self, since: Instant, scope: u32, place: Place) {
        *self.lock() = Some(Loan {
            since,
            scope,
            place,
            warned: false,
        });
    }

    /// No warning about this one.
    pub(crate) fn allow_for_long(&self) {
        if let Some(loan) = self.lock().as_mut() {
            loan.warned = true;
        }
    }

    pub(crate) fn close(&self) {
        *self.lock() = None;
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

    pub(crate) fn count(&self) -> usize {
        // Counted when somebody asks: a common counter is one more thing that all threads write at every checkout.
        self.list().len()
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
        while self.count() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
