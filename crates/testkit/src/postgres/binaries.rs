use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{ServerError, find_in_path};

/// What to type when PostgreSQL is missing.
pub const POSTGRES_INSTALL_HINT: &str = "apt-get install -y postgresql-15";

/// Where one installed PostgreSQL keeps its programs.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    directory: PathBuf,
    /// `15`
    pub(crate) major: u32,
}

impl Binaries {
    /// The newest installation, or the one of this major version.
    ///
    /// Looks at `PG_BIN`, then `pg_config --bindir`, then where distributions put versioned installations, then `PATH`.
    pub(crate) fn find(major: Option<u32>) -> Result<Self, ServerError> {
        if let Some(directory) = std::env::var_os("PG_BIN").filter(|value| !value.is_empty()) {
            let directory = PathBuf::from(directory);
            return Self::in_directory(&directory).ok_or_else(|| {
                ServerError::new(format!(
                    "PG_BIN={}: no working initdb and postgres there",
                    directory.display()
                ))
            });
        }
        let mut found: Vec<Self> = candidates()
            .iter()
            .filter_map(|path| Self::in_directory(path))
            .collect();
        if let Some(major) = major {
            found.retain(|binaries| binaries.major == major);
        }
        // Of several of one version, the place that was looked at first.
        found.into_iter().rev().max_by_key(|binaries| binaries.major).ok_or_else(|| match major {
            Some(major) => ServerError::new(format!(
                "the data is of PostgreSQL {major}, which is not installed: apt-get install -y postgresql-{major}"
            )),
            None => ServerError::new(format!(
                "PostgreSQL is not installed (no initdb in PG_BIN, pg_config --bindir, \
                 /usr/lib/postgresql/*/bin or PATH): {POSTGRES_INSTALL_HINT}"
            )),
        })
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let postgres = directory.join("postgres");
        if !postgres.is_file() || !directory.join("initdb").is_file() {
            return None;
        }
        // "postgres (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)"
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(2)?;
        let major = version
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()?;
        Some(Self {
            directory: directory.to_owned(),
            major,
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        all.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let versioned = [
        ("/usr/lib/postgresql", "bin"),
        ("/usr/local", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
    ];
    for (parent, leaf) in versioned {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        all.extend(entries.flatten().map(|entry| entry.path().join(leaf)));
    }
    if let Ok(entries) = std::fs::read_dir("/usr") {
        let red_hat = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("pgsql-"));
        all.extend(red_hat.map(|entry| entry.path().join("bin")));
    }
    if let Some(directory) = find_in_path("postgres").as_deref().and_then(Path::parent) {
        all.push(directory.to_owned());
    }
    all
}
