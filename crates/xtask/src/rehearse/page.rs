//! The part of a page that a rehearsal writes: between `<!-- begin NAME -->` and `<!-- end NAME -->`.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::failure::{Failure, Result, on_path};
use crate::process;

/// Above this share of the processors' time taken by others, figures are the machine's.
const QUIET: f64 = 0.15;

/// When and where figures were taken, and whether somebody else was at work there.
pub(super) struct Taken {
    day: String,
    machine: String,
    busy: f64,
}

impl Taken {
    /// Looks at the machine for two seconds. Not at the load average, which remembers the minute before.
    pub(super) fn now() -> Result<Self> {
        let before = processor_time()?;
        std::thread::sleep(Duration::from_secs(2));
        let after = processor_time()?;
        let (busy, all) = (after.0 - before.0, after.1 - before.1);
        let day = process::run_quietly(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        let kind = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kind = kind
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("of an unknown kind", |(_, name)| name);
        let cores = std::thread::available_parallelism()?;
        Ok(Self {
            day: String::from_utf8_lossy(&day.stdout).trim().to_owned(),
            machine: format!("{cores} cores ({kind})"),
            busy: busy as f64 / all.max(1) as f64,
        })
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.busy < QUIET
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, machine, busy } = self;
        let percent = busy * 100.0;
        write!(f, "Taken on {day} on {machine}. ")?;
        if self.is_quiet() {
            write!(
                f,
                "Nobody else was at work on the machine ({percent:.0} % busy before)."
            )
        } else {
            write!(
                f,
                "**Others were at work on the machine ({percent:.0} % busy before): these figures are no verdict.**"
            )
        }
    }
}

/// What all processors together have worked, and worked and waited, in ticks.
fn processor_time() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat")?;
    worked(&text).ok_or_else(|| Failure::new("/proc/stat has no line `cpu`"))
}

fn worked(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what follows is counted in them already.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let all: u64 = ticks.iter().sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// Replaces the part; the rest of the page is a person's.
pub(super) fn replace(file: &Path, name: &str, part: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).map_err(on_path(file))?;
    let text = replaced(&text, name, part)
        .ok_or_else(|| format!("{}: there is no part `{name}` to write", file.display()))?;
    std::fs::write(file, text).map_err(on_path(file))
}

fn replaced(text: &str, name: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("<!-- begin {name} -->\n"))?;
    let (_, after) = rest.split_once(&format!("<!-- end {name} -->"))?;
    Some(format!(
        "{before}<!-- begin {name} -->\n\n{part}\n<!-- end {name} -->{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_taken_by_others_is_work() {
        let stat = "cpu  10 1 5 70 4 2 3 5 8 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(worked(stat), Some((26, 100)));
        assert_eq!(worked("intr 7\n"), None);
    }

    #[test]
    fn only_the_part_is_replaced() {
        let page = "# A\n<!-- begin x -->\nold\n<!-- end x -->\nB\n";
        let written = replaced(page, "x", "new\n").expect("it has the part");
        assert_eq!(written, "# A\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nB\n");
        assert_eq!(
            replaced(&written, "x", "new\n").as_deref(),
            Some(written.as_str())
        );
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
