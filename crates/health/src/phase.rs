use std::sync::atomic::{AtomicBool, Ordering};

/// Where the process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Migrations and modules are still coming up.
    Starting,
    /// Traffic is welcome.
    Ready,
    /// The process is going away: finish what runs, take nothing new.
    Draining,
}

impl Phase {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The answer to a live, ready or startup probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether the probe passes.
    pub ok: bool,
    /// `ok`, or the reason why not: `starting`, `draining`, `wedged`.
    pub reason: &'static str,
}

impl Probe {
    pub(crate) fn new(failed: Option<&'static str>) -> Self {
        Self {
            ok: failed.is_none(),
            reason: failed.unwrap_or("ok"),
        }
    }

    /// 200 or 503.
    pub fn status_code(&self) -> u16 {
        if self.ok { 200 } else { 503 }
    }

    /// `{"status":"ok"}`, or the reason in its place.
    pub fn to_json(&self) -> String {
        format!(r#"{{"status":"{}"}}"#, self.reason)
    }
}

/// Two latches rather than one value: a process that drains before it ever got ready must not look started.
#[derive(Debug, Default)]
pub(crate) struct Life {
    started: AtomicBool,
    draining: AtomicBool,
}

impl Life {
    pub(crate) fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.draining.load(Ordering::Acquire) {
            Phase::Draining
        } else if self.started() {
            Phase::Ready
        } else {
            Phase::Starting
        }
    }
}
