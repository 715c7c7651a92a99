//! How far a transfer is: a bar for people, a line now and then for logs.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use zhuji_config::ByteSize;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    objects: u64,
    bytes: u64,
    done_objects: AtomicU64,
    done_bytes: AtomicU64,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl Meter {
    pub(crate) fn new(objects: u64, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{bar:30} {msg} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            );
            let bar = ProgressBar::new(bytes);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(format!("0/{objects}"));
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            objects,
            bytes,
            done_objects: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            started: now,
            last_line: Mutex::new(now),
        }
    }

    pub(crate) fn bytes(&self, more: u64) {
        let done = self.done_bytes.fetch_add(more, Ordering::Relaxed) + more;
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None => self.line_if_due(),
        }
    }

    pub(crate) fn object(&self) {
        let done = self.done_objects.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.set_message(format!("{done}/{}", self.objects)),
            None => self.line_if_due(),
        }
    }

    /// Something that must be read, without spoiling the bar.
    pub(crate) fn complain(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line_if_due(&self) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < LINE_EVERY {
            return;
        }
        *last = Instant::now();
        let (objects, bytes) = (
            self.done_objects.load(Ordering::Relaxed),
            self.done_bytes.load(Ordering::Relaxed),
        );
        let _ = writeln!(
            std::io::stderr(),
            "{}",
            line(objects, self.objects, bytes, self.bytes, self.started.elapsed())
        );
    }
}

fn line(objects: u64, all_objects: u64, bytes: u64, all_bytes: u64, elapsed: Duration) -> String {
    let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let left = if rate > 0.0 {
        let seconds = (all_bytes.saturating_sub(bytes) as f64 / rate).round();
        format!(", {seconds:.0}s left")
    } else {
        String::new()
    };
    let size = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    format!(
        "{objects} of {all_objects} objects, {} of {}, {}/s{left}",
        size(bytes),
        ByteSize::new(all_bytes),
        size(rate as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let said = line(3, 10, 32 << 20, 64 << 20, Duration::from_secs(4));
        assert_eq!(said, "3 of 10 objects, 32.0 MiB of 64MiB, 8.0 MiB/s, 4s left");
        assert!(!line(0, 10, 0, 64 << 20, Duration::from_secs(4)).contains("left"));
    }
}
