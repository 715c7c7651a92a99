//! One load per key and process: the first caller that misses leads, the others wait for what it brings.
//!
//! The leader is the caller's own future, not a task, so loaders may borrow and need not be `'static`. If that future
//! is dropped, its guard says so and one of the waiters takes the lead.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Flights {
    airborne: Mutex<HashMap<Arc<str>, Arc<Flight>>>,
    /// How many there are, so that a write can see without the lock that there is none to cut off.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Flight {
    state: watch::Sender<State>,
    /// The key was written or deleted after this load began, so its result must not be stored over that.
    superseded: AtomicBool,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Loading,
    Loaded(Bytes),
    Failed(Arc<dyn Any + Send + Sync>),
    /// Loaded, but it has no byte form: everyone has to load for themselves.
    Unshareable,
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The leader is gone without a result.
    Abandoned,
}

pub(crate) enum Seat {
    Lead(Lead),
    Wait(Wait),
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Flight>>> {
        // Nothing under the lock can leave the map half changed, so a poisoned lock is as good as a whole one.
        self.airborne.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(self: &Arc<Self>, key: &str) -> Seat {
        let key: Arc<str> = key.into();
        match self.lock().entry(key.clone()) {
            Entry::Occupied(entry) => {
                let flight = entry.get().clone();
                Seat::Wait(Wait {
                    changes: flight.state.subscribe(),
                    _flight: flight,
                })
            }
            Entry::Vacant(entry) => {
                let flight = Arc::new(Flight {
                    state: watch::Sender::new(State::Loading),
                    superseded: AtomicBool::new(false),
                });
                entry.insert(flight.clone());
                self.count.fetch_add(1, Ordering::SeqCst);
                Seat::Lead(Lead {
                    flights: self.clone(),
                    key,
                    flight,
                })
            }
        }
    }

    /// The key is being written or deleted: later callers must not join a load that began before.
    pub(crate) fn supersede(&self, key: &str) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(flight) = self.lock().remove(key) {
            self.count.fetch_sub(1, Ordering::SeqCst);
            flight.superseded.store(true, Ordering::SeqCst);
        }
    }
}

pub(crate) struct Wait {
    changes: watch::Receiver<State>,
    // Keeps the sender alive: the state stays readable after the leader has landed.
    _flight: Arc<Flight>,
}

impl Wait {
    /// Safe to cancel.
    pub(crate) async fn landed(mut self) -> State {
        match self
            .changes
            .wait_for(|state| !matches!(state, State::Loading))
            .await
        {
            Ok(state) => state.clone(),
            Err(_) => State::Abandoned,
        }
    }
}

pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: Arc<str>,
    flight: Arc<Flight>,
}

impl Lead {
    /// Tells the waiters. The flight can still be joined until the guard is dropped, which the leader does after it
    /// has stored the value: in between, newcomers find the result here.
    pub(crate) fn publish(&self, state: State) {
        self.flight.state.send_replace(state);
    }

    pub(crate) fn superseded(&self) -> bool {
        self.flight.superseded.load(Ordering::SeqCst)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        {
            let mut airborne = self.flights.lock();
            if airborne
                .get(&self.key)
                .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
            {
                airborne.remove(&self.key);
                self.flights.count.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.flight.state.send_if_modified(|state| {
            let gone = matches!(state, State::Loading);
            if gone {
                *state = State::Abandoned;
            }
            gone
        });
    }
}
