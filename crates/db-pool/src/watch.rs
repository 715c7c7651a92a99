//! Deadlines without a timer each.
//!
//! A timer for every statement is set, locked, unlocked and thrown away unused, on a wheel that all threads share. Here
//! the deadline is a number, and one task compares all of them with the clock four times a second.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// Shorter ones get a timer, for its precision.
const FROM: Duration = Duration::from_secs(4);

/// The deadline of what one connection is doing.
#[derive(Default)]
pub(crate) struct Watch {
    watched: AtomicBool,
    /// Microseconds of our clock; 0: none.
    deadline: AtomicU64,
    /// Somebody looked, and it was late.
    late: AtomicBool,
    waker: AtomicWaker,
}

/// Microseconds since the first call.
fn micros(at: Instant) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    // One second earlier, so that no time is 0.
    let since = at.saturating_duration_since(*EPOCH.get_or_init(Instant::now)) + Duration::from_secs(1);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Watch {
    /// From now on somebody looks.
    pub(crate) fn begin(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    /// Wakes who is past its deadline.
    pub(crate) fn look(&self, now: Instant) {
        let deadline = self.deadline.load(Ordering::Acquire);
        if deadline != 0 && deadline <= micros(now) {
            self.late.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// `work`, or `None` once `limit` has passed since `started`, a quarter of a second late at most when the limit is
    /// long. One at a time.
    pub(crate) async fn within<T>(
        &self,
        started: Instant,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let deadline = started + limit;
        if limit < FROM || !self.watched.load(Ordering::Relaxed) {
            return tokio::time::timeout_at(deadline.into(), work).await.ok();
        }
        let mut work = std::pin::pin!(work);
        let _unwatch = Unwatch(self);
        let mut polled = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            self.waker.register(cx.waker());
            if !polled {
                polled = true;
                self.late.store(false, Ordering::Relaxed);
                self.deadline.store(micros(deadline), Ordering::Release);
            } else if self.late.load(Ordering::Acquire) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

struct Unwatch<'a>(&'a Watch);

impl Drop for Unwatch<'_> {
    fn drop(&mut self) {
        self.0.deadline.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_deadlines_end_when_somebody_looks() {
        let watch = Watch::default();
        watch.begin();
        assert_eq!(watch.within(Instant::now(), FROM, async { 7 }).await, Some(7));
        let started = Instant::now().checked_sub(FROM).expect("the machine is older");
        let looks = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            watch.look(Instant::now());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = watch.within(started, FROM, std::future::pending::<()>()) => assert_eq!(ended, None),
            () = looks => {}
        }
        watch.look(Instant::now());
    }

    #[tokio::test]
    async fn short_ones_and_those_nobody_looks_at_have_a_timer() {
        let watch = Watch::default();
        watch.begin();
        let short = Duration::from_millis(20);
        assert_eq!(
            watch
                .within(Instant::now(), short, std::future::pending::<()>())
                .await,
            None
        );
        let alone = Watch::default();
        let started = Instant::now().checked_sub(FROM).expect("the machine is older");
        assert_eq!(
            alone.within(started, FROM, std::future::pending::<()>()).await,
            None
        );
    }
}
