//! Files that are still being written.
//!
//! They have no name where the file system can do that, else one in `.zhuji/tmp/<instance>/`, on the same file system as
//! the objects and out of reach of every key. Each
//! adapter holds a lock in its directory for as long as it lives, so whoever starts next can tell at once, and without
//! waiting for an age, which directories belong to the dead.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};

use super::{
    list,
    root::Root,
    temp_file::{TempFile, give_name},
};
use crate::RESERVED_SEGMENT;

const TMP_DIR: &str = ".zhuji/tmp";
const LOCK: &str = "lock";
/// How names beside objects begin. No key can contain a control character.
const BESIDE_PREFIX: &str = "\u{1}zhuji-";

/// How a file without a name gets one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unnamed {
    /// By its descriptor: since Linux 6.10, earlier only with a capability.
    ByHandle,
    /// By its entry in `/proc`.
    ByProc,
}

/// This adapter's own directory of temporary files.
#[derive(Debug)]
pub(super) struct TempDir {
    parent: OwnedFd,
    pub(super) dir: OwnedFd,
    name: String,
    next: AtomicU64,
    /// Whether this file system has files without names.
    unnamed: Option<Unnamed>,
    /// Set once the mark that a crash may leave names beside objects is there.
    beside: OnceLock<()>,
    /// Held; `None` on a file system without locks, where the age of the directory decides.
    lock: Option<OwnedFd>,
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
                Ok(lock) => return Ok(Self::with(parent, dir, name, Some(lock))),
                // A sweeper saw the lock file before we could lock it and is removing the directory: take another.
                Err(Errno::WOULDBLOCK | Errno::NOENT) => {}
                // A file system without locks: the age decides instead.
                Err(_) => return Ok(Self::with(parent, dir, name, None)),
            }
        }
    }

    fn with(parent: OwnedFd, dir: OwnedFd, name: String, lock: Option<OwnedFd>) -> Self {
        Self {
            parent,
            unnamed: unnamed(&dir),
            dir,
            name,
            next: AtomicU64::new(0),
            beside: OnceLock::new(),
            lock,
        }
    }

    /// Removes what dead processes left, and returns how many files there were. What they may have left beside objects is
    /// only looked for if `everywhere`, because that means to go through all folders.
    pub(super) fn sweep(root: &Root, everywhere: bool) -> io::Result<usize> {
        let parent = root.dir_or_create(TMP_DIR)?;
        let mut swept = 0;
        let mut crashed = Vec::new();
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
            let lock = fs::statat(&dir, LOCK, AtFlags::SYMLINK_NOFOLLOW);
            let marked = lock.is_ok_and(|lock| lock.st_size > 0);
            if marked && !everywhere {
                continue;
            }
            let dead = Dead {
                name: name.to_owned(),
                dir,
                _held: held,
            };
            if marked {
                crashed.push(dead);
            } else {
                swept += dead.remove(&parent);
            }
        }
        if !crashed.is_empty() {
            let begins: Vec<String> = crashed.iter().map(|dead| beside(&dead.name)).collect();
            swept += sweep_beside(root, "", &begins)?;
            swept += sweep_beside(root, &format!("{RESERVED_SEGMENT}/"), &begins)?;
            swept += crashed.iter().map(|dead| dead.remove(&parent)).sum::<usize>();
        }
        Ok(swept)
    }

    /// A new, empty file that disappears unless it is committed.
    pub(super) fn file(self: &Arc<Self>) -> io::Result<TempFile> {
        if let Some(how) = self.unnamed {
            return Ok(TempFile::nowhere(open_unnamed(&self.dir)?, self, how));
        }
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, &name, flags, MODE)?;
        Ok(TempFile::named(File::from(file), self, name))
    }

    /// A new name beside an object, which nothing else has. Before the first, the lock file is marked for whoever sweeps
    /// after us.
    pub(super) fn name_beside(&self) -> io::Result<String> {
        if self.beside.get().is_none() {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            File::from(fs::openat(&self.dir, LOCK, flags, Mode::empty())?).write_all(b"beside")?;
            let _ = self.beside.set(());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(format!("{}{number}", beside(&self.name)))
    }

    /// Shows that its owner lives, where no lock can.
    pub(super) fn keep_alive(&self) {
        if self.lock.is_none() {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: fs::UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            let _ = fs::futimens(&self.dir, &times);
        }
    }

    /// The same directory, on a file system where every file has a name.
    #[cfg(test)]
    pub(super) fn only_named(mut self) -> Self {
        self.unnamed = None;
        self
    }
}

/// A directory whose owner is no more.
struct Dead {
    name: String,
    dir: OwnedFd,
    _held: Option<OwnedFd>,
}

impl Dead {
    fn remove(&self, parent: &OwnedFd) -> usize {
        let removed = empty(&self.dir);
        let _ = fs::unlinkat(parent, &self.name, AtFlags::REMOVEDIR);
        removed
    }
}

/// How the names begin that this instance gives beside objects.
fn beside(instance: &str) -> String {
    format!("{BESIDE_PREFIX}{instance}-")
}

/// Removes names beside objects in this folder (`""` or with a final `/`) and those below.
fn sweep_beside(root: &Root, path: &str, begins: &[String]) -> io::Result<usize> {
    let Some((dir, names)) = list::folder(root, path)? else {
        return Ok(0);
    };
    let mut swept = 0;
    for name in names {
        let last = &name[path.len()..];
        if name.ends_with('/') {
            swept += sweep_beside(root, &name, begins)?;
        } else if begins.iter().any(|begin| last.starts_with(begin.as_str())) {
            swept += usize::from(fs::unlinkat(&dir, last, AtFlags::empty()).is_ok());
        }
    }
    Ok(swept)
}

const MODE: Mode = Mode::from_raw_mode(0o640);

#[cfg(target_os = "linux")]
fn open_unnamed(dir: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(File::from(fs::openat(dir, ".", flags, MODE)?))
}

#[cfg(not(target_os = "linux"))]
fn open_unnamed(_dir: &OwnedFd) -> io::Result<File> {
    Err(Errno::OPNOTSUPP.into())
}

/// Tries out which way this file system and this kernel have.
fn unnamed(dir: &OwnedFd) -> Option<Unnamed> {
    let file = open_unnamed(dir).ok()?;
    [Unnamed::ByHandle, Unnamed::ByProc].into_iter().find(|how| {
        let named = give_name(*how, &file, dir, "try").is_ok();
        named && fs::unlinkat(dir, "try", AtFlags::empty()).is_ok()
    })
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
