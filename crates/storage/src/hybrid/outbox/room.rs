//! How much an outbox may hold.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{Error, ErrorKind, Key, Result};

/// Bytes of all objects in an outbox, those under way and those kept aside included.
#[derive(Debug)]
pub(super) struct Space {
    used: AtomicU64,
    most: u64,
}

impl Space {
    pub(super) fn new(most: u64, used: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(used),
            most,
        })
    }

    pub(super) fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Room that grows as an object does.
    pub(super) fn room(self: &Arc<Self>) -> Arc<Room> {
        Arc::new(Room {
            space: Arc::clone(self),
            held: AtomicU64::new(0),
        })
    }
}

/// Room for one object; given back when it is dropped, unless the object stays.
#[derive(Debug)]
pub(super) struct Room {
    space: Arc<Space>,
    held: AtomicU64,
}

impl Room {
    pub(super) fn take(&self, key: &Key, bytes: u64) -> Result<()> {
        let Space { used, most } = &*self.space;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| sum <= most);
        if used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_err()
        {
            let why =
                format!("the outbox may hold {most} bytes, and this does not fit in besides what waits");
            return Err(Error::new(ErrorKind::NoSpace, "upload", key.as_str(), why)
                .with_hint("mend the link to the store, or raise STORAGE_OUTBOX_MAX"));
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The object stays: what it takes is given back with it.
    pub(super) fn keep(&self) {
        self.held.store(0, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.space.free(*self.held.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_given_back() {
        let (space, key) = (Space::new(10, 2), Key::new("a").unwrap());
        let kept = space.room();
        kept.take(&key, 3).unwrap();
        kept.keep();
        drop(kept);
        let dropped = space.room();
        dropped.take(&key, 5).unwrap();
        let error = dropped.take(&key, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().contains("STORAGE_OUTBOX_MAX"), "{error}");
        assert_eq!(
            space.room().take(&key, u64::MAX).unwrap_err().kind(),
            ErrorKind::NoSpace
        );
        drop(dropped);
        space.room().take(&key, 5).unwrap();
        assert_eq!(space.used.load(Ordering::Relaxed), 5);
    }
}
