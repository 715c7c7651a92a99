//! The process itself, as Prometheus clients of every language report it. Read from `/proc` at each render; where
//! there is no `/proc` the metrics are left out.

use std::fs;
use std::time::Instant;

use crate::text::Exposition;

/// The kernel reports times in this unit to user space on every architecture that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn write(started: Instant, out: &mut Exposition<'_>) {
    out.gauge(
        "process_uptime_seconds",
        "Time since metrics were set up, which is the start of the process.",
        started.elapsed().as_secs_f64(),
    );
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        // The second field is the program's name in parentheses, and may itself contain spaces and parentheses.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        // Counted from the third: 14 and 15 are user and system time, 22 is the start, in ticks since the boot.
        let ticks = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
        if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
            let help = "Processor time used, user and system.";
            out.counter(
                "process_cpu_seconds_total",
                help,
                (user + system) / TICKS_PER_SECOND,
            );
        }
        if let (Some(start), Some(boot)) = (ticks(22), boot_time()) {
            let help = "When the process started, in seconds since 1970.";
            out.gauge(
                "process_start_time_seconds",
                help,
                boot + start / TICKS_PER_SECOND,
            );
        }
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':')
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        };
        if let Some(kilobytes) = number("VmRSS") {
            out.gauge(
                "process_resident_memory_bytes",
                "Memory in use.",
                kilobytes * 1024.0,
            );
        }
        if let Some(kilobytes) = number("VmHWM") {
            let help = "The most memory that was ever in use.";
            out.gauge("process_resident_memory_peak_bytes", help, kilobytes * 1024.0);
        }
        if let Some(threads) = number("Threads") {
            out.gauge("process_threads", "Threads of the operating system.", threads);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        let count = open.count().saturating_sub(1);
        out.gauge("process_open_fds", "Open file descriptors.", count as f64);
    }
    if let Some(limit) = open_files_limit() {
        out.gauge("process_max_fds", "How many file descriptors may be open.", limit);
    }
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn open_files_limit() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    // `unlimited` is no number, and no limit is no gauge.
    line.split_whitespace().next()?.parse().ok()
}
