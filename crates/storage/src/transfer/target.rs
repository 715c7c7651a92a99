//! A local file on its way down: written beside its final place, and put there whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::source::{blocking, crc_of};
use crate::{Error, ErrorKind};

/// A temporary file in the target's directory. It is removed when this is dropped, unless it was finished or is kept.
#[derive(Debug)]
pub(super) struct TargetFile {
    file: Arc<File>,
    temp: PathBuf,
    target: PathBuf,
    stays: bool,
}

impl TargetFile {
    /// A new file of this size. Where the file system can, it takes no space yet.
    pub(super) async fn create(target: &Path, size: u64) -> io::Result<Self> {
        let target = target.to_owned();
        let name = target.file_name().filter(|_| !target.is_dir());
        let name =
            name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:08x}.part", fastrand::u32(..)));
        let temp = target.with_file_name(hidden);
        blocking(move || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&temp)?;
            let this = Self {
                file: Arc::new(file),
                temp,
                target,
                stays: false,
            };
            this.file.set_len(size)?;
            Ok(this)
        })
        .await
    }

    /// The file that an earlier attempt left, if it is there and has this size.
    pub(super) async fn reopen(target: &Path, name: &str, size: u64) -> Option<Self> {
        // The name comes from a file that anybody may have changed.
        if !name.starts_with('.') || !name.ends_with(".part") || name.contains('/') {
            return None;
        }
        let (target, temp) = (target.to_owned(), target.with_file_name(name));
        let opened = blocking(move || {
            let file = OpenOptions::new().read(true).write(true).open(&temp)?;
            let fits = file
                .metadata()
                .is_ok_and(|found| found.is_file() && found.len() == size);
            Ok(fits.then_some(Self {
                file: Arc::new(file),
                temp,
                target,
                stays: true,
            }))
        });
        opened.await.ok().flatten()
    }

    /// The temporary file's name; no path.
    pub(super) fn name(&self) -> String {
        let name = self.temp.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Leaves the temporary file there (or not) when this is dropped.
    pub(super) fn stay(&mut self, stays: bool) {
        self.stays = stays;
    }

    pub(super) fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.file))
    }

    pub(super) async fn crc(&self, start: u64, end: u64) -> io::Result<u64> {
        crc_of(Arc::clone(&self.file), start, end).await
    }

    /// Puts the file in its place, where it survives a power failure.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        let (file, temp, target) = (Arc::clone(&self.file), self.temp.clone(), self.target.clone());
        blocking(move || {
            file.sync_all()?;
            fs::rename(&temp, &target)?;
            let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        })
        .await?;
        self.stays = true;
        Ok(())
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if !self.stays {
            // It may have been moved or removed; either way it isn't in anybody's way.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Writes into a file at any place.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<File>);

impl Writer {
    pub(super) async fn write(&self, bytes: Bytes, at: u64) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        blocking(move || file.write_all_at(&bytes, at)).await
    }
}

/// What the file system said of the local file. The text has no path.
pub(super) fn unwritable(key: &str, error: io::Error) -> Error {
    let (kind, why) = match error.kind() {
        io::ErrorKind::StorageFull => (ErrorKind::NoSpace, "the disk is full"),
        io::ErrorKind::QuotaExceeded => (ErrorKind::NoSpace, "the disk quota is used up"),
        io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::ReadOnly, "the file system is read-only"),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::Denied,
            "the operating system refuses to write the local file",
        ),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => (
            ErrorKind::InvalidInput,
            "there can't be a local file of this name",
        ),
        _ => (ErrorKind::Unexpected, "the local file can't be written"),
    };
    Error::new(kind, "download", key, why).with_source(error)
}
