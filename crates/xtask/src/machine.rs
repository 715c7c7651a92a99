//! The programs of this machine that the commands need: found, or installed, or asked for in words that can be typed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Result};
use crate::process;

/// A program that comes from the system's package manager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// What people call it.
    pub(crate) name: &'static str,
    /// Every one of these must be found.
    programs: &'static [&'static str],
    /// Debian's packages that hold them.
    packages: &'static [&'static str],
    /// What to do where there is no `apt-get`.
    elsewhere: &'static str,
}

/// The server, not only the client: Debian keeps it outside `PATH`.
pub(crate) const POSTGRES: Tool = Tool {
    name: "PostgreSQL",
    programs: &["initdb", "postgres", "pg_ctl"],
    packages: &["postgresql"],
    elsewhere: "install PostgreSQL 15 or newer so that `initdb` is in PATH, or set PG_BIN to its directory",
};

pub(crate) const REDIS: Tool = Tool {
    name: "Redis",
    programs: &["redis-server"],
    packages: &["redis-server"],
    elsewhere: "install Redis 6 or newer so that `redis-server` is in PATH",
};

pub(crate) const PGBOUNCER: Tool = Tool {
    name: "PgBouncer",
    programs: &["pgbouncer"],
    packages: &["pgbouncer"],
    elsewhere: "install PgBouncer so that `pgbouncer` is in PATH",
};

/// Makes the certificates of the TLS tests.
pub(crate) const OPENSSL: Tool = Tool {
    name: "OpenSSL's command",
    programs: &["openssl"],
    packages: &["openssl"],
    elsewhere: "install OpenSSL so that `openssl` is in PATH",
};

/// What the adapter around the vendor's own OSS client is built against, behind the feature `oss-sdk`.
const OPENSSL_HEADERS: Tool = Tool {
    name: "OpenSSL's headers",
    programs: &["pkg-config"],
    packages: &["libssl-dev", "pkg-config"],
    elsewhere: "install OpenSSL's headers and pkg-config, so that `pkg-config --exists openssl` succeeds",
};

pub(crate) const CHROMIUM: Tool = Tool {
    name: "Chromium and its driver",
    programs: &["chromium", "chromedriver"],
    packages: &["chromium", "chromium-driver"],
    elsewhere: "install Chromium and ChromeDriver so that `chromium` and `chromedriver` are in PATH",
};

/// Builds an image without a daemon.
pub(crate) const BUILDAH: Tool = Tool {
    name: "buildah",
    programs: &["buildah"],
    packages: &["buildah"],
    elsewhere: "install buildah so that it is in PATH",
};

pub(crate) const PYTHON: Tool = Tool {
    name: "Python 3 with venv",
    programs: &["python3"],
    packages: &["python3", "python3-venv"],
    elsewhere: "install Python 3.9 or newer with its venv module",
};

/// Makes sure that a tool is there; installs it when that takes no question, else says what to type.
pub(crate) fn ensure(tool: &Tool) -> Result<()> {
    if is_there(tool) {
        return Ok(());
    }
    install(tool)?;
    if is_there(tool) {
        return Ok(());
    }
    let missing = missing(tool).join(", ");
    Err(format!(
        "{} was installed, but {missing} still cannot be found: {}",
        tool.name, tool.elsewhere
    )
    .into())
}

/// Headers are no program: pkg-config knows whether they are there.
pub(crate) fn ensure_openssl_headers() -> Result<()> {
    let found = || {
        let mut asked = Command::new("pkg-config");
        process::run_quietly(asked.args(["--exists", "openssl"])).is_ok()
    };
    if found() {
        return Ok(());
    }
    install(&OPENSSL_HEADERS)?;
    if found() {
        return Ok(());
    }
    Err(format!(
        "{} cannot be found: {}",
        OPENSSL_HEADERS.name, OPENSSL_HEADERS.elsewhere
    )
    .into())
}

/// Whether every program of the tool can be found.
pub(crate) fn is_there(tool: &Tool) -> bool {
    missing(tool).is_empty()
}

/// Installs the tool's packages although its programs are there: for a part that no program's name tells of.
pub(crate) fn install(tool: &Tool) -> Result<()> {
    if find_in_path("apt-get").is_none() {
        return Err(format!(
            "{} is missing, and this machine has no apt-get: {}",
            tool.name, tool.elsewhere
        )
        .into());
    }
    let typed = format!("apt-get update && apt-get install -y {}", tool.packages.join(" "));
    let Some(prefix) = privileges() else {
        let advice = "it cannot be installed without a password; type this once, then start again";
        return Err(format!("{} is missing: {advice}:\n    sudo sh -c '{typed}'", tool.name).into());
    };
    println!(
        "{} is missing: installing {} …",
        tool.name,
        tool.packages.join(", ")
    );
    let failed = |failure: Failure| {
        let advice = format!(
            "{} could not be installed; try it by hand:\n    {typed}",
            tool.name
        );
        Failure::new(format!("{failure}\n{advice}"))
    };
    refresh(&prefix).map_err(failed)?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(tool.packages);
    process::run_quietly(&mut apt(&prefix, &arguments)).map_err(failed)?;
    Ok(())
}

/// Brings the package lists up to date, for what is only downloaded.
pub(crate) fn refresh_packages() -> Result<()> {
    if find_in_path("apt-get").is_none() {
        return Err("this machine has no apt-get".into());
    }
    // Without the right to refresh them, the lists that are there have to do.
    privileges().map_or(Ok(()), |prefix| refresh(&prefix))
}

/// Once in a run is enough.
fn refresh(prefix: &[&str]) -> Result<()> {
    static REFRESHED: AtomicBool = AtomicBool::new(false);
    if !REFRESHED.swap(true, Ordering::Relaxed) {
        process::run_quietly(&mut apt(prefix, &["update"]))?;
    }
    Ok(())
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Command {
    // `env` and not `Command::env`, because sudo drops the environment.
    let mut words = prefix.to_vec();
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    words.extend(arguments);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// What to put in front of a command that only root may run: nothing for root, `sudo -n` where that asks nothing.
fn privileges() -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    let allowed = process::run_quietly(Command::new("sudo").args(["-n", "true"])).is_ok();
    allowed.then(|| vec!["sudo", "-n"])
}

fn missing(tool: &Tool) -> Vec<&'static str> {
    tool.programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect()
}

/// Looks in `PATH`, and for PostgreSQL's server where Debian and `pg_config` say.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if POSTGRES.programs.contains(&program) {
        return postgres_directories()
            .into_iter()
            .map(|dir| dir.join(program))
            .find(|file| is_program(file));
    }
    find_in_path(program)
}

/// In the order in which they are tried: `PG_BIN`, `PATH`, Debian's directories from the newest version down.
fn postgres_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = std::env::var_os("PG_BIN")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Some(path) = std::env::var_os("PATH") {
        directories.extend(std::env::split_paths(&path));
    }
    directories.extend(
        newest_first(Path::new("/usr/lib/postgresql"))
            .into_iter()
            .map(|dir| dir.join("bin")),
    );
    if find_in_path("pg_config").is_some()
        && let Ok(output) = process::run_quietly(Command::new("pg_config").arg("--bindir"))
    {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    directories
}

/// The directories whose names are numbers, the largest first.
fn newest_first(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path).collect()
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_and_by_number() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["9", "15", "16", "common"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let names: Vec<_> = newest_first(dir.path())
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["16", "15", "9"]);
        assert!(newest_first(&dir.path().join("absent")).is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_run_is_no_program() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("initdb");
        std::fs::write(&file, "").expect("a file");
        assert!(!is_program(&file));
        assert!(!is_program(dir.path()));
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }

    #[test]
    fn apt_never_asks() {
        let command = apt(&["sudo", "-n"], &["install", "-y", "postgresql"]);
        let shown = process::shown(&command);
        assert!(
            shown.starts_with("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get"),
            "{shown}"
        );
        assert!(apt(&[], &["update"]).get_program() == "env");
    }
}
