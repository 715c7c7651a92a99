//! The servers and directories that a module under test stands on.

use std::path::PathBuf;

use tempfile::TempDir;

use super::subject::Subject;
use super::watch::Watch;
use crate::oss::{OssServer, OssServerOptions};
use crate::{TestDatabase, TestRedis};

/// For health details.
pub(super) const ADMIN_TOKEN: &str = "module-checks-admin-token-0123456789";
/// What a service may take for its shutdown.
pub(super) const SHUTDOWN_SECONDS: u64 = 10;

/// All that one check needs; gone when dropped.
pub(super) struct World {
    pub(super) database: Option<TestDatabase>,
    pub(super) oss: OssServer,
    pub(super) redis: Option<TestRedis>,
    pub(super) watch: Option<Watch>,
    directories: TempDir,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// The directories that a careless program writes into.
const DIRECTORIES: [&str; 3] = ["work", "home", "tmp"];

impl World {
    /// # Panics
    /// When a server can't be started; the message has the line that installs it.
    pub(super) async fn new(subject: &Subject) -> Self {
        let database = match subject.database {
            true => Some(TestDatabase::new().await),
            false => None,
        };
        let redis = match subject.cache {
            true => match tokio::task::spawn_blocking(|| TestRedis::launch(false)).await {
                Ok(Ok(redis)) => Some(redis),
                Ok(Err(error)) => {
                    skipped(&format!(
                        "what the module writes into a shared cache is not seen: {error}"
                    ));
                    None
                }
                Err(error) => panic!("Redis could not be started: {error}"),
            },
            false => None,
        };
        let oss = OssServer::start(OssServerOptions::default())
            .await
            .expect("a port of this machine is free");
        let directories = tempfile::tempdir().expect("a temporary directory");
        for name in DIRECTORIES {
            std::fs::create_dir(directories.path().join(name)).expect("the directory is new");
        }
        Self {
            database,
            oss,
            redis,
            watch: None,
            directories,
        }
    }

    /// Has what the service asks of the C library written down from now on; says so where that can't be.
    pub(super) fn watch(&mut self) {
        match Watch::build(self.directories.path()) {
            Ok(watch) => self.watch = Some(watch),
            Err(why) => skipped(&format!(
                "reads of the environment, and files outside {}, are not seen: {why}",
                DIRECTORIES.join(", ")
            )),
        }
    }

    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.directories.path().join(name)
    }

    /// What lies in the directories of the service, which were empty.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in DIRECTORIES {
            let directory = self.directory(name);
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| {
                let what = entry.file_name();
                match name {
                    "work" => format!("{} in the working directory", what.to_string_lossy()),
                    "home" => format!("{} in $HOME", what.to_string_lossy()),
                    _ => format!("{} in $TMPDIR", what.to_string_lossy()),
                }
            }));
        }
        found.sort();
        found
    }

    /// The whole environment of the service.
    pub(super) fn variables(&self, subject: &Subject) -> Vec<(String, String)> {
        let path = |name| self.directory(name).display().to_string();
        let shutdown = format!("{SHUTDOWN_SECONDS}s");
        let endpoint = self.oss.endpoint();
        let mut variables: Vec<(String, String)> = [
            ("APP_ENV", "test"),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("SHUTDOWN_TIMEOUT", &shutdown),
            ("LOG_FORMAT", "json"),
            ("LOG_LEVEL", "info"),
            ("JOBS_CONCURRENCY", "2"),
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", self.oss.region()),
            ("OSS_ENDPOINT", &endpoint),
            ("OSS_BUCKET", self.oss.bucket()),
            ("OSS_ACCESS_KEY_ID", self.oss.access_key_id()),
            ("OSS_ACCESS_KEY_SECRET", self.oss.access_key_secret()),
            ("HOME", &path("home")),
            ("TMPDIR", &path("tmp")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Some(database) = &self.database {
            variables.push(("DATABASE_URL".to_owned(), database.url()));
        }
        if let Some(redis) = &self.redis {
            variables.push(("REDIS_URL".to_owned(), redis.url()));
        }
        if let Some(watch) = &self.watch {
            variables.extend(watch.variables());
        }
        variables.extend(subject.settings.iter().cloned());
        variables
    }
}

/// A line that `cargo xtask test` shows above its summary.
#[allow(clippy::print_stdout, reason = "a test's output is where its reader looks")]
fn skipped(what: &str) {
    println!("SKIPPED: {what}");
}
