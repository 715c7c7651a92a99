//! What a process asks of the C library, written down by a library that is loaded in front of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = include_str!("watch.c");

/// What libraries read by convention, not the module's own doing.
const CONVENTIONAL: &[&str] = &[
    // Time zone.
    "TZ",
    "TZDIR",
    // Language.
    "LANG",
    "LANGUAGE",
    // Proxies, and whether an HTTP client runs as a CGI program.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUEST_METHOD",
    // Certificates.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // What a panic shows.
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
];

/// The library, and where it writes.
pub(super) struct Watch {
    library: PathBuf,
    notes: PathBuf,
}

/// What a process did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doings {
    /// Names of variables.
    pub(super) read: BTreeSet<String>,
    /// Paths of files and directories.
    pub(super) written: BTreeSet<String>,
}

impl Watch {
    /// Builds the library; an error says why that is not possible here.
    pub(super) fn build(directory: &Path) -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return Err("that takes Linux with the GNU C library".to_owned());
        }
        let source = directory.join("watch.c");
        let library = directory.join("watch.so");
        std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .stdin(Stdio::null())
            .output();
        match built {
            Ok(output) if output.status.success() => Ok(Self {
                library,
                notes: directory.join("notes"),
            }),
            Ok(output) => Err(format!(
                "cc failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => Err(format!("cc could not be started: {error}")),
        }
    }

    pub(super) fn variables(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("MODULE_CHECKS_NOTES".to_owned(), text(&self.notes)),
        ]
    }

    /// What was done since the last call.
    pub(super) fn take(&self) -> Doings {
        let text = std::fs::read(&self.notes).unwrap_or_default();
        // A process that is gone has no use for it any more.
        let _ = std::fs::remove_file(&self.notes);
        doings(&String::from_utf8_lossy(&text))
    }
}

impl Doings {
    /// What is in this one and not in the other, without what libraries read by convention.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        let unconventional = |name: &&String| {
            let known = CONVENTIONAL.iter().any(|known| known.eq_ignore_ascii_case(name));
            !known && !name.starts_with("LC_")
        };
        Self {
            read: self
                .read
                .difference(&other.read)
                .filter(unconventional)
                .cloned()
                .collect(),
            written: self.written.difference(&other.written).cloned().collect(),
        }
    }
}

fn doings(text: &str) -> Doings {
    let mut doings = Doings::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("env", name)) => doings.read.insert(name.to_owned()),
            Some(("write", path)) => doings.written.insert(path.to_owned()),
            _ => false,
        };
    }
    doings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_and_libraries_do_is_left_out() {
        let baseline = doings("env RUST_LOG\nenv PORT\nwrite /run/pid\n");
        let module =
            doings("env PORT\nenv NOTES_KEY\nenv TZ\nenv https_proxy\nenv LC_ALL\nwrite /var/tmp/a b\n");
        assert_eq!(
            module.beyond(&baseline),
            doings("env NOTES_KEY\nwrite /var/tmp/a b\n")
        );
    }
}
