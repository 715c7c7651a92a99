//! Images to build from where none can be pulled: made of this machine's own files, in seconds.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result, on_path};
use crate::process;

/// What the stand-in for the builder takes from this machine, read-only, while a step runs.
const LENT: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/include",
    "/usr/share",
    "/usr/libexec",
    "/etc/ssl",
    "/etc/alternatives",
];

/// What a base for C programs without a shell holds.
const RUNTIME_PACKAGES: &[&str] = &["base-files", "libc6", "libgcc-s1", "ca-certificates", "netbase"];

/// Where the stand-in for the builder has the toolchain.
pub(super) const TOOLCHAIN: &str = "/usr/local/rust";
/// Cargo's home, where the Dockerfile expects it.
pub(super) const CARGO_HOME: &str = "/usr/local/cargo";

/// The `--volume` arguments that belong to the stand-in for the builder.
pub(super) fn lent() -> Result<Vec<String>> {
    let sysroot = process::run_quietly(Command::new("rustc").args(["--print", "sysroot"]))?.stdout;
    let toolchain = format!("{}:{TOOLCHAIN}:ro", String::from_utf8_lossy(&sysroot).trim());
    let lent = LENT.iter().filter(|path| Path::new(path).exists());
    Ok(lent
        .map(|path| format!("{path}:{path}:ro"))
        .chain([toolchain])
        .collect())
}

/// The tree of the builder: places for what is lent.
pub(super) fn builder(root: &Path) -> Result<()> {
    skeleton(root)?;
    for place in LENT.iter().copied().chain([TOOLCHAIN, CARGO_HOME]) {
        make(&root.join(place.trim_start_matches('/')))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    Ok(())
}

/// The tree of the base the image runs on: the files of a few packages, without their documentation.
pub(super) fn runtime(root: &Path) -> Result<()> {
    skeleton(root)?;
    let listed = process::run_quietly(Command::new("dpkg").arg("-L").args(RUNTIME_PACKAGES))?.stdout;
    for path in String::from_utf8_lossy(&listed).lines().map(Path::new) {
        if is_needed(path) {
            copy(path, root)?;
        }
    }
    // Generated when the package was installed, so no list has it.
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if bundle.exists() {
        copy(bundle, root)?;
    }
    Ok(())
}

/// What every image has, with Debian's merged /usr.
fn skeleton(root: &Path) -> Result<()> {
    for place in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "proc",
        "dev",
        "sys",
        "run",
        "tmp",
        "var/tmp",
    ] {
        make(&root.join(place))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for open in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(open), fs::Permissions::from_mode(0o1777))?;
    }
    Ok(())
}

fn is_needed(path: &Path) -> bool {
    const NOT: &[&str] = &[
        "/usr/share/doc",
        "/usr/share/man",
        "/usr/share/lintian",
        "/usr/share/locale",
    ];
    let is_text = NOT.iter().any(|folder| path.starts_with(folder));
    let is_conversion = path.iter().any(|part| part == "gconv");
    !is_text && !is_conversion
}

/// Copies one file to the same place below `root`, where its directory really is.
fn copy(path: &Path, root: &Path) -> Result<()> {
    let (Some(parent), Some(name), Ok(meta)) = (path.parent(), path.file_name(), path.symlink_metadata())
    else {
        return Ok(());
    };
    if meta.is_dir() {
        return Ok(());
    }
    let parent = parent.canonicalize().map_err(on_path(path))?;
    let directory = root.join(parent.strip_prefix("/").unwrap_or(&parent));
    make(&directory)?;
    let to: PathBuf = directory.join(name);
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    let copied = if meta.is_symlink() {
        fs::read_link(path).and_then(|target| symlink(target, &to))
    } else {
        fs::copy(path, &to).map(drop)
    };
    copied.map_err(on_path(path))
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| Failure::new(format!("{}: {error}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_at_run_time_stays_out() {
        assert!(is_needed(Path::new("/lib/x86_64-linux-gnu/libc.so.6")));
        assert!(!is_needed(Path::new("/usr/share/doc/libc6/copyright")));
        assert!(!is_needed(Path::new("/usr/lib/x86_64-linux-gnu/gconv/BIG5.so")));
    }
}
