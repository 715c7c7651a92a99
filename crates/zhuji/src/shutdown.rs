//! Signals, the one budget of the shutdown, and the watchdog behind it.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// The process ends with this code when even the forced shutdown did not come to an end.
const EXIT_WATCHDOG: i32 = 70;
/// How long after the budget the watchdog waits.
const WATCHDOG_GRACE: Duration = Duration::from_secs(2);

/// SIGTERM and SIGINT. Made first of all: as process 1 of a container, a signal without a handler is ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal's name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The time that is left of a shutdown; every phase gets what the ones before it did not use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    end: Instant,
}

impl Budget {
    /// Starts the clock, and a thread that ends the process if everything else fails to. A thread, because a runtime
    /// that is stuck runs no tasks.
    pub(crate) fn start(total: Duration) -> Self {
        let patience = total + WATCHDOG_GRACE;
        let watchdog = move || {
            std::thread::sleep(patience);
            eprintln!(
                "zhuji: the shutdown did not end within {} s; the process is ended",
                patience.as_secs()
            );
            std::process::exit(EXIT_WATCHDOG);
        };
        // Without a watchdog the shutdown still has its own deadlines.
        let _ = std::thread::Builder::new()
            .name("shutdown-watchdog".to_owned())
            .spawn(watchdog);
        Self {
            end: Instant::now() + total,
        }
    }

    /// The end of a phase that may take at most `share` of what is left.
    pub(crate) fn phase(self, share: f64) -> Instant {
        Instant::now() + self.left().mul_f64(share)
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}
