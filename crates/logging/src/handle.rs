use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_log::AsLog as _;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, ErrorKind, Result};
use crate::filter::LogFilter;
use crate::recent::{Recent, RecentError};

type Apply =
    Box<dyn Fn(EnvFilter) -> std::result::Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// Steers logging while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    inner: Arc<Inner>,
}

struct Inner {
    apply: Apply,
    configured: LogFilter,
    state: Mutex<State>,
    /// Wakes the thread that puts the configured filter back.
    changed: Condvar,
    lost: Arc<AtomicU64>,
    recent: Recent,
    /// Whether records of the `log` crate come through us, too.
    bridged: AtomicBool,
}

struct State {
    current: LogFilter,
    returns_at: Option<Instant>,
    /// Whether the thread that waits for `returns_at` exists.
    waiting: bool,
}

impl LogHandle {
    pub(crate) fn new(apply: Apply, configured: LogFilter, lost: Arc<AtomicU64>, recent: Recent) -> Self {
        let state = State {
            current: configured.clone(),
            returns_at: None,
            waiting: false,
        };
        Self {
            inner: Arc::new(Inner {
                apply,
                configured,
                state: Mutex::new(state),
                changed: Condvar::new(),
                lost,
                recent,
                bridged: AtomicBool::new(false),
            }),
        }
    }

    pub(crate) fn mark_bridged(&self) {
        self.inner.bridged.store(true, Ordering::Relaxed);
    }

    /// Replaces the filter, for a while or until the next call: people forget to turn `debug` off again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Filter`] for a filter that cannot be read (nothing changes), [`ErrorKind::Gone`] when the
    /// subscriber no longer exists.
    pub fn set_filter(&self, filter: &str, returns_after: Option<Duration>) -> Result<()> {
        let filter = LogFilter::parse(filter)?;
        let inner = &self.inner;
        {
            let mut state = inner.lock();
            inner.apply(&filter)?;
            state.current = filter.clone();
            // A time that the clock cannot express is as good as never.
            state.returns_at = returns_after.and_then(|after| Instant::now().checked_add(after));
            if state.returns_at.is_some() && !state.waiting {
                let waiter = inner.clone();
                let thread = std::thread::Builder::new().name("log-filter".into());
                state.waiting = thread.spawn(move || waiter.wait_and_return()).is_ok();
            }
            inner.changed.notify_all();
        }
        let for_seconds = returns_after.map(|after| after.as_secs());
        tracing::info!(filter = filter.as_str(), for_seconds, "log filter changed");
        Ok(())
    }

    /// Puts the configured filter back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`] when the subscriber no longer exists.
    pub fn reset_filter(&self) -> Result<()> {
        self.inner.reset(&mut self.inner.lock())
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.inner.lock().current.as_str().to_owned()
    }

    /// The filter of the settings, which comes back.
    pub fn configured_filter(&self) -> &str {
        self.inner.configured.as_str()
    }

    /// Time until the configured filter comes back by itself.
    pub fn returns_in(&self) -> Option<Duration> {
        self.inner
            .lock()
            .returns_at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Lines that could not be written, because the reader of stdout is gone or the disk is full.
    pub fn lost_lines(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// What went wrong last, the newest first: events of level `error`, and answers of 500 and above. The last 50 that the
    /// filter let through are kept.
    pub fn recent_errors(&self) -> Vec<RecentError> {
        self.inner.recent.list()
    }

    /// Makes sure that everything logged so far has left the process. Lines are written at once, so there is little
    /// to do; call it last anyway.
    pub fn flush(&self) {
        // A reader that is gone cannot be told.
        let _ = std::io::Write::flush(&mut std::io::stdout());
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle")
            .field("filter", &self.filter())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, filter: &LogFilter) -> Result<()> {
        (self.apply)(filter.to_env_filter()).map_err(|error| {
            let why = "the subscriber is gone; set up logging again";
            Error::new(
                ErrorKind::Gone,
                "changing the log filter",
                format!("`{filter}`"),
                why,
            )
            .caused_by(error)
        })?;
        if self.bridged.load(Ordering::Relaxed) {
            tracing_log::log::set_max_level(LevelFilter::current().as_log());
        }
        Ok(())
    }

    fn reset(&self, state: &mut State) -> Result<()> {
        self.apply(&self.configured)?;
        state.current = self.configured.clone();
        state.returns_at = None;
        self.changed.notify_all();
        Ok(())
    }

    fn wait_and_return(&self) {
        let mut state = self.lock();
        while let Some(at) = state.returns_at {
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let waited = self.changed.wait_timeout(state, left);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Without a subscriber there is nothing left to restore, so the wait is over either way.
            let _ = self.reset(&mut state);
            state.returns_at = None;
        }
        state.waiting = false;
    }
}
