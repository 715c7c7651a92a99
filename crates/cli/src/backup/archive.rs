//! A backup as one file: a plain tar of its directory. What is inside is compressed already, or will not get smaller.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::manifest::at;
use super::programs::complaint;
use crate::failure::Failure;

/// Whether a place that was typed is an archive.
pub(crate) fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Puts a directory into an archive, which has its name only when it is whole, and is for nobody else at any time.
pub(super) async fn pack(directory: &Path, archive: &Path) -> Result<(), Failure> {
    let parent = folder(archive);
    // Removed when dropped.
    let part = tempfile::Builder::new()
        .prefix(".zhuji-backup-")
        .suffix(".part")
        .tempfile_in(parent)
        .map_err(at(parent))?;
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(part.path());
    run(tar.arg("--directory").arg(directory).arg(".")).await?;
    part.as_file().sync_all().map_err(at(archive))?;
    part.persist(archive)
        .map_err(|error| error.error)
        .and_then(|_| std::fs::File::open(parent)?.sync_all())
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
    let parent = folder(archive);
    tempfile::Builder::new()
        .prefix(".zhuji-backup-")
        .tempdir_in(parent)
        .map_err(at(parent))
}

fn folder(archive: &Path) -> &Path {
    let parent = archive.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
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
