use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::binaries::Binaries;
use super::cluster::{Launch, PidFile, USER, initialize, single_user, write_secret};
use crate::process::{Server, ServerError, give_away};

/// The database of a [`DevCluster`].
const DATABASE: &str = "zhuji";

/// A private PostgreSQL that keeps its data in a directory of the checkout: what `cargo xtask dev` runs.
///
/// It listens on a free port of 127.0.0.1 only, with a random password kept beside the data (mode 0600), and is
/// stopped in order when dropped or when this process dies. Started while it already runs (a second terminal), it
/// hands out the running one and leaves it alone when dropped.
#[derive(Debug)]
pub struct DevCluster {
    url: String,
    server: Option<Server>,
}

impl DevCluster {
    /// Starts the cluster kept in `dir`, making it first if need be (about a second).
    ///
    /// `durable`: whether an acknowledged commit survives a power cut. Say `false` only for data that may be lost.
    /// Blocks; has no need of a runtime.
    ///
    /// # Errors
    /// When PostgreSQL is missing (the message has the apt line), the directory cannot be used, or the server does
    /// not start.
    pub fn start(dir: impl AsRef<Path>, durable: bool) -> Result<Self, ServerError> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|error| ServerError::io(dir.display(), &error))?;
        let dir = fs::canonicalize(dir).map_err(|error| ServerError::io(dir.display(), &error))?;
        // Two terminals at once: the second waits here, then finds the first one's server.
        let lock = dir.join("lock");
        let lock_file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .map_err(|error| ServerError::io(lock.display(), &error))?;
        flock(&lock_file, FlockOperation::LockExclusive)
            .map_err(|error| ServerError::io(lock.display(), &error.into()))?;

        let data = dir.join("data");
        let password = password(&dir.join("password"), &data)?;
        let binaries = if data.join("PG_VERSION").exists() {
            Binaries::find(Some(version_of(&data)?))?
        } else {
            let binaries = Binaries::find(None)?;
            initialize(&binaries, &data, &password, "scram-sha-256", durable)?;
            if let Err(error) = single_user(
                &binaries,
                &data,
                "template1",
                &format!("CREATE DATABASE {DATABASE}"),
            ) {
                // Half made: the next start begins again.
                let _ = fs::remove_dir_all(&data);
                return Err(error);
            }
            binaries
        };

        let url = |port: u16| format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}");
        if let Some(file) = PidFile::read(&data) {
            if file.is_running() {
                return Ok(Self {
                    url: url(file.port),
                    server: None,
                });
            }
            // Its owner was killed and the number may belong to another process by now, which PostgreSQL cannot tell.
            let _ = fs::remove_file(data.join("postmaster.pid"));
        }
        let on_or_off = if durable { "on" } else { "off" };
        let settings = [
            ("fsync", on_or_off),
            ("full_page_writes", on_or_off),
            ("shared_buffers", "64MB"),
        ];
        let log = dir.join("log");
        keep_small(&log);
        let launch = Launch {
            binaries,
            data,
            log,
            socket: None,
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            goodbye: Signal::INT,
        };
        let (server, port) = launch.start_anywhere()?;
        Ok(Self {
            url: url(port),
            server: Some(server),
        })
    }

    /// What to put into `DATABASE_URL`. Holds the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether this value started the server, and so ends it.
    pub fn is_owner(&self) -> bool {
        self.server.is_some()
    }

    /// Stops the server in order, if this value started it. The data stays.
    pub fn stop(mut self) {
        self.server.take();
    }
}

fn version_of(data: &Path) -> Result<u32, ServerError> {
    let file = data.join("PG_VERSION");
    let text = fs::read_to_string(&file).map_err(|error| ServerError::io(file.display(), &error))?;
    text.trim()
        .parse()
        .map_err(|_| ServerError::new(format!("{}: not a version", file.display())))
}

/// The password kept from the first start, or a new one when there is no data yet.
fn password(file: &PathBuf, data: &Path) -> Result<String, ServerError> {
    match fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        _ if data.exists() => {
            return Err(ServerError::new(format!(
                "{} is missing, so the data beside it cannot be opened: put it back, or remove {}",
                file.display(),
                data.display()
            )));
        }
        _ => {}
    }
    let password = uuid::Uuid::new_v4().simple().to_string();
    write_secret(file, &password)?;
    Ok(password)
}

/// Begins the log anew when it has grown past 10 MiB.
fn keep_small(log: &Path) {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > 10 << 20) {
        let _ = fs::remove_file(log);
    }
    if let Ok(file) = File::options().create(true).append(true).open(log) {
        drop(file);
        let _ = give_away(log);
    }
}
