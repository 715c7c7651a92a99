//! One process, one outbox.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{Error, ErrorKind, RESERVED_SEGMENT, Result};

/// How long the start waits for a process that is just ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes a directory for this process alone.
pub(crate) async fn lock(dir: &Path) -> Result<File> {
    let subject = "STORAGE_OUTBOX_DIR";
    let path = dir.join(RESERVED_SEGMENT).join("outbox.lock");
    let failed = |why: &str| Error::new(ErrorKind::Config, "configuration", subject, why);
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|error| failed("its lock can't be opened").with_source(error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(
                    failed("another process has this outbox").with_hint("an outbox belongs to one process")
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(failed("it can't be locked")
                    .with_source(error)
                    .with_hint("use a local file system"));
            }
        }
    }
}
