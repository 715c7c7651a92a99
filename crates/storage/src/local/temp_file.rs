//! A file that is being written, and its way to its name.
//!
//! Where the file system can, it has no name until it is complete (`O_TMPFILE`): nothing is left of it whatever happens, and
//! a new object takes one call to appear, in its own folder only. A rename from a common folder of temporary files would
//! lock both folders and, in Linux, all other such renames of the file system: half the speed with many writers.
//!
//! What replaces an object needs a name to be renamed from, for the time between two calls: one in the same folder that
//! no key can have, because it begins with a control character. Listings pass over it, and a sweep after a crash looks for
//! it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, CWD},
    io::Errno,
};

use super::temp::{TempDir, Unnamed};
use crate::crc::Crc64;

/// What is summed and written at once.
const PIECE: usize = 128 * 1024;

/// A file that is being written, with the checksum of what has been written so far. Dropped before it has been put into
/// its place, it is gone.
#[derive(Debug)]
pub(super) struct TempFile {
    pub(super) file: File,
    dir: Arc<TempDir>,
    place: Place,
    pub(super) crc: Sum,
    pub(super) size: u64,
}

#[derive(Debug)]
enum Place {
    /// Nowhere yet.
    Nowhere(Unnamed),
    /// In the directory of temporary files.
    Temporary(String),
    /// Beside the object it is to replace.
    Beside { folder: OwnedFd, name: String },
    /// Where it should be.
    Arrived,
}

impl TempFile {
    pub(super) fn nowhere(file: File, dir: &Arc<TempDir>, how: Unnamed) -> Self {
        Self::new(file, dir, Place::Nowhere(how))
    }

    pub(super) fn named(file: File, dir: &Arc<TempDir>, name: String) -> Self {
        Self::new(file, dir, Place::Temporary(name))
    }

    fn new(file: File, dir: &Arc<TempDir>, place: Place) -> Self {
        Self {
            file,
            dir: Arc::clone(dir),
            place,
            crc: Sum::Running(Box::new(Crc64::new())),
            size: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Piece by piece: what has just been summed is still in the processor's cache when it is copied.
        for piece in bytes.chunks(PIECE) {
            self.crc.update(piece);
            self.file.write_all(piece)?;
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Takes over all of another file, without its bytes passing through this process if the file system can do that: a
    /// reflink, else a copy within the kernel. `size` and `crc` are those that the other file should have.
    ///
    /// `false` if it can't; then nothing has been written.
    pub(super) fn take(&mut self, from: &File, size: u64, crc: u64) -> io::Result<bool> {
        if !within_the_kernel(from, &self.file, size)? {
            return Ok(false);
        }
        self.size = size;
        self.crc = Sum::Known(crc);
        Ok(true)
    }

    /// Makes the file visible under its final name, replacing what is there.
    pub(super) fn replace(&mut self, folder: &OwnedFd, name: &str) -> io::Result<()> {
        match &self.place {
            Place::Nowhere(how) => match give_name(*how, &self.file, folder, name) {
                Err(Errno::EXIST) => self.replace_from_beside(*how, folder, name)?,
                other => other?,
            },
            Place::Temporary(from) => fs::renameat(&self.dir.dir, from, folder, name)?,
            Place::Beside {
                folder: from_folder,
                name: from,
            } => fs::renameat(from_folder, from, folder, name)?,
            Place::Arrived => {}
        }
        self.place = Place::Arrived;
        Ok(())
    }

    fn replace_from_beside(&mut self, how: Unnamed, folder: &OwnedFd, name: &str) -> io::Result<()> {
        let beside = self.dir.name_beside()?;
        give_name(how, &self.file, folder, &beside)?;
        let Err(error) = fs::renameat(folder, &beside, folder, name) else {
            return Ok(());
        };
        // Once named it can't be named anew: it stays there for the next attempt, or until it is dropped.
        match folder.try_clone() {
            Ok(folder) => self.place = Place::Beside { folder, name: beside },
            Err(_) => fs::unlinkat(folder, &beside, AtFlags::empty())?,
        }
        Err(error.into())
    }

    /// Makes the file visible under its final name if nothing is there; atomic, of many at once one wins.
    pub(super) fn create(&mut self, folder: &OwnedFd, name: &str) -> io::Result<()> {
        let (from_folder, from) = match &self.place {
            Place::Nowhere(how) => {
                give_name(*how, &self.file, folder, name)?;
                self.place = Place::Arrived;
                return Ok(());
            }
            Place::Temporary(from) => (&self.dir.dir, from),
            Place::Beside { folder, name } => (folder, name),
            Place::Arrived => return Ok(()),
        };
        match fs::linkat(from_folder, from, folder, name, AtFlags::empty()) {
            // The other name goes when this is dropped.
            Ok(()) => return Ok(()),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // A file system without hard links.
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::RenameFlags;
            fs::renameat_with(from_folder, from, folder, name, RenameFlags::NOREPLACE)?;
            self.place = Place::Arrived;
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        Err(Errno::OPNOTSUPP.into())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = match &self.place {
            Place::Temporary(name) => fs::unlinkat(&self.dir.dir, name, AtFlags::empty()),
            Place::Beside { folder, name } => fs::unlinkat(folder, name, AtFlags::empty()),
            Place::Nowhere(_) | Place::Arrived => Ok(()),
        };
    }
}

/// Gives a file without a name one, if nobody has it.
#[cfg(target_os = "linux")]
pub(super) fn give_name(how: Unnamed, file: &File, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match how {
        Unnamed::ByHandle => fs::linkat(file.as_fd(), "", folder, name, AtFlags::EMPTY_PATH),
        Unnamed::ByProc => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn give_name(_how: Unnamed, _file: &File, _folder: &OwnedFd, _name: &str) -> Result<(), Errno> {
    Err(Errno::OPNOTSUPP)
}

/// Copies all of `from`, which has `size` bytes, into the empty file `to`. `false` if this file system or kernel can't.
#[cfg(target_os = "linux")]
fn within_the_kernel(from: &File, to: &File, size: u64) -> io::Result<bool> {
    if fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(true);
    }
    let mut copied = 0;
    while copied < size {
        let left = usize::try_from(size - copied).unwrap_or(usize::MAX).min(1 << 30);
        match fs::copy_file_range(from, None, to, None, left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => copied += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM)
                if copied == 0 =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn within_the_kernel(_from: &File, _to: &File, _size: u64) -> io::Result<bool> {
    Ok(false)
}

/// The CRC-64 of a file that is being written.
#[derive(Debug)]
pub(super) enum Sum {
    Running(Box<Crc64>),
    Known(u64),
}

impl Sum {
    fn update(&mut self, bytes: &[u8]) {
        if let Self::Running(crc) = self {
            crc.update(bytes);
        }
    }

    pub(super) fn value(&self) -> u64 {
        match self {
            Self::Running(crc) => crc.value(),
            Self::Known(crc) => *crc,
        }
    }
}
