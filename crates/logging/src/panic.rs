use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics seen since [`install_panic_hook`]; for the counter `zhuji_panics_total`.
pub fn panic_count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Turns every panic into one ERROR event with its message, place and thread, instead of lines on stderr that no log
/// service can read. With `RUST_BACKTRACE=1` the event carries the backtrace.
///
/// Only an application calls this (the facade does). Calling it again changes nothing. While no subscriber is installed
/// the hook that was there before speaks.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            if !tracing::dispatcher::has_been_set() {
                return before(info);
            }
            // A panic while this thread reports a panic aborts the process, as it must; do not report it again.
            if INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
                return;
            }
            report(info);
            let _ = INSIDE.try_with(|inside| inside.set(false));
        }));
    });
}

fn report(info: &PanicHookInfo<'_>) {
    let said = info.payload_as_str().unwrap_or("a value that is no text");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(target: "panic", location, thread, %backtrace, "panicked: {said}");
    } else {
        tracing::error!(target: "panic", location, thread, "panicked: {said}");
    }
}
