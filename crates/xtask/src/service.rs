//! The reference service as a child process: built, started, watched, and ended in order.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::{self, cargo};

/// How long a service that was told to stop may take: its own budget, and some more.
const PATIENCE: Duration = Duration::from_secs(40);

/// The package of the reference service.
const PACKAGE: &str = "literature";

/// Builds the reference service, and says where the program is.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "build",
        "--locked",
        "--package",
        PACKAGE,
        "--message-format",
        "json-render-diagnostics",
    ]);
    if release {
        build.arg("--release");
    } else {
        println!(
            "building without optimisation, which starts sooner (--release for speed); the first build takes minutes"
        );
    }
    println!("$ {}", process::shown(&build));
    let output = build.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(Failure::with_code(
            "the reference service does not build",
            process::code_of(output.status),
        ));
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("cargo built {PACKAGE} but named no program").into())
}

/// The program among cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| {
            message
                .target
                .as_ref()
                .is_some_and(|target| target.name == PACKAGE)
        })
        .find_map(|message| message.executable)
}

/// Environment for the service. What is set here wins over what the caller's shell has.
#[derive(Debug, Default)]
pub(crate) struct Environment(Vec<(&'static str, String)>);

impl Environment {
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.0.push((name, value.into()));
        self
    }

    pub(crate) fn set_path(&mut self, name: &'static str, value: &Path) -> &mut Self {
        self.set(name, value.display().to_string())
    }
}

/// Runs the service until it ends or is told to end, and calls `when_ready` once its health is good.
pub(crate) async fn run(
    program: &Path,
    port: u16,
    environment: &Environment,
    when_ready: impl FnOnce(),
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut child = command(program, environment)
        .spawn()
        .map_err(|error| Failure::new(format!("{} could not be started: {error}", program.display())))?;
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    let mut ready = std::pin::pin!(healthy(port));
    let mut when_ready = Some(when_ready);
    let mut stopping: Option<tokio::time::Instant> = None;
    let status = loop {
        let deadline = stopping.map(|since| since + PATIENCE);
        tokio::select! {
            status = child.wait() => break status?,
            () = &mut ready, if when_ready.is_some() => {
                if let Some(when_ready) = when_ready.take() {
                    when_ready();
                }
            }
            signal = signals.next() => {
                stopping.get_or_insert_with(tokio::time::Instant::now);
                if let Some(pid) = pid {
                    // It may have ended by itself a moment ago.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                eprintln!("the service did not stop within {} s: it is killed", PATIENCE.as_secs());
                child.start_kill()?;
                break child.wait().await?;
            }
        }
    };
    verdict(status, stopping.is_some())
}

fn verdict(status: ExitStatus, was_told: bool) -> Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    // A signal that comes before the service listens for it ends it at once: asked for as well.
    if status.success() || (was_told && status.signal().is_some()) {
        return Ok(());
    }
    Err(Failure::with_code(
        format!("the service ended by itself ({status})"),
        process::code_of(status),
    ))
}

fn command(program: &Path, environment: &Environment) -> tokio::process::Command {
    let mut command = match machine::find("setpriv") {
        // Should this process be killed, the service is told to stop instead of keeping its port.
        Some(setpriv) => {
            let mut command = tokio::process::Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => tokio::process::Command::new(program),
    };
    // Ctrl-C reaches every process of a terminal's foreground group. The service gets a group of its own, so that it
    // hears of it once, from us: twice would mean "now, without waiting".
    command.process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    for (name, value) in &environment.0 {
        command.env(name, value).env_remove(format!("{name}_FILE"));
    }
    command
}

/// The signals by which people and service managers ask a program to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one, and answers with what to tell the service.
    async fn next(&mut self) -> rustix::process::Signal {
        tokio::select! {
            _ = self.interrupt.recv() => rustix::process::Signal::INT,
            _ = self.terminate.recv() => rustix::process::Signal::TERM,
            // The terminal is gone: end in order all the same.
            _ = self.hang_up.recv() => rustix::process::Signal::TERM,
        }
    }
}

/// Waits until somebody asks this program to end.
pub(crate) async fn asked_to_end() -> Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}

/// Waits until the service answers that it is well.
async fn healthy(port: u16) {
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(2), health_status(port)).await;
        if matches!(answer, Ok(Ok(200))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The status of `GET /health`.
async fn health_status(port: u16) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    socket.take(4096).read_to_end(&mut answer).await?;
    Ok(status_of(&answer).unwrap_or(0))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line)
        .ok()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/debug/other"}
{"reason":"compiler-artifact","target":{"name":"literature"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"literature"},"executable":"/t/debug/literature"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/literature")));
        assert_eq!(executable("not JSON"), None);
    }

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(
            status_of(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\n"),
            Some(503)
        );
        assert_eq!(status_of(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(status_of(b""), None);
    }

    #[test]
    fn what_is_set_here_wins_over_a_file_that_the_shell_names() {
        let mut environment = Environment::default();
        environment.set("DATABASE_URL", "postgres://here");
        let command = command(Path::new("/bin/true"), &environment);
        let set: Vec<_> = command.as_std().get_envs().collect();
        assert!(
            set.contains(&("DATABASE_URL".as_ref(), Some("postgres://here".as_ref()))),
            "{set:?}"
        );
        // Both at once would be refused by the service.
        assert!(set.contains(&("DATABASE_URL_FILE".as_ref(), None)), "{set:?}");
    }

    #[tokio::test]
    async fn a_service_that_ends_by_itself_passes_on_its_status() {
        let failed = run(Path::new("/bin/false"), 1, &Environment::default(), || {})
            .await
            .expect_err("it fails");
        assert_eq!(failed.code(), 1);
        run(Path::new("/bin/true"), 1, &Environment::default(), || {})
            .await
            .expect("it ends well");
    }

    #[tokio::test]
    async fn readiness_is_told_once_health_is_good() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let server = tokio::spawn(async move {
            for answer in ["HTTP/1.1 503 Starting\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}"] {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 256];
                let read = socket.read(&mut request).await.expect("a request");
                assert!(request[..read].starts_with(b"GET /health "));
                socket.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        tokio::time::timeout(Duration::from_secs(10), healthy(port))
            .await
            .expect("ready after the second answer");
        server.await.expect("both were asked for");
    }
}
