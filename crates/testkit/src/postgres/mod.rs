//! Throw-away PostgreSQL.

mod binaries;
mod bouncer;
mod cluster;
mod dev;
pub(crate) mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tokio_postgres::NoTls;

pub use self::binaries::POSTGRES_INSTALL_HINT;
pub use self::bouncer::{PGBOUNCER_INSTALL_HINT, TestPgBouncer};
pub use self::dev::DevCluster;

use self::binaries::Binaries;
use self::cluster::{Launch, USER, single_user};
use self::tls::Certificates;
use crate::process::{Scratch, Server, ServerError, is_root, workspace};

/// The password of the test clusters' user. Checked only by clusters made with [`PostgresOptions::scram`].
const PASSWORD: &str = "test-password";

/// A PostgreSQL server for tests, gone with its data when the last handle is dropped.
///
/// [`start`](Self::start) gives the one all tests of this process share: the server of `TEST_DATABASE_URL` when that
/// is set (its user must be allowed to create databases), otherwise a private one. [`start_own`](Self::start_own)
/// gives one that a test may stop, restart and ruin.
///
/// A private server listens on a free port of 127.0.0.1, keeps nothing safe on disk (`fsync=off`), and receives a
/// signal from the kernel when the test process dies, however it dies.
#[derive(Clone, Debug)]
pub struct TestPostgres {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// URL of the maintenance database, with user and password.
    base: url::Url,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    launch: Launch,
    port: u16,
    server: Mutex<Option<Server>>,
    certificates: Option<Certificates>,
    // Dropped last: the server has to be gone before its files are.
    _scratch: Scratch,
}

/// What a server of one's own is started with.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    tls: bool,
    tls_required: bool,
    scram: bool,
    max_connections: u32,
    settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            tls: false,
            tls_required: false,
            scram: false,
            max_connections: 100,
            settings: Vec::new(),
        }
    }
}

impl PostgresOptions {
    /// Offers TLS with a certificate for `localhost` from a private authority ([`TestPostgres::ca_file`]).
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Offers TLS and refuses connections without it.
    #[must_use]
    pub fn tls_required(mut self) -> Self {
        self.tls = true;
        self.tls_required = true;
        self
    }

    /// Checks passwords (SCRAM). Without this every password is accepted.
    #[must_use]
    pub fn scram(mut self) -> Self {
        self.scram = true;
        self
    }

    /// `max_connections`. Default: 100.
    #[must_use]
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count;
        self
    }

    /// Any other server setting.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed (the message has the apt line) or does not start.
    pub async fn start(self) -> TestPostgres {
        blocking(move || TestPostgres::launch(&self)).await
    }
}

impl TestPostgres {
    /// The server that the tests of this process share.
    ///
    /// # Panics
    /// When PostgreSQL is not installed (the message has the apt line), does not start, or `TEST_DATABASE_URL` is
    /// not a URL.
    pub async fn start() -> Self {
        static SHARED: Mutex<Weak<Inner>> = Mutex::new(Weak::new());
        blocking(|| {
            // Held while starting, so that tests that begin together get one server.
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(inner) = shared.upgrade() {
                return Ok(Self { inner });
            }
            let postgres = match std::env::var("TEST_DATABASE_URL")
                .ok()
                .filter(|url| !url.is_empty())
            {
                Some(url) => {
                    let base = url::Url::parse(&url).map_err(|error| {
                        ServerError::new(format!("TEST_DATABASE_URL is not a URL: {error}"))
                    })?;
                    Self {
                        inner: Arc::new(Inner { base, own: None }),
                    }
                }
                None => Self::launch(&PostgresOptions::default())?,
            };
            *shared = Arc::downgrade(&postgres.inner);
            Ok(postgres)
        })
        .await
    }

    /// A server of this test's own, which it may stop and restart.
    ///
    /// # Panics
    /// As [`PostgresOptions::start`].
    pub async fn start_own() -> Self {
        PostgresOptions::default().start().await
    }

    /// Options for a server of this test's own: TLS, passwords, connection limit, settings.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    fn launch(options: &PostgresOptions) -> Result<Self, ServerError> {
        let binaries = Binaries::find(None)?;
        let template = template(&binaries)?;
        let scratch = Scratch::new("pg")?;
        let data = scratch.path().join("data");
        copy_tree(&template, &data)?;
        let mut settings: Vec<(String, String)> = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("shared_buffers", "16MB"),
            ("dynamic_shared_memory_type", "mmap"),
            ("max_wal_size", "64MB"),
            ("min_wal_size", "2MB"),
            ("log_line_prefix", "%m [%p] %q%a "),
            ("max_connections", &options.max_connections.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let certificates = if options.tls {
            Some(Certificates::make(scratch.path())?)
        } else {
            None
        };
        if let Some(certificates) = &certificates {
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push((
                "ssl_cert_file".to_owned(),
                certificates.certificate.display().to_string(),
            ));
            settings.push(("ssl_key_file".to_owned(), certificates.key.display().to_string()));
        }
        settings.extend(options.settings.iter().cloned());
        let method = if options.scram { "scram-sha-256" } else { "trust" };
        let over_tcp = if options.tls_required { "hostssl" } else { "host" };
        let hba = data.join("pg_hba.conf");
        let rules = format!("local all all {method}\n{over_tcp} all all 127.0.0.1/32 {method}\n");
        fs::write(&hba, rules).map_err(|error| ServerError::io(hba.display(), &error))?;
        let launch = Launch {
            binaries,
            data,
            log: scratch.path().join("log"),
            socket: Some(scratch.path().to_owned()),
            settings,
            goodbye: Signal::QUIT,
        };
        let (server, port) = launch.start_anywhere()?;
        let base = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres");
        let base = url::Url::parse(&base).expect("written two lines above");
        let server = Mutex::new(Some(server));
        let own = Own {
            launch,
            port,
            server,
            certificates,
            _scratch: scratch,
        };
        Ok(Self {
            inner: Arc::new(Inner { base, own: Some(own) }),
        })
    }

    /// URL of the maintenance database, as a superuser (or as the user of `TEST_DATABASE_URL`).
    pub fn url(&self) -> String {
        self.inner.base.to_string()
    }

    /// The port of a private server; the URL's port otherwise.
    pub fn port(&self) -> u16 {
        self.inner.base.port().unwrap_or(5432)
    }

    /// Directory of the unix socket of a private server.
    pub fn socket_dir(&self) -> Option<&Path> {
        self.inner.own.as_ref()?.launch.socket.as_deref()
    }

    /// The authority that signed the server's certificate.
    ///
    /// # Panics
    /// When the server was started without TLS.
    pub fn ca_file(&self) -> &Path {
        &self.certificates().authority
    }

    /// An authority that did not sign the server's certificate.
    ///
    /// # Panics
    /// When the server was started without TLS.
    pub fn wrong_ca_file(&self) -> &Path {
        &self.certificates().stranger
    }

    fn certificates(&self) -> &Certificates {
        self.own()
            .certificates
            .as_ref()
            .expect("a server started with PostgresOptions::tls")
    }

    fn own(&self) -> &Own {
        self.inner
            .own
            .as_ref()
            .expect("a server started with start_own or PostgresOptions::start")
    }

    /// Ends the server as a crash does: connections are cut, nothing is written down. The data stays.
    ///
    /// # Panics
    /// On a shared server.
    pub async fn stop_immediate(&self) {
        self.stop(Signal::QUIT).await;
    }

    /// Ends the server in order: clients are told, everything is written down. The data stays.
    ///
    /// # Panics
    /// On a shared server.
    pub async fn stop_fast(&self) {
        self.stop(Signal::INT).await;
    }

    /// Ends the server and every process of it with `SIGKILL`: nobody is told, and the next start has to recover.
    ///
    /// # Panics
    /// On a shared server.
    pub async fn stop_hard(&self) {
        self.with_server(|server| {
            if let Some(mut server) = server.take() {
                server.kill();
            }
            Ok(())
        })
        .await;
    }

    /// Starts a stopped server again on the same port, with its data; a running one is left alone. Returns when it
    /// accepts connections.
    ///
    /// # Panics
    /// On a shared server, and when it does not start.
    pub async fn start_again(&self) {
        let this = self.clone();
        self.with_server(move |server| {
            if server.is_none() {
                *server = Some(this.own().launch.start(this.own().port)?);
            }
            Ok(())
        })
        .await;
    }

    /// Stops the server and every process of it where they are (`SIGSTOP`): connections stay open, new ones are taken
    /// by the kernel, and nothing answers, as with a dead host or a stalled disk.
    ///
    /// # Panics
    /// On a shared server.
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
    ///
    /// # Panics
    /// On a shared server.
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
    ///
    /// # Panics
    /// On a shared server.
    pub fn pid(&self) -> Option<u32> {
        let server = self.own().server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::id)
    }

    async fn stop(&self, signal: Signal) {
        self.with_server(move |server| {
            if let Some(mut server) = server.take() {
                server.stop(signal);
            }
            Ok(())
        })
        .await;
    }

    async fn with_server(
        &self,
        work: impl FnOnce(&mut Option<Server>) -> Result<(), ServerError> + Send + 'static,
    ) {
        let this = self.clone();
        blocking(move || work(&mut this.own().server.lock().unwrap_or_else(PoisonError::into_inner))).await;
    }

    /// Starts a stopped server again on the same port; a running one is stopped first. Returns when it accepts
    /// connections.
    ///
    /// # Panics
    /// On a shared server, and when it does not start.
    pub async fn restart(&self) {
        self.stop_immediate().await;
        self.start_again().await;
    }

    /// A new, empty database, dropped with the value.
    ///
    /// # Panics
    /// When the server does not answer or refuses.
    pub async fn database(&self) -> TestDatabase {
        let name = format!("test_{}_{:012x}", std::process::id(), fastrand::u64(..) >> 16);
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        run(&self.inner.base, &sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        TestDatabase {
            name,
            server: self.clone(),
        }
    }
}

/// A database of one test.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: TestPostgres,
}

impl TestDatabase {
    /// A database on the server that the tests of this process share.
    ///
    /// # Panics
    /// As [`TestPostgres::start`] and [`TestPostgres::database`].
    pub async fn new() -> Self {
        TestPostgres::start().await.database().await
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> String {
        let mut url = self.server.inner.base.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    pub fn server(&self) -> &TestPostgres {
        &self.server
    }

    /// Runs SQL in it over a connection of its own.
    ///
    /// # Panics
    /// When the server does not answer or refuses.
    pub async fn execute(&self, sql: &str) {
        let mut url = self.server.inner.base.clone();
        url.set_path(&self.name);
        run(&url, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A private server that nobody else holds takes its databases with it.
        if let Some(own) = &self.server.inner.own {
            let server = own.server.lock().unwrap_or_else(PoisonError::into_inner);
            let answers = server.as_ref().is_some_and(|server| !server.is_paused());
            if !answers || Arc::strong_count(&self.server.inner) == 1 {
                return;
            }
        }
        let url = self.server.inner.base.clone();
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime of its own: the test's may be gone already, and a drop cannot wait in it.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // A test that stopped the server has dropped the database in its own way.
                let _ = runtime.block_on(run(&url, &sql));
            }
        });
        let _ = dropper.join();
    }
}

async fn run(url: &url::Url, sql: &str) -> Result<(), String> {
    let work = async {
        let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls)
            .await
            .map_err(|error| in_full(&error))?;
        let driver = tokio::spawn(connection);
        let result = client.batch_execute(sql).await.map_err(|error| in_full(&error));
        drop(client);
        let _ = driver.await;
        result
    };
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or(Err("no answer in 30 s".to_owned()))
}

fn in_full(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ServerError> + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// An initialized data directory of this PostgreSQL version, made once per machine and then copied: a third of the
/// time of `initdb`.
fn template(binaries: &Binaries) -> Result<PathBuf, ServerError> {
    let path = workspace()?.join(format!("template{}v2", binaries.major));
    if path.join("PG_VERSION").exists() {
        return Ok(path);
    }
    let fresh = workspace()?.join(format!(
        "template-{}-{:08x}",
        std::process::id(),
        fastrand::u32(..)
    ));
    let made = (|| {
        cluster::initialize(binaries, &fresh, PASSWORD, "trust", false)?;
        // A third of the files to copy; new databases are made from template0.
        single_user(
            binaries,
            &fresh,
            "postgres",
            "ALTER DATABASE template1 IS_TEMPLATE false",
        )?;
        single_user(binaries, &fresh, "postgres", "DROP DATABASE template1")?;
        fs::rename(&fresh, &path).map_err(|error| ServerError::io(path.display(), &error))
    })();
    if made.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    // Another process may have been faster: its template is as good.
    if path.join("PG_VERSION").exists() {
        Ok(path)
    } else {
        made.map(|()| path)
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), ServerError> {
    let mut command = Command::new("cp");
    command.arg(if is_root() { "-a" } else { "-R" }).arg(from).arg(to);
    let output = command
        .output()
        .map_err(|error| ServerError::io("cp could not be run", &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ServerError::new(format!(
        "cp failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
