use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{PASSWORD, TestDatabase, USER, blocking};
use crate::ports::free_port;
use crate::process::{self, Scratch, Server, ServerError, find_in_path, give_away, unprivileged};

/// What to type when PgBouncer is missing.
pub const PGBOUNCER_INSTALL_HINT: &str = "apt-get install -y pgbouncer";

/// A real PgBouncer in transaction mode, in front of one database.
#[derive(Debug)]
pub struct TestPgBouncer {
    port: u16,
    database: String,
    // Dropped before its files are.
    _server: Server,
    _scratch: Scratch,
}

impl TestPgBouncer {
    /// Whether PgBouncer is installed on this machine.
    pub fn is_installed() -> bool {
        program().is_some()
    }

    /// Starts one that gives its clients `server_connections` connections to share.
    ///
    /// # Panics
    /// When PgBouncer is not installed (the message has the apt line) or does not start.
    pub async fn start(database: &TestDatabase, server_connections: u32) -> Self {
        let (server_port, name) = (database.server().port(), database.name().to_owned());
        blocking(move || Self::launch(server_port, name, server_connections)).await
    }

    fn launch(server_port: u16, database: String, server_connections: u32) -> Result<Self, ServerError> {
        let program = program().ok_or_else(|| {
            ServerError::new(format!("PgBouncer is not installed: {PGBOUNCER_INSTALL_HINT}"))
        })?;
        let scratch = Scratch::new("bouncer")?;
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            fs::write(&path, text).map_err(|error| ServerError::io(path.display(), &error))?;
            give_away(&path).map(|()| path)
        };
        let users = write("users", &format!("\"{USER}\" \"{PASSWORD}\"\n"))?;
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {server_connections}\nmax_client_conn = 500\n",
            users.display()
        );
        let settings = write("pgbouncer.ini", &settings)?;
        let mut command = unprivileged(&program, Some("TERM"), scratch.path())?;
        command
            .current_dir("/")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = process::spawn(command).map_err(|error| ServerError::io(program.display(), &error))?;
        let mut server = Server::new(child, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.exited() {
                return Err(ServerError::new(format!("pgbouncer ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(ServerError::new("pgbouncer did not listen within 20 s"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            port,
            database,
            _server: server,
            _scratch: scratch,
        })
    }

    /// URL of the database through the pooler.
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{}",
            self.port, self.database
        )
    }
}

fn program() -> Option<PathBuf> {
    // Not in every user's PATH.
    let usual = Path::new("/usr/sbin/pgbouncer");
    find_in_path("pgbouncer").or_else(|| usual.is_file().then(|| usual.to_owned()))
}
