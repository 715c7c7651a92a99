use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::binaries::Binaries;
use crate::process::{self, Server, ServerError, give_away, unprivileged};

/// The superuser of every cluster the test kit makes.
pub(crate) const USER: &str = "zhuji";

/// Runs `initdb` into `data`, with `password` for [`USER`]. `data` must not exist; it exists only when this succeeds.
pub(crate) fn initialize(
    binaries: &Binaries,
    data: &Path,
    password: &str,
    auth: &str,
    durable: bool,
) -> Result<(), ServerError> {
    let parent = data.parent().unwrap_or(Path::new("."));
    // A directory of its own, so that an interrupted initdb leaves nothing that looks finished.
    let work = parent.join(format!("init-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    fs::create_dir(&work).map_err(|error| ServerError::io(work.display(), &error))?;
    let result = (|| {
        give_away(&work)?;
        let password_file = work.join("password");
        write_secret(&password_file, password)?;
        give_away(&password_file)?;
        let fresh = work.join("data");
        let mut command = unprivileged(&binaries.program("initdb"), None, &fresh)?;
        command
            .current_dir("/")
            .arg("--pgdata")
            .arg(&fresh)
            .args(["--username", USER, "--encoding", "UTF8"]);
        command.args([
            "--locale",
            if cfg!(target_os = "linux") { "C.UTF-8" } else { "C" },
        ]);
        command
            .arg("--auth")
            .arg(auth)
            .arg("--pwfile")
            .arg(&password_file);
        if !durable {
            // Small WAL segments make a copy of the data directory half as large.
            command.args(["--no-sync", "--wal-segsize=1"]);
        }
        let output = command
            .output()
            .map_err(|error| ServerError::io("initdb could not be run", &error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(ServerError::new(format!("initdb failed: {}", text.trim())));
        }
        fs::rename(&fresh, data).map_err(|error| ServerError::io(data.display(), &error))
    })();
    let _ = fs::remove_dir_all(&work);
    result
}

pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), ServerError> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| ServerError::io(path.display(), &error))
}

/// Runs one statement in single-user mode, which needs no running server and no password.
pub(crate) fn single_user(
    binaries: &Binaries,
    data: &Path,
    database: &str,
    sql: &str,
) -> Result<(), ServerError> {
    let mut command = unprivileged(&binaries.program("postgres"), Some("QUIT"), data)?;
    command
        .current_dir("/")
        .args(["--single", "-j", "-D"])
        .arg(data)
        .arg(database);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |error: &std::io::Error| ServerError::io("postgres --single", error);
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(format!("{sql};\n\n").as_bytes())
            .map_err(|error| failed(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || text.contains("ERROR:") || text.contains("FATAL:") {
        return Err(ServerError::new(format!(
            "postgres --single failed: {}",
            text.trim()
        )));
    }
    Ok(())
}

/// How a server process is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) binaries: Binaries,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    /// Directory of the unix socket; none: no socket.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) settings: Vec<(String, String)>,
    /// The signal of an orderly end: `INT` waits for nobody but writes everything, `QUIT` just ends.
    pub(crate) goodbye: Signal,
}

impl Launch {
    /// Starts the server on `port` and waits until it accepts connections.
    pub(crate) fn start(&self, port: u16) -> Result<Server, ServerError> {
        let death = if self.goodbye == Signal::QUIT {
            "QUIT"
        } else {
            "INT"
        };
        let mut command = unprivileged(&self.binaries.program("postgres"), Some(death), &self.data)?;
        let socket = self
            .socket
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        command
            .current_dir("/")
            .arg("-D")
            .arg(&self.data)
            .arg("-p")
            .arg(port.to_string());
        command.args(["-h", "127.0.0.1", "-k", &socket]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| ServerError::io(self.log.display(), &error))?;
        let log_too = log
            .try_clone()
            .map_err(|error| ServerError::io(self.log.display(), &error))?;
        command.stdin(Stdio::null()).stdout(log).stderr(log_too);
        // Ctrl-C in a terminal goes to the whole group; the server is stopped by us, after its clients.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let before = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let child =
            process::spawn(command).map_err(|error| ServerError::io("postgres could not be run", &error))?;
        let mut server = Server::new(child, self.goodbye);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = server.exited() {
                let text = fs::read(&self.log).unwrap_or_default();
                let text = String::from_utf8_lossy(
                    text.get(usize::try_from(before).unwrap_or(0)..).unwrap_or(&text),
                )
                .into_owned();
                return Err(ServerError::new(format!(
                    "postgres ended at once ({status}): {}",
                    text.trim()
                )));
            }
            // A killed server leaves its file behind, with the same words in it.
            let ready = |file: PidFile| file.ready && file.port == port && file.pid == server.id();
            if PidFile::read(&self.data).is_some_and(ready) {
                return Ok(server);
            }
            if Instant::now() > deadline {
                return Err(ServerError::new(format!(
                    "postgres was not ready after 60 s: see {}",
                    self.log.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// [`start`](Self::start) on a free port, trying another when somebody was faster.
    pub(crate) fn start_anywhere(&self) -> Result<(Server, u16), ServerError> {
        let mut last = None;
        for _ in 0..5 {
            let port = crate::ports::free_port();
            match self.start(port) {
                Ok(server) => return Ok((server, port)),
                Err(error) if error.0.contains("could not create any TCP/IP sockets") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ServerError::new("no free port")))
    }
}

/// What a running server writes about itself into `postmaster.pid`.
#[derive(Debug)]
pub(crate) struct PidFile {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) ready: bool,
}

impl PidFile {
    pub(crate) fn read(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: lines.first()?.trim().parse().ok()?,
            port: lines.get(3)?.trim().parse().ok()?,
            ready: lines.get(7).is_some_and(|line| line.trim() == "ready"),
        })
    }

    /// Whether the process is there and really is a PostgreSQL server, not one that got its number since.
    pub(crate) fn is_running(&self) -> bool {
        if !process::is_alive(self.pid) {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/comm", self.pid)) {
            Ok(name) => matches!(name.trim(), "postgres" | "postmaster"),
            // No /proc on this system: believe the file.
            Err(_) => !Path::new("/proc/self").exists(),
        }
    }
}
