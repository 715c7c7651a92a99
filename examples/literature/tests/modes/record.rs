use super::{MODES, Mode};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a mode has shown so far.
pub(super) struct Record {
    mode: &'static Mode,
    begun: Instant,
    passed: Vec<&'static str>,
    skipped: Vec<&'static str>,
    start: Option<Duration>,
}

impl Record {
    pub(super) fn new(mode: &'static Mode) -> Self {
        Self {
            mode,
            begun: Instant::now(),
            passed: Vec::new(),
            skipped: Vec::new(),
            start: None,
        }
    }

    pub(super) fn passed(&mut self, step: &'static str) {
        eprintln!(
            "{}: {step}, after {:.1} s",
            self.mode.name,
            self.begun.elapsed().as_secs_f64()
        );
        self.passed.push(step);
    }

    pub(super) fn skipped(&mut self, step: &'static str, reason: &str) {
        eprintln!("SKIPPED: {} mode: {step}: {reason}", self.mode.name);
        self.skipped.push(step);
    }

    /// From the process's start to the first `/health` with 200, its database being migrated.
    pub(super) fn started_in(&mut self, time: Duration) {
        self.start = Some(time);
    }

    /// Asserts that nothing was forgotten, and leaves the record where `MODES_RESULTS` wants it.
    pub(super) fn end(self) {
        let seen: Vec<&str> = self.passed.iter().chain(&self.skipped).copied().collect();
        assert_eq!(seen, self.mode.steps(), "{}", self.mode.name);
        let Some(dir) = std::env::var_os("MODES_RESULTS") else {
            return;
        };
        let place = MODES
            .iter()
            .position(|mode| mode.name == self.mode.name)
            .expect("it is one of them");
        let record = serde_json::json!({
            "mode": self.mode.name,
            "back_ends": self.mode.back_ends,
            "passed": self.passed.len(),
            "steps": seen.len(),
            "start_ms": self.start.expect("it was started").as_millis(),
            "seconds": self.begun.elapsed().as_secs_f64(),
        });
        let file = Path::new(&dir).join(format!("{place}.json"));
        std::fs::write(file, record.to_string()).expect("the directory was made for it");
    }
}
