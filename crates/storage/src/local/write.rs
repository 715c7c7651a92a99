//! The last step of a write: from a temporary file to an object.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use rustix::{
    fs::{self, AtFlags, Stat},
    io::Errno,
};

use super::{
    attributes::{self, Attributes},
    errors::{from_io, is},
    root::Root,
    temp_file::TempFile,
};
use crate::{Error, ErrorKind, PutOptions, Result};

/// Whether this store has sidecars.
///
/// Without any, writes go on side by side. With sidecars, one write or removal at a time: each has to know which version it
/// replaces, to remove that one's sidecar. The first file whose attributes don't fit inside turns the one into the other.
#[derive(Debug)]
pub(super) struct Sidecars {
    /// Never try the file itself.
    always: bool,
    exist: RwLock<bool>,
}

/// Held while an object is made visible or removed.
pub(super) enum Turn<'a> {
    Shared { _guard: RwLockReadGuard<'a, bool> },
    Alone { _guard: RwLockWriteGuard<'a, bool> },
}

impl Sidecars {
    pub(super) fn new(always: bool, exist: bool) -> Self {
        Self {
            always,
            exist: RwLock::new(always || exist),
        }
    }

    /// A turn with other writers if there are no sidecars, else alone.
    pub(super) fn turn(&self) -> Turn<'_> {
        // The flag can't be left half-changed by a panic.
        let shared = self.exist.read().unwrap_or_else(PoisonError::into_inner);
        if !*shared {
            return Turn::Shared { _guard: shared };
        }
        drop(shared);
        self.alone()
    }

    /// A turn alone, to look and remove without anyone in between.
    fn look(&self) -> Turn<'_> {
        Turn::Alone {
            _guard: self.exist.write().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// A turn alone, to write a sidecar.
    fn alone(&self) -> Turn<'_> {
        let mut alone = self.exist.write().unwrap_or_else(PoisonError::into_inner);
        *alone = true;
        Turn::Alone { _guard: alone }
    }
}

/// Makes a complete temporary file the object `key`. Returns its size and CRC-64.
pub(super) fn commit(
    root: &Root,
    temp: TempFile,
    key: &str,
    options: &PutOptions,
    sidecars: &Sidecars,
) -> Result<(u64, u64)> {
    commit_with(root, temp, key, options, sidecars, |dir| Ok(fs::fsync(dir)?))
}

/// `sync_dir` pushes the new name to the disk; tests let it fail.
fn commit_with(
    root: &Root,
    mut temp: TempFile,
    key: &str,
    options: &PutOptions,
    sidecars: &Sidecars,
    sync_dir: impl Fn(&OwnedFd) -> io::Result<()>,
) -> Result<(u64, u64)> {
    let failed = |error: io::Error| from_io("upload", key, error);
    let (size, crc) = (temp.size, temp.crc.value());
    let mut attributes = Attributes::new(options, crc);
    let inside = !sidecars.always && attributes.save_inside(&temp.file).map_err(failed)?;
    let alone = (!inside).then(|| sidecars.alone());
    if !inside {
        attributes.save_beside(root, &temp.file, key).map_err(failed)?;
    }
    if root.sync {
        // Before the rename: else the new name could survive a power failure and its content not.
        temp.file.sync_all().map_err(failed)?;
    }
    let turn = alone.unwrap_or_else(|| sidecars.turn());
    let tracked = matches!(turn, Turn::Alone { .. });
    let (parent, old) = match publish(root, &mut temp, key, options, tracked) {
        Ok(published) => published,
        Err(error) => {
            if let Ok(stat) = fs::fstat(&temp.file) {
                // A sidecar has been written for a version that will never be.
                attributes::forget(root, key, &stat);
            }
            return Err(error);
        }
    };
    // From here on the object is visible, whatever is reported: its sidecar stays. The old one's stays too until the new
    // name is on the disk, because after a power failure the old object could be back; a later start sweeps it.
    if root.sync {
        sync_dir(&parent).map_err(failed)?;
    }
    if let Some(old) = old {
        attributes::forget(root, key, &old);
    }
    Ok((size, crc))
}

/// Makes the file visible. Returns its directory and, where there are sidecars, what it replaced.
fn publish(
    root: &Root,
    temp: &mut TempFile,
    key: &str,
    options: &PutOptions,
    tracked: bool,
) -> Result<(OwnedFd, Option<Stat>)> {
    let failed = |error: io::Error| match is(&error, &[Errno::XDEV]) {
        true => Error::new(
            ErrorKind::Config,
            "upload",
            key,
            "another file system is mounted below the storage directory",
        )
        .with_hint("a store has to be on one file system"),
        false => from_io("upload", key, error),
    };
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let parent = match root.dir_or_create(folder) {
            Ok(parent) => parent,
            // Somebody removed an empty directory between our steps.
            Err(error) if attempt < 16 && is(&error, &[Errno::NOENT]) => continue,
            Err(error) if is(&error, &[Errno::NOTDIR, Errno::EXIST]) => return Err(conflict(key, error)),
            Err(error) => return Err(failed(error)),
        };
        let old = if tracked {
            fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        } else {
            None
        };
        let moved = if options.create_only {
            temp.create(&parent, name)
        } else {
            temp.replace(&parent, name)
        };
        match moved {
            Ok(()) => return Ok((parent, old)),
            Err(error) if attempt < 16 && is(&error, &[Errno::NOENT]) => {}
            // A directory bears the name. If it holds nothing, it is only the trace of deleted objects.
            Err(error)
                if is(&error, &[Errno::ISDIR, Errno::EXIST, Errno::NOTEMPTY]) && is_dir(&parent, name) =>
            {
                if attempt >= 16 || root.prune_below(key).is_err() {
                    return Err(conflict(key, error));
                }
            }
            Err(error) if is(&error, &[Errno::EXIST]) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "upload",
                    key,
                    "the object exists",
                ));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

fn is_dir(parent: &OwnedFd, name: &str) -> bool {
    fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory)
}

fn conflict(key: &str, error: io::Error) -> Error {
    let why = "on a file system a name can't be both an object and the beginning of another key";
    Error::new(ErrorKind::Conflict, "upload", key, why).with_source(error)
}

/// Removes an object if it is still the version that was `seen`; says whether it was. No write of this process can come in
/// between; one of another process can, for as long as it takes the kernel to answer two calls.
///
/// Not pushed to the disk: what comes back after a power failure is removed by the next sweep.
pub(super) fn remove_version(root: &Root, key: &str, sidecars: &Sidecars, seen: &Stat) -> io::Result<bool> {
    let _turn = sidecars.look();
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let parent = match root.dir(folder) {
        Err(error) if is(&error, &[Errno::NOENT, Errno::NOTDIR]) => return Ok(false),
        other => other?,
    };
    match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if now.st_ino == seen.st_ino && attributes::mtime(&now) == attributes::mtime(seen) => {}
        _ => return Ok(false),
    }
    match fs::unlinkat(&parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    }
    attributes::forget(root, key, seen);
    root.prune_above(key);
    Ok(true)
}

/// Removes an object and the directories it leaves empty.
pub(super) fn remove(root: &Root, key: &str, sidecars: &Sidecars) -> io::Result<()> {
    let _turn = sidecars.turn();
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let gone = [Errno::NOENT, Errno::NOTDIR];
    let parent = match root.dir(folder) {
        Err(error) if is(&error, &gone) => return Ok(()),
        other => other?,
    };
    let old = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
    match old {
        Err(Errno::NOENT) => return Ok(()),
        // A directory is no object.
        Ok(stat) if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory => return Ok(()),
        _ => {}
    }
    match fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    if root.sync {
        fs::fsync(&parent)?;
    }
    if let Ok(old) = old {
        attributes::forget(root, key, &old);
    }
    root.prune_above(key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::local::temp::TempDir;

    #[test]
    fn an_object_keeps_its_sidecar_though_its_directory_can_not_be_synced() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), true).unwrap();
        let temp = Arc::new(TempDir::create(&root).unwrap());
        let options = PutOptions::new().content_type("application/x-test");
        let sidecars = Sidecars::new(true, false);
        let put = |text: &str, synced: bool| {
            let mut file = temp.file().unwrap();
            file.write(text.as_bytes()).unwrap();
            commit_with(&root, file, "a", &options, &sidecars, |_| {
                if synced { Ok(()) } else { Err(Errno::IO.into()) }
            })
        };
        put("first", true).unwrap();
        assert_eq!(put("second", false).unwrap_err().kind(), ErrorKind::Unexpected);
        let (_, metadata) = attributes::open(&root, "a").unwrap();
        assert_eq!(
            (metadata.size, metadata.content_type.as_str()),
            (6, "application/x-test")
        );
        assert!(metadata.crc64.is_some());
    }
}
