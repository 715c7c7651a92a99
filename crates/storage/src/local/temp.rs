//! Files that are still being written.
//!
//! They live in `.zhuji/tmp/<instance>/`, on the same file system as the objects and out of reach of every key. Each
//! adapter holds a lock in its directory for as long as it lives, so whoever starts next can tell at once, and without
//! waiting for an age, which directories belong to the dead.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::root::Root;
use crate::crc::Crc64;

const TMP_DIR: &str = ".zhuji/tmp";
const LOCK: &str = "lock";
const PIECE: usize = 128 * 1024;

/// This adapter's own directory of temporary files.
#[derive(Debug)]
pub(super) struct TempDir {
    parent: OwnedFd,
    dir: OwnedFd,
    name: String,
    next: AtomicU64,
    /// Held, never read.
    _lock: Option<OwnedFd>,
}

impl TempDir {
    /// Creates and locks a directory.
    pub(super) fn create(root: &Root) -> io::Result<Self> {
        let parent = root.dir_or_create(TMP_DIR)?;
        loop {
            let name = uuid::Uuid::new_v4().simple().to_string();
            let dir = root.dir_or_create(&format!("{TMP_DIR}/{name}"))?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(fs::openat(&dir, LOCK, flags, Mode::from_raw_mode(0o600))?);
            match lock(&dir) {
                // Locked too late: a sweeper removed the directory between our opening and our locking.
                Ok(lock) if fs::fstat(&lock)?.st_nlink == 0 => {}
                Ok(lock) => {
                    return Ok(Self {
                        parent,
                        dir,
                        name,
                        next: AtomicU64::new(0),
                        _lock: Some(lock),
                    });
                }
                // A sweeper saw the lock file before we could lock it and is removing the directory: take another.
                Err(Errno::WOULDBLOCK | Errno::NOENT) => {}
                // A file system without locks: the age decides instead.
                Err(_) => {
                    return Ok(Self {
                        parent,
                        dir,
                        name,
                        next: AtomicU64::new(0),
                        _lock: None,
                    });
                }
            }
        }
    }

    /// Removes what dead processes left. Returns how many files there were.
    pub(super) fn sweep(root: &Root) -> io::Result<usize> {
        let parent = root.dir_or_create(TMP_DIR)?;
        let mut swept = 0;
        for entry in fs::Dir::read_from(&parent)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let Ok(dir) = root.dir(&format!("{TMP_DIR}/{name}")) else {
                continue;
            };
            // Held until the directory is gone: else its owner, who is about to lock it, would lose it.
            let held = match lock(&dir) {
                Ok(held) => Some(held),
                Err(Errno::WOULDBLOCK) => continue,
                // No locks here; or created a moment ago and not yet locked; or half removed long ago.
                Err(_) if is_old(&dir) => None,
                Err(_) => continue,
            };
            swept += empty(&dir);
            let _ = fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
            drop(held);
        }
        Ok(swept)
    }

    /// A new, empty file that disappears unless it is committed.
    pub(super) fn file(self: &Arc<Self>) -> io::Result<TempFile> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, &name, flags, Mode::from_raw_mode(0o640))?;
        Ok(TempFile {
            file: File::from(file),
            dir: Arc::clone(self),
            name,
            crc: Sum::Running(Box::new(Crc64::new())),
            size: 0,
            gone: false,
        })
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        empty(&self.dir);
        let _ = fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

/// Locks a directory, or fails if somebody else has.
fn lock(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    // Read-only first: a file that is open for writing would stand in the way of mounting the volume read-only. NFS
    // wants to write for an exclusive lock.
    let mut refused = Errno::BADF;
    for access in [OFlags::RDONLY, OFlags::RDWR] {
        let file = fs::openat(
            dir,
            LOCK,
            access | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::BADF) => {}
            Err(error) => {
                refused = error;
                break;
            }
        }
    }
    Err(refused)
}

fn is_old(dir: &OwnedFd) -> bool {
    let now = jiff::Timestamp::now().as_second();
    fs::fstat(dir).is_ok_and(|stat| now - stat.st_mtime > 24 * 3600)
}

/// Removes all files of a directory and counts them, the lock not included.
fn empty(dir: &OwnedFd) -> usize {
    let Ok(entries) = fs::Dir::read_from(dir) else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if fs::unlinkat(dir, name, AtFlags::empty()).is_ok() && name != c"lock" {
            removed += 1;
        }
    }
    removed
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

/// A file that is being written, with the checksum of what has been written so far.
#[derive(Debug)]
pub(super) struct TempFile {
    pub(super) file: File,
    dir: Arc<TempDir>,
    name: String,
    pub(super) crc: Sum,
    pub(super) size: u64,
    /// Whether the name has been given away.
    gone: bool,
}

impl TempFile {
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
    pub(super) fn rename(&mut self, to: &OwnedFd, name: &str) -> io::Result<()> {
        fs::renameat(&self.dir.dir, &self.name, to, name)?;
        self.gone = true;
        Ok(())
    }

    /// Makes the file visible under its final name if nothing is there; atomic, of many at once one wins.
    pub(super) fn link(&mut self, to: &OwnedFd, name: &str) -> io::Result<()> {
        match fs::linkat(&self.dir.dir, &self.name, to, name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        // A file system without hard links.
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::RenameFlags;
            fs::renameat_with(self.dir.dir.as_fd(), &self.name, to, name, RenameFlags::NOREPLACE)?;
            self.gone = true;
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        Err(Errno::OPNOTSUPP.into())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.gone {
            let _ = fs::unlinkat(&self.dir.dir, &self.name, AtFlags::empty());
        }
    }
}
