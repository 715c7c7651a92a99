//! The last step of a write: from a temporary file to an object.

use std::io;

use rustix::{
    fs::{self, AtFlags},
    io::Errno,
};

use super::{
    attributes::{self, Attributes},
    errors::{from_io, is},
    root::Root,
    temp::TempFile,
};
use crate::{Error, ErrorKind, PutOptions, Result};

/// Makes a complete temporary file the object `key`. Returns its size and CRC-64.
pub(super) fn commit(
    root: &Root,
    mut temp: TempFile,
    key: &str,
    options: &PutOptions,
    sidecar: bool,
) -> Result<(u64, u64)> {
    let failed = |error: io::Error| from_io("upload", key, error);
    let (size, crc) = (temp.size, temp.crc.value());
    Attributes::new(options, crc)
        .save(root, &temp.file, key, sidecar)
        .map_err(failed)?;
    if root.sync {
        // Before the rename: else the new name could survive a power failure and its content not.
        temp.file.sync_all().map_err(failed)?;
    }
    let published = publish(root, &mut temp, key, options, sidecar);
    if published.is_err()
        && let Ok(stat) = fs::fstat(&temp.file)
    {
        // A sidecar has been written for a version that will never be.
        attributes::forget(root, key, &stat);
    }
    published.map(|()| (size, crc))
}

fn publish(root: &Root, temp: &mut TempFile, key: &str, options: &PutOptions, sidecar: bool) -> Result<()> {
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
    for attempt in 0.. {
        let parent = match root.dir_or_create(folder) {
            Ok(parent) => parent,
            // Somebody removed an empty directory between our steps.
            Err(error) if attempt < 16 && is(&error, &[Errno::NOENT]) => continue,
            Err(error) if is(&error, &[Errno::NOTDIR, Errno::EXIST]) => return Err(conflict(key, error)),
            Err(error) => return Err(failed(error)),
        };
        let old = if sidecar {
            fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        } else {
            None
        };
        let moved = if options.create_only {
            temp.link(&parent, name)
        } else {
            temp.rename(&parent, name)
        };
        match moved {
            Ok(()) => {
                if root.sync {
                    fs::fsync(&parent).map_err(|error| failed(error.into()))?;
                }
                if let Some(old) = old {
                    attributes::forget(root, key, &old);
                }
                break;
            }
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
    Ok(())
}

fn is_dir(parent: &std::os::fd::OwnedFd, name: &str) -> bool {
    fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory)
}

fn conflict(key: &str, error: io::Error) -> Error {
    let why = "on a file system a name can't be both an object and the beginning of another key";
    Error::new(ErrorKind::Conflict, "upload", key, why).with_source(error)
}

/// Removes an object and the directories it leaves empty.
pub(super) fn remove(root: &Root, key: &str) -> io::Result<()> {
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
