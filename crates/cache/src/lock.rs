use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::adapter::CacheAdapter;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::new_token;

const SHORTEST: Duration = Duration::from_millis(100);
const FIRST_TRY: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A lock in the whole fleet, **best effort**: it keeps instances from doing the same work twice, it does not make
/// doing it twice safe. Two may believe that they hold it: after a pause of the process or the network that is longer
/// than its time to live, or when the store has lost its data. What must not happen twice needs the database (a unique
/// row, an advisory lock), or the [`fence`](Self::fence) checked where the effect is stored.
///
/// While it is held it is extended in the background, at every third of its time to live. Dropping it gives it back
/// soon; [`release`](Self::release) gives it back now.
pub struct Lock {
    adapter: Arc<dyn CacheAdapter>,
    key: String,
    token: String,
    fence: u64,
    lost: watch::Receiver<bool>,
    keeper: AbortHandle,
    released: bool,
}

impl Lock {
    /// Higher than the number of every earlier holder of this lock. Store it with what the lock protects, and refuse
    /// writes with a lower one: then a holder that was paused can do no harm.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether the lock could not be extended in time, so that someone else may hold it now.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Returns when the lock is lost: to be raced against the work. Safe to cancel.
    pub async fn lost(&self) {
        // An error means that the keeper is gone, which it is only when this lock is.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Gives the lock back; `false` if it was no longer held.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: then the lock ends with its time to live.
    pub async fn release(mut self) -> Result<bool> {
        self.keeper.abort();
        self.released = true;
        self.adapter.unlock(&self.key, &self.token).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeper.abort();
        if !self.released {
            give_back(&self.adapter, &self.key, &self.token);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("key", &self.key)
            .field("fence", &self.fence)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

fn give_back(adapter: &Arc<dyn CacheAdapter>, key: &str, token: &str) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let (adapter, key, token) = (adapter.clone(), key.to_owned(), token.to_owned());
    runtime.spawn(async move {
        let _ = adapter.unlock(&key, &token).await;
    });
}

impl Cache {
    /// Takes the lock `name` of this scope for as long as the answer is held, if nobody holds it. `ttl` is how long it
    /// outlives a process that dies with it; at least 100 ms, and better several seconds.
    ///
    /// # Errors
    ///
    /// If the store can't be reached: there is no silent fallback to a lock in this process. If `ttl` is too short.
    pub async fn try_lock(&self, name: &str, ttl: Duration) -> Result<Option<Lock>> {
        if ttl < SHORTEST {
            let reason = "the time to live of a lock is below 100 ms";
            return Err(Error::new(ErrorKind::InvalidInput, "lock", name, reason));
        }
        let adapter = &self.inner.adapter;
        let (key, token) = (format!("{}~lock:{name}", self.scope.names()), new_token());
        let asked = Instant::now();
        let fence = match self.counted(adapter.lock(&key, &token, ttl).await) {
            Ok(Some(fence)) => fence,
            Ok(None) => return Ok(None),
            Err(error) => {
                // It may have been taken all the same.
                give_back(adapter, &key, &token);
                return Err(error);
            }
        };
        let (sender, lost) = watch::channel(false);
        let keeper = tokio::spawn(keep(
            adapter.clone(),
            key.clone(),
            token.clone(),
            ttl,
            asked + ttl,
            sender,
        ));
        Ok(Some(Lock {
            adapter: adapter.clone(),
            key,
            token,
            fence,
            lost,
            keeper: keeper.abort_handle(),
            released: false,
        }))
    }

    /// [`try_lock`](Self::try_lock), again and again for up to `wait`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`] if it was held by others all the time; otherwise as [`try_lock`](Self::try_lock).
    pub async fn lock(&self, name: &str, ttl: Duration, wait: Duration) -> Result<Lock> {
        let until = Instant::now() + wait;
        let mut pause = FIRST_TRY;
        loop {
            if let Some(lock) = self.try_lock(name, ttl).await? {
                return Ok(lock);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = format!("held by someone else for {wait:?}");
                return Err(Error::new(ErrorKind::Locked, "lock", name, reason));
            }
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64()).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Extends the lock until it is lost. `until` is when it ends at the earliest, by this process's clock.
async fn keep(
    adapter: Arc<dyn CacheAdapter>,
    key: String,
    token: String,
    ttl: Duration,
    mut until: Instant,
    lost: watch::Sender<bool>,
) {
    let mut pause = ttl / 3;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(pause.min(left)).await;
        let asked = Instant::now();
        if asked >= until {
            break;
        }
        match adapter.extend_lock(&key, &token, ttl).await {
            Ok(true) => (until, pause) = (asked + ttl, ttl / 3),
            Ok(false) => break,
            // Out of reach: once more, sooner, as long as the lock may still be there.
            Err(_) => pause = ttl / 10,
        }
    }
    tracing::warn!(key, "lock lost: it could not be extended in time");
    let _ = lost.send(true);
}
