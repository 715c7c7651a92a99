use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A task that does nothing but come back on time. How late it is says how busy or blocked the event loop is.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    origin: Instant,
    period: Duration,
    /// Microseconds from `origin` to the last beat.
    last: AtomicU64,
    /// Microseconds by which the last beat was late.
    late: AtomicU64,
}

impl Heartbeat {
    pub(crate) fn new(period: Duration) -> Self {
        let period = period.max(Duration::from_millis(10));
        Self {
            origin: Instant::now(),
            period,
            last: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    pub(crate) async fn run(&self) {
        loop {
            let before = Instant::now();
            tokio::time::sleep(self.period).await;
            let late = before.elapsed().saturating_sub(self.period);
            self.late.store(micros(late), Ordering::Relaxed);
            self.last.store(micros(self.origin.elapsed()), Ordering::Release);
        }
    }

    /// Time since the last beat.
    pub(crate) fn silence(&self) -> Duration {
        self.origin
            .elapsed()
            .saturating_sub(Duration::from_micros(self.last.load(Ordering::Acquire)))
    }

    /// How late the last beat was, or the overdue one is by now.
    pub(crate) fn lag(&self) -> Duration {
        let overdue = self.silence().saturating_sub(self.period);
        overdue.max(Duration::from_micros(self.late.load(Ordering::Relaxed)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
