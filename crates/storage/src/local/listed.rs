//! The last large folder that was listed: its next pages need not read it again.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustix::fs::Stat;

use super::attributes::mtime;

/// Smaller ones are read faster than looked up twice; larger ones would hold too much memory.
const WORTH: std::ops::RangeInclusive<usize> = 2_000..=200_000;
/// Coarser than the clock of any file system: after that time every change gives a folder another time.
const SETTLED_NANOS: i128 = 2_000_000_000;

/// Remembers the names of one folder for as long as nothing is added to it or removed.
#[derive(Debug, Default)]
pub(super) struct Listed(Mutex<Option<Folder>>);

#[derive(Debug)]
struct Folder {
    path: String,
    inode: u64,
    modified: i128,
    names: Arc<[String]>,
}

impl Listed {
    /// The sorted names of a folder that now has this `stat`, if they are remembered and still right.
    pub(super) fn get(&self, path: &str, stat: &Stat) -> Option<Arc<[String]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = kept.as_ref()?;
        let same = folder.path == path && folder.inode == stat.st_ino && folder.modified == mtime(stat);
        same.then(|| Arc::clone(&folder.names))
    }

    /// Remembers names that were read after the folder had this `stat`. Not if it had just been changed: the next change
    /// could leave it the same time.
    pub(super) fn keep(&self, path: &str, stat: &Stat, names: &Arc<[String]>) {
        let modified = mtime(stat);
        let age = Timestamp::now().as_nanosecond() - modified;
        if !WORTH.contains(&names.len()) || age < SETTLED_NANOS {
            return;
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Folder {
            path: path.to_owned(),
            inode: stat.st_ino,
            modified,
            names: Arc::clone(names),
        });
    }

    /// Forgets a folder whose end has been reached.
    pub(super) fn forget(&self, path: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|folder| folder.path == path);
    }
}
