//! Opening things below the root directory, and nothing else.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::errors::is;

const DIR_MODE: Mode = Mode::from_raw_mode(0o750);
const READ_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// The root of a local store. Every path is resolved by the kernel beneath its descriptor without following symbolic links,
/// so neither a key nor a link planted in the tree can lead outside, whatever else changes at the same time.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    /// Whether the kernel has `openat2`; else each segment is opened by itself.
    #[cfg(target_os = "linux")]
    openat2: bool,
    /// Whether new names are pushed to the disk before a write is acknowledged.
    pub(super) sync: bool,
}

impl Root {
    /// Creates the directory if it is missing. The path to the root itself may lead through links.
    pub(super) fn open(path: &Path, sync: bool) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(path)?;
        Self::open_existing(path, sync)
    }

    /// Opens the directory and creates nothing.
    pub(super) fn open_existing(path: &Path, sync: bool) -> io::Result<Self> {
        let dir = fs::open(path, READ_DIR.difference(OFlags::NOFOLLOW), Mode::empty())?;
        #[cfg(target_os = "linux")]
        let openat2 = !matches!(
            openat2(dir.as_fd(), ".", READ_DIR, Mode::empty()),
            Err(Errno::NOSYS | Errno::PERM)
        );
        Ok(Self {
            dir,
            #[cfg(target_os = "linux")]
            openat2,
            sync,
        })
    }

    /// The same root, resolving segment by segment as on a kernel without `openat2`.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn without_openat2(mut self) -> Self {
        self.openat2 = false;
        self
    }

    /// Opens something below the root. The empty path is the root itself.
    pub(super) fn open_at(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = if path.is_empty() { "." } else { path };
        #[cfg(target_os = "linux")]
        if self.openat2 {
            loop {
                match openat2(self.dir.as_fd(), path, flags, mode) {
                    // Something was renamed while the kernel looked; it asks to be asked again.
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // A file or a link; only the walk can tell which.
                    Err(Errno::NOTDIR) => break,
                    other => return Ok(other?),
                }
            }
        }
        self.walk(path, flags, mode)
    }

    fn walk(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut held: Option<OwnedFd> = None;
        for segment in folders.split('/').filter(|segment| !segment.is_empty()) {
            let dir = held.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
            held = Some(open_no_link(dir, segment, READ_DIR, Mode::empty())?);
        }
        let dir = held.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
        open_no_link(dir, name, flags, mode)
    }

    /// Opens a directory below the root.
    pub(super) fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_at(path, READ_DIR, Mode::empty())
    }

    /// Opens a directory below the root and creates it, and those above it, where they are missing.
    pub(super) fn dir_or_create(&self, path: &str) -> io::Result<OwnedFd> {
        match self.dir(path) {
            Err(error) if is(&error, &[Errno::NOENT]) => {}
            other => return other,
        }
        let mut above = self.dir("")?;
        let mut end = 0;
        for segment in path.split('/') {
            end += segment.len();
            match fs::mkdirat(&above, segment, DIR_MODE) {
                Ok(()) if self.sync => fs::fsync(&above)?,
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            above = self.dir(&path[..end])?;
            end += 1;
        }
        Ok(above)
    }

    /// Opens an object for reading. Directories, devices and pipes are no objects.
    pub(super) fn file(&self, key: &str) -> io::Result<(File, fs::Stat)> {
        // NONBLOCK: a pipe that someone put there must not hold us up.
        let file = self.open_at(key, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::NOENT.into());
        }
        Ok((File::from(file), stat))
    }

    /// Removes the directories above `key` that have become empty.
    pub(super) fn prune_above(&self, key: &str) {
        let mut path = key;
        while let Some((above, _)) = path.rsplit_once('/') {
            path = above;
            let (parent, name) = above.rsplit_once('/').unwrap_or(("", above));
            let Ok(parent) = self.dir(parent) else { return };
            if fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }

    /// Removes a tree of directories that holds no file; leaves it alone if there is one.
    pub(super) fn prune_below(&self, path: &str) -> io::Result<()> {
        let dir = self.dir(path)?;
        for entry in fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                return Err(Errno::NOTEMPTY.into());
            };
            if name != "." && name != ".." {
                self.prune_below(&format!("{path}/{name}"))?;
            }
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(fs::unlinkat(self.dir(parent)?, name, AtFlags::REMOVEDIR)?)
    }
}

/// `O_DIRECTORY | O_NOFOLLOW` on a link says "not a directory"; tell the truth instead.
fn open_no_link(dir: BorrowedFd<'_>, name: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    match fs::openat(dir, name, flags | OFlags::NOFOLLOW, mode) {
        Err(Errno::NOTDIR) => match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => Err(Errno::LOOP.into()),
            _ => Err(Errno::NOTDIR.into()),
        },
        other => Ok(other?),
    }
}

#[cfg(target_os = "linux")]
fn openat2(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(dir, path, flags, mode, resolve)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Both ways of resolving give the same answers.
    #[test]
    fn the_walk_is_as_strict_as_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/secret"), "x").unwrap();
        std::fs::write(root.join("a/b/file"), "x").unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("../../outside/secret", root.join("a/filelink")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        let kernel = Root::open(&root, false).unwrap();
        let walk = Root::open(&root, false).unwrap().without_openat2();
        assert!(kernel.openat2 && !walk.openat2);
        for (path, expected) in [
            ("a/b/file", Ok(())),
            ("a/b", Err(Errno::NOENT)),
            ("a/b/none", Err(Errno::NOENT)),
            ("none/file", Err(Errno::NOENT)),
            ("a/b/file/deeper", Err(Errno::NOTDIR)),
            ("link/secret", Err(Errno::LOOP)),
            ("a/filelink", Err(Errno::LOOP)),
            ("absolute/b/file", Err(Errno::LOOP)),
        ] {
            for (how, root) in [("kernel", &kernel), ("walk", &walk)] {
                let got = root
                    .file(path)
                    .map(drop)
                    .map_err(|error| Errno::from_io_error(&error).unwrap());
                assert_eq!(got, expected, "{how}: {path}");
            }
        }
        for (how, root) in [("kernel", &kernel), ("walk", &walk)] {
            let error = root.dir_or_create("link/new").map(drop).unwrap_err();
            assert!(is(&error, &[Errno::LOOP]), "{how}: {error}");
            let error = root.dir_or_create("link").map(drop).unwrap_err();
            assert!(is(&error, &[Errno::LOOP]), "{how}: {error}");
            root.dir_or_create(&format!("x/{how}/z")).unwrap();
        }
    }
}
