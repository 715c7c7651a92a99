use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::scope::Scope;

/// Who holds a connection: for the drain report.
#[derive(Default)]
pub(crate) struct Loans {
    slots: Mutex<Slots>,
    returned: Notify,
}

#[derive(Default)]
struct Slots {
    all: Vec<Option<Loan>>,
    free: Vec<usize>,
}

#[derive(Clone)]
pub(crate) struct Loan {
    pub(crate) since: Instant,
    pub(crate) scope: Arc<Scope>,
}

impl Loans {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, since: Instant, scope: Arc<Scope>) -> usize {
        let mut slots = self.lock();
        let loan = Some(Loan { since, scope });
        match slots.free.pop() {
            Some(slot) => {
                slots.all[slot] = loan;
                slot
            }
            None => {
                slots.all.push(loan);
                slots.all.len() - 1
            }
        }
    }

    pub(crate) fn close(&self, slot: usize) {
        let mut slots = self.lock();
        if slots.all.get_mut(slot).and_then(Option::take).is_some() {
            slots.free.push(slot);
        }
        let none_left = slots.free.len() == slots.all.len();
        drop(slots);
        if none_left {
            self.returned.notify_waiters();
        }
    }

    pub(crate) fn count(&self) -> usize {
        let slots = self.lock();
        slots.all.len() - slots.free.len()
    }

    pub(crate) fn list(&self) -> Vec<Loan> {
        self.lock().all.iter().flatten().cloned().collect()
    }

    /// Ends when nobody holds a connection.
    pub(crate) async fn all_returned(&self) {
        loop {
            let returned = self.returned.notified();
            if self.count() == 0 {
                return;
            }
            returned.await;
        }
    }
}
