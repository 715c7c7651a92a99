//! A backup as one file: a plain tar of its directory. What is inside is compressed already, or will not get smaller.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::manifest::at;
use super::programs::complaint;
use crate::failure::Failure;

/// Whether a place that was typed is an archive.
pub(crate) fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Puts a directory into an archive, which has its name only when it is whole.
pub(super) async fn pack(directory: &Path, archive: &Path) -> Result<(), Failure> {
    let mut part = archive.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&part);
    run(tar.arg("--directory").arg(directory).arg(".")).await?;
    std::fs::File::open(&part)
        .and_then(|file| {
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&part, archive))
        .map_err(at(archive))
}

/// Unpacks an archive beside itself, where there is room for it; the directory is removed when dropped.
pub(crate) async fn unpack(archive: &Path) -> Result<tempfile::TempDir, Failure> {
    let directory = beside(archive)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive);
    run(tar
        .arg("--no-same-owner")
        .arg("--directory")
        .arg(directory.path()))
    .await?;
    Ok(directory)
}

/// A directory for nobody else, on the same file system as the archive.
pub(super) fn beside(archive: &Path) -> Result<tempfile::TempDir, Failure> {
    let parent = archive.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".zhuji-backup-")
        .tempdir_in(parent)
        .map_err(at(parent))
}

async fn run(tar: &mut Command) -> Result<(), Failure> {
    let output = tar
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Failure::failed(format!(
                "tar could not be started: {error}; name a directory instead"
            ))
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!("tar: {}", complaint(&output.stderr))))
}
