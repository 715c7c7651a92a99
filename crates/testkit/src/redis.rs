//! Throw-away Redis.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ports::free_port;
use crate::postgres::tls::Certificates;
use crate::process::{self, Scratch, Server, ServerError, find_in_path, unprivileged};

/// What to type when Redis is missing.
pub const REDIS_INSTALL_HINT: &str = "apt-get install -y redis-server";

/// A Redis server for one test: a free port of 127.0.0.1, nothing on disk, gone when dropped.
#[derive(Debug)]
pub struct TestRedis {
    port: u16,
    server: Arc<Mutex<Option<Server>>>,
    certificates: Option<Certificates>,
    scratch: Scratch,
}

impl TestRedis {
    /// Starts a server.
    ///
    /// # Panics
    /// When Redis is not installed (the message has the apt line) or does not start.
    pub async fn start() -> Self {
        blocking(|| Self::launch(false)).await
    }

    /// Starts a server that speaks TLS and nothing else, with a certificate for `localhost` that
    /// [`authority`](Self::authority) signed.
    ///
    /// # Panics
    /// As [`start`](Self::start), and when `openssl` is not installed.
    pub async fn start_with_tls() -> Self {
        blocking(|| Self::launch(true)).await
    }

    pub(crate) fn launch(tls: bool) -> Result<Self, ServerError> {
        let scratch = Scratch::new("redis")?;
        let certificates = match tls {
            true => Some(Certificates::make(scratch.path())?),
            false => None,
        };
        let arguments = |port| throw_away(port, certificates.as_ref());
        let (server, port) = start_anywhere(scratch.path(), arguments)?;
        Ok(Self {
            port,
            server: Arc::new(Mutex::new(Some(server))),
            certificates,
            scratch,
        })
    }

    /// `redis://127.0.0.1:port`, or `rediss://localhost:port` with TLS.
    pub fn url(&self) -> String {
        match self.certificates {
            Some(_) => format!("rediss://localhost:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The authority that signed the certificate of a server with TLS.
    ///
    /// # Panics
    /// Without TLS.
    pub fn authority(&self) -> &Path {
        &self.certificates.as_ref().expect("a server with TLS").authority
    }

    /// An authority that signed nothing here.
    ///
    /// # Panics
    /// Without TLS.
    pub fn stranger(&self) -> &Path {
        &self.certificates.as_ref().expect("a server with TLS").stranger
    }

    /// The port, which stays the same over a [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server with `SIGKILL`: connections are cut and every key is lost.
    pub async fn stop_hard(&self) {
        self.with_server(|server| {
            if let Some(mut server) = server.take() {
                server.kill();
            }
            Ok(())
        })
        .await;
    }

    /// The same: a server without a disk has no gentler end.
    pub async fn stop(&self) {
        self.stop_hard().await;
    }

    /// Starts a stopped server again, empty, on the same port; a running one is left alone.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&self) {
        let (port, dir) = (self.port, self.scratch.path().to_owned());
        let arguments = throw_away(port, self.certificates.as_ref());
        self.with_server(move |server| {
            if server.is_none() {
                *server = Some(start(&dir, &arguments)?);
            }
            Ok(())
        })
        .await;
    }

    /// Stops the server where it is (`SIGSTOP`): connections stay open, new ones are taken by the kernel, and nothing
    /// answers.
    pub async fn pause(&self) {
        self.with_server(|server| {
            if let Some(server) = server {
                server.pause();
            }
            Ok(())
        })
        .await;
    }

    /// Lets a paused server go on.
    pub async fn resume(&self) {
        self.with_server(|server| {
            if let Some(server) = server {
                server.resume();
            }
            Ok(())
        })
        .await;
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::id)
    }

    /// Starts the server again, empty, on the same port; a running one is stopped first.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    async fn with_server(
        &self,
        work: impl FnOnce(&mut Option<Server>) -> Result<(), ServerError> + Send + 'static,
    ) {
        let server = Arc::clone(&self.server);
        blocking(move || work(&mut server.lock().unwrap_or_else(PoisonError::into_inner))).await;
    }
}

/// A Redis that keeps its data in a directory: what `cargo xtask dev --cloud` runs.
#[derive(Debug)]
pub struct DevRedis {
    url: String,
    _server: Server,
}

impl DevRedis {
    /// Starts the server, with its data in `dir`. It is stopped when dropped or when this process dies.
    ///
    /// # Errors
    /// When Redis is missing (the message has the apt line) or does not start.
    pub fn start(dir: impl AsRef<Path>) -> Result<Self, ServerError> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|error| ServerError::io(dir.display(), &error))?;
        let dir: PathBuf =
            std::fs::canonicalize(dir).map_err(|error| ServerError::io(dir.display(), &error))?;
        process::give_away(&dir)?;
        let (server, port) = start_anywhere(&dir, |port| {
            ["--port", &port.to_string(), "--appendonly", "yes"]
                .map(str::to_owned)
                .to_vec()
        })?;
        Ok(Self {
            url: format!("redis://127.0.0.1:{port}"),
            _server: server,
        })
    }

    /// What to put into `REDIS_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Nothing is kept on disk.
fn throw_away(port: u16, tls: Option<&Certificates>) -> Vec<String> {
    let mut arguments: Vec<String> = ["--save", "", "--appendonly", "no"].map(str::to_owned).to_vec();
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    match tls {
        None => add("--port", port.to_string()),
        Some(tls) => {
            add("--port", "0".to_owned());
            add("--tls-port", port.to_string());
            add("--tls-auth-clients", "no".to_owned());
            add("--tls-cert-file", tls.certificate.display().to_string());
            add("--tls-key-file", tls.key.display().to_string());
            add("--tls-ca-cert-file", tls.authority.display().to_string());
        }
    }
    arguments
}

fn start_anywhere(dir: &Path, arguments: impl Fn(u16) -> Vec<String>) -> Result<(Server, u16), ServerError> {
    let mut last = None;
    for _ in 0..5 {
        let port = free_port();
        match start(dir, &arguments(port)) {
            Ok(server) => return Ok((server, port)),
            Err(error) if error.0.contains("Address already in use") => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| ServerError::new("no free port")))
}

fn start(dir: &Path, arguments: &[String]) -> Result<Server, ServerError> {
    let program = find_in_path("redis-server").ok_or_else(|| {
        ServerError::new(format!(
            "Redis is not installed (no redis-server in PATH): {REDIS_INSTALL_HINT}"
        ))
    })?;
    let log = dir.join("log");
    let _ = std::fs::remove_file(&log);
    let mut command = unprivileged(&program, Some("TERM"), dir)?;
    command.current_dir("/").args(["--bind", "127.0.0.1"]);
    command
        .args(["--daemonize", "no", "--dir"])
        .arg(dir)
        .arg("--logfile")
        .arg(&log)
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child =
        process::spawn(command).map_err(|error| ServerError::io("redis-server could not be run", &error))?;
    let mut server = Server::new(child, Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = server.exited() {
            let end: Vec<&str> = said.lines().rev().take(5).collect();
            return Err(ServerError::new(format!(
                "redis-server ended at once ({status}): {}",
                end.join(" | ")
            )));
        }
        if said.contains("Ready to accept connections") {
            return Ok(server);
        }
        if Instant::now() > deadline {
            return Err(ServerError::new("redis-server was not ready after 20 s"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ServerError> + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
