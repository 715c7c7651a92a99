//! The reference service as somebody else runs it: started with these settings and no others, asked over HTTP, stopped.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::process;
use crate::workspace::Workspace;

/// How long anything may take here: machines that build are busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Builds a program of this workspace, and says where it is.
pub(super) fn build(workspace: &Workspace, package: &str, program: &str) -> Result<PathBuf> {
    let mut build = process::cargo();
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        package,
        "--bin",
        program,
    ]);
    process::run_quietly(&mut build)?;
    Ok(workspace.target().join("debug").join(program))
}

/// A service that is killed when dropped.
pub(super) struct Running {
    child: Child,
    port: u16,
    log: PathBuf,
    /// From the start to the first good answer of `/health`.
    pub(super) started_after: Duration,
}

impl Running {
    /// Starts the program in a directory, and returns when `/health` answers 200.
    pub(super) fn start(
        program: &Path,
        environment: &BTreeMap<String, String>,
        directory: &Path,
    ) -> Result<Self> {
        Self::start_by(Command::new(program), environment, directory)
    }

    /// As [`start`](Self::start), by a command that becomes the program.
    pub(super) fn start_by(
        mut command: Command,
        environment: &BTreeMap<String, String>,
        directory: &Path,
    ) -> Result<Self> {
        let port = environment
            .get("PORT")
            .and_then(|port| port.parse().ok())
            .ok_or("the service is given no PORT")?;
        let log = directory.join(format!("service-{port}.log"));
        let file = std::fs::File::create(&log)?;
        command.env_clear().envs(environment).current_dir(directory);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let started = Instant::now();
        let mut running = Self {
            child: command.spawn()?,
            port,
            log,
            started_after: Duration::ZERO,
        };
        running
            .until_healthy(started)
            .map_err(|failure| running.told(&failure))?;
        Ok(running)
    }

    fn until_healthy(&mut self, started: Instant) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the service ended by itself ({status})").into());
            }
            let answer = get(self.port, "/health");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                self.started_after = started.elapsed();
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err("/health was not 200 in time".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn told(&self, failure: &Failure) -> Failure {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n    ");
        Failure::new(format!("{failure}; the service said:\n    {tail}"))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for a good end.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("it has no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(std::io::Error::from)?;
        let told = Instant::now();
        while told.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let ended = status.success();
                return ended
                    .then_some(())
                    .ok_or_else(|| self.told(&format!("SIGTERM ended it with {status}").into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(self.told(&"it did not end after SIGTERM".into()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer over HTTP.
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body of a good answer.
    pub(super) fn json(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        match serde_json::from_slice(&self.body) {
            Ok(value) if self.status == 200 => Ok(value),
            _ => Err(format!("{}: {text}", self.head.lines().next().unwrap_or_default()).into()),
        }
    }
}

pub(super) fn get(port: u16, path: &str) -> std::io::Result<Answer> {
    bare(port, "GET", path)
}

pub(super) fn delete(port: u16, path: &str) -> std::io::Result<Answer> {
    bare(port, "DELETE", path)
}

fn bare(port: u16, method: &str, path: &str) -> std::io::Result<Answer> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    request(port, head.as_bytes())
}

/// Sends a file as a form does, in the field `file`.
pub(super) fn send_file(port: u16, path: &str, name: &str, file: &[u8]) -> std::io::Result<Answer> {
    let head = format!("--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    let tail = "\r\n--x--\r\n";
    let length = head.len() + file.len() + tail.len();
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=x\r\ncontent-length: {length}\r\n\r\n{head}"
    )
    .into_bytes();
    text.extend(file);
    text.extend(tail.bytes());
    request(port, &text)
}

fn request(port: u16, text: &[u8]) -> std::io::Result<Answer> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(text)?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes)?;
    Ok(answer(bytes))
}

fn answer(bytes: Vec<u8>) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = bytes.split_at(end.map_or(bytes.len(), |end| end + 4));
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    let answer = Answer {
        status: status.unwrap_or(0),
        body: body.to_vec(),
        head,
    };
    match answer.header("transfer-encoding") {
        Some("chunked") => Answer {
            body: unchunked(&answer.body),
            ..answer
        },
        _ => answer,
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).ok();
        let size = size
            .and_then(|size| usize::from_str_radix(size.trim(), 16).ok())
            .unwrap_or(0);
        let Some(chunk) = body
            .get(end + 2..end + 2 + size)
            .filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        whole.extend(chunk);
        body = body.get(end + 2 + size + 2..).unwrap_or_default();
    }
    whole
}

/// A real file of the literature, where some are beside this checkout.
pub(super) fn fixture(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    std::fs::read(folder.join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_and_without_chunks() {
        let plain = answer(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nbody".to_vec());
        assert_eq!(
            (plain.status, plain.header("location"), &*plain.body),
            (302, Some("/x"), &b"body"[..])
        );
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\nc\r\n hello world\r\n0\r\n\r\n";
        assert_eq!(answer(chunked.to_vec()).body, b"{} hello world");
        assert_eq!(answer(b"garbage".to_vec()).status, 0);
    }
}
