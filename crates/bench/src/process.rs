//! A service that is being measured: started, watched from outside, ended.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::load::Connection;

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A running service. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// From before the process existed to the end of its first good answer.
    pub(crate) start: Duration,
}

impl Process {
    /// Starts the command, and waits until `GET /health` answers 200 with a database that is connected.
    pub(crate) async fn start(
        command: &mut Command,
        address: SocketAddr,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let begin = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("{} could not be started", command.get_program().display()))?;
        let mut process = Self {
            child,
            log,
            start: Duration::ZERO,
        };
        loop {
            if is_healthy(address).await {
                process.start = begin.elapsed();
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended at once ({status}):\n{}", process.last_words());
            }
            if begin.elapsed() > START_DEADLINE {
                bail!("not healthy after {START_DEADLINE:?}:\n{}", process.last_words());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Resident memory now, in MB (10⁶ bytes).
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory since the last [`forget_peak`](Self::forget_peak), in MB (10⁶ bytes).
    pub(crate) fn peak_memory(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    /// Lets the high-water mark begin at what is resident now. Where the kernel can't, it began with the process.
    pub(crate) fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    /// Processor time used so far, in seconds: user and system, all threads.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold anything; the fields after it don't.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        match (ticks.next(), ticks.next()) {
            (Some(Ok(user)), Some(Ok(system))) => {
                Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
            }
            _ => bail!("/proc/PID/stat has no processor time"),
        }
    }

    fn status(&self, field: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("/proc/PID/status has no {field}; this suite needs Linux"))?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// The end of the log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn is_healthy(address: SocketAddr) -> bool {
    let probe = async {
        let mut connection = Connection::open(address).await?;
        let answer = connection
            .send(b"GET /health HTTP/1.1\r\nhost: bench\r\n\r\n")
            .await?;
        let connected = br#""database":"connected""#;
        anyhow::Ok(answer.status == 200 && answer.body.windows(connected.len()).any(|part| part == connected))
    };
    matches!(
        tokio::time::timeout(Duration::from_secs(1), probe).await,
        Ok(Ok(true))
    )
}
