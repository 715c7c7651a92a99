//! The room that is left on a disk.

use std::io;
use std::path::Path;

/// A file system's room, as `df` shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// Bytes that this user may still write.
    pub(crate) free: u64,
    /// Bytes there are, without those that only root may use.
    pub(crate) size: u64,
}

impl Space {
    /// Of the file system that `path` is on. Blocks while a network's file system does not answer.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let told = rustix::fs::statvfs(path)?;
        let used = told.f_blocks.saturating_sub(told.f_bfree);
        Ok(Self {
            free: told.f_bavail.saturating_mul(told.f_frsize),
            size: used.saturating_add(told.f_bavail).saturating_mul(told.f_frsize),
        })
    }

    /// From 0 to 1.
    pub(crate) fn share_free(&self) -> f64 {
        self.free as f64 / self.size.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_no_more_than_there_is() {
        let space = Space::at(Path::new("/")).expect("every machine has one");
        assert!(space.size > 0 && space.free <= space.size, "{space:?}");
        assert!((0.0..=1.0).contains(&space.share_free()));
        Space::at(Path::new("/no/such/place")).expect_err("there is none");
    }
}
