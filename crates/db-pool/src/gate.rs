use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

/// How many connections may be in the hands of callers, and who waits for one, first come first served.
///
/// The pool beneath has such a limit as well, but its `resize` leaves the limit as it was while fewer connections are
/// open than it allows. It gets the highest limit there ever was and never refuses.
pub(crate) struct Gate {
    permits: Semaphore,
    limit: Mutex<usize>,
    /// Permits to be swallowed when they come back, because the limit was lowered while they were out.
    debt: AtomicUsize,
    waiting: Apart,
}

/// On a cache line of its own: those who wait write it, and those who do not should not notice.
#[derive(Default)]
#[repr(align(128))]
struct Apart(AtomicUsize);

/// The right to hold one connection; given back when dropped, unless [kept](Pass::keep).
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            permits: Semaphore::new(limit),
            limit: Mutex::new(limit),
            debt: AtomicUsize::new(0),
            waiting: Apart::default(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.0.load(Ordering::Relaxed)
    }

    /// Whether a connection that comes back now is one too many.
    pub(crate) fn is_over(&self) -> bool {
        self.debt.load(Ordering::Relaxed) > 0
    }

    /// Without waiting.
    pub(crate) fn try_enter(&self) -> Option<Pass<'_>> {
        self.permits.try_acquire().ok().map(|permit| {
            permit.forget();
            Pass(self)
        })
    }

    /// Waits for as long as it takes; `None` once the gate is closed.
    pub(crate) async fn enter(&self) -> Option<Pass<'_>> {
        let _waiting = Waiting::new(&self.waiting.0);
        self.permits.acquire().await.ok().map(|permit| {
            permit.forget();
            Pass(self)
        })
    }

    /// Gives back the right of a [kept](Pass::keep) pass.
    pub(crate) fn leave(&self) {
        if !self.pay() {
            self.permits.add_permits(1);
        }
    }

    fn pay(&self) -> bool {
        let less = |debt: usize| debt.checked_sub(1);
        self.debt
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less)
            .is_ok()
    }

    pub(crate) fn resize(&self, limit: usize) {
        let mut current = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit >= *current {
            let more = (*current..limit).filter(|_| !self.pay()).count();
            self.permits.add_permits(more);
        } else {
            self.debt.fetch_add(*current - limit, Ordering::AcqRel);
        }
        *current = limit;
        drop(current);
        self.settle();
    }

    /// Takes permits that nobody uses for the debt.
    pub(crate) fn settle(&self) {
        while self.pay() {
            if self.permits.forget_permits(1) == 0 {
                self.debt.fetch_add(1, Ordering::AcqRel);
                return;
            }
        }
    }

    pub(crate) fn close(&self) {
        self.permits.close();
    }
}

impl Pass<'_> {
    /// Whoever keeps it calls [`Gate::leave`].
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(gate: &Gate) -> usize {
        let passes: Vec<_> = std::iter::from_fn(|| gate.try_enter()).collect();
        passes.len()
    }

    #[test]
    fn a_lower_limit_holds_at_once_whoever_is_out() {
        let gate = Gate::new(10);
        let held: Vec<_> = (0..6).filter_map(|_| gate.try_enter()).collect();
        gate.resize(4);
        assert_eq!((free(&gate), gate.limit(), gate.is_over()), (0, 4, true));
        drop(held);
        assert_eq!((free(&gate), gate.is_over()), (4, false));
        gate.resize(2);
        assert_eq!(free(&gate), 2);
        gate.resize(7);
        assert_eq!(free(&gate), 7);
    }

    #[test]
    fn growing_forgives_what_is_still_owed() {
        let gate = Gate::new(8);
        let held: Vec<_> = (0..8).filter_map(|_| gate.try_enter()).collect();
        gate.resize(1);
        gate.resize(8);
        assert!(!gate.is_over());
        drop(held);
        assert_eq!(free(&gate), 8);
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_wait() {
        let gate = Gate::new(0);
        gate.close();
        assert!(gate.enter().await.is_none());
        assert_eq!(gate.waiting(), 0);
    }
}
