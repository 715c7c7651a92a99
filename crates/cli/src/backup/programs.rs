//! PostgreSQL's own programs: found, of the right version, and called without a password on their command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use percent_encoding::percent_decode_str;
use tokio::process::Command;
use zhuji_config::Secret;

use crate::failure::Failure;

/// Where the system keeps the authorities that a libpq before 16 has to be told of.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The client programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    directory: PathBuf,
    /// `15.14`
    pub(crate) version: String,
    major: u32,
}

impl Programs {
    /// Those of the server's major version, or else the oldest that is newer.
    pub(crate) async fn find(server: u32) -> Result<Self, Failure> {
        let mut found: Vec<Self> = Vec::new();
        for directory in directories().await {
            found.extend(Self::in_directory(&directory).await);
        }
        choose(found.clone(), server).ok_or_else(|| {
            let there = match found.iter().max_by_key(|programs| programs.major) {
                None => "pg_dump, pg_restore and psql are not installed here".to_owned(),
                Some(newest) => format!(
                    "the server is PostgreSQL {server}, and {} has only version {}",
                    newest.directory.display(),
                    newest.version
                ),
            };
            Failure::failed(format!(
                "{there}: install them (apt-get install -y postgresql-client-{server}), or set PG_BIN to the directory \
                 where they are"
            ))
        })
    }

    async fn in_directory(directory: &Path) -> Option<Self> {
        let all = ["pg_dump", "pg_restore", "psql"];
        if !all.iter().all(|name| directory.join(name).is_file()) {
            return None;
        }
        let mut asked = Command::new(directory.join("pg_dump"));
        let output = asked.arg("--version").stdin(Stdio::null()).output().await.ok()?;
        let version = version_in(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self {
            directory: directory.to_owned(),
            major: version.split('.').next()?.parse().ok()?,
            version,
        })
    }

    /// One of them, told which database it is about. It never asks for a password.
    pub(crate) fn command(&self, program: &str, url: &Secret) -> Command {
        let (url, password) = without_password(url.expose());
        let mut command = self.offline(program);
        command.arg("--no-password").arg(format!("--dbname={url}"));
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        if Path::new(AUTHORITIES).exists() && std::env::var_os("PGSSLROOTCERT").is_none() {
            // `sslrootcert` in the URL wins.
            command.env("PGSSLROOTCERT", AUTHORITIES);
        }
        command
    }

    /// One of them, without a database.
    pub(crate) fn offline(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// What a program said on standard error, for a message: the first lines, which say why.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(5)
        .collect();
    if lines.is_empty() {
        "it said nothing".to_owned()
    } else {
        lines.join("; ")
    }
}

fn choose(mut found: Vec<Programs>, server: u32) -> Option<Programs> {
    found.retain(|programs| programs.major >= server);
    // The first of several of one version: `min_by_key` keeps it.
    found.into_iter().min_by_key(|programs| programs.major)
}

/// `PG_BIN` alone where it is set; else `PATH`, where distributions keep versions side by side, and what pg_config says.
async fn directories() -> Vec<PathBuf> {
    if let Some(directory) = std::env::var_os("PG_BIN").filter(|value| !value.is_empty()) {
        return vec![PathBuf::from(directory)];
    }
    let mut directories: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    let elsewhere = std::fs::read_dir("/usr").into_iter().flatten().flatten();
    let elsewhere = elsewhere.filter(|entry| entry.file_name().to_string_lossy().starts_with("pgsql-"));
    directories.extend(elsewhere.map(|version| version.path().join("bin")));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    directories
}

/// "pg_dump (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)"
fn version_in(text: &str) -> Option<String> {
    let version = text.split_whitespace().nth(2)?;
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.to_owned())
}

/// Every user of the machine can read another's command line.
fn without_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (url.to_owned(), None);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let Some((credentials, places)) = authority.rsplit_once('@') else {
        return (url.to_owned(), None);
    };
    let Some((user, password)) = credentials.split_once(':') else {
        return (url.to_owned(), None);
    };
    let password = percent_decode_str(password).decode_utf8_lossy().into_owned();
    (format!("{scheme}://{user}@{places}{tail}"), Some(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_and_the_rest_stays() {
        for (url, told, password) in [
            (
                "postgres://u:p%40ss@h:5/d?sslmode=disable",
                "postgres://u@h:5/d?sslmode=disable",
                Some("p@ss"),
            ),
            (
                "postgresql://u:p@h1,h2:2?x=y",
                "postgresql://u@h1,h2:2?x=y",
                Some("p"),
            ),
            ("postgres://u@h/d", "postgres://u@h/d", None),
            ("postgres:///d?host=/run/pg", "postgres:///d?host=/run/pg", None),
        ] {
            assert_eq!(
                without_password(url),
                (told.to_owned(), password.map(ToOwned::to_owned))
            );
        }
    }

    #[test]
    fn the_servers_own_version_comes_first_and_an_older_one_will_not_do() {
        let programs = |version: &str| Programs {
            directory: PathBuf::from("/x").join(version),
            version: version.to_owned(),
            major: version.split('.').next().unwrap().parse().unwrap(),
        };
        let all = vec![
            programs("17.1"),
            programs("14.9"),
            programs("15.2"),
            programs("15.8"),
        ];
        assert_eq!(choose(all.clone(), 15), Some(programs("15.2")));
        assert_eq!(choose(all.clone(), 16), Some(programs("17.1")));
        assert_eq!(choose(all, 18), None);
    }

    #[test]
    fn a_version_is_read() {
        let said = "pg_dump (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)\n";
        assert_eq!(version_in(said).as_deref(), Some("15.9"));
        assert_eq!(version_in("command not found"), None);
    }
}
