//! The rules of a local store, kept with the data in `.zhuji/rules.json` and carried out from there: whoever changes the
//! file, by whatever means, changes the rules of every process that has the store open.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    errors::{from_io, is},
    root::Root,
    temp::TempDir,
};
use crate::{Error, ErrorKind, Result, StorageRules};

const DIR: &str = ".zhuji";
const NAME: &str = "rules.json";
const SUBJECT: &str = ".zhuji/rules.json";
/// A thousand rules take less.
const LARGEST: u64 = 1024 * 1024;

/// The rules now; none if there is no file.
pub(super) fn load(root: &Root) -> Result<StorageRules> {
    let failed = |error: io::Error| from_io("rules", SUBJECT, error);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match root.open_at(&format!("{DIR}/{NAME}"), flags, Mode::empty()) {
        Err(error) if is(&error, &[Errno::NOENT]) => return Ok(StorageRules::default()),
        other => File::from(other.map_err(failed)?),
    };
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    StorageRules::from_json(&text).map_err(|error| {
        Error::new(ErrorKind::Config, "rules", SUBJECT, error.why())
            .with_hint("mend the file, or remove it and apply the rules again")
    })
}

/// Replaces the sections that are there; readers see the old file or the new one.
pub(super) fn replace(root: &Root, temp: &Arc<TempDir>, rules: &StorageRules) -> Result<()> {
    let mut kept = match load(root) {
        // A damaged file is mended by replacing it.
        Err(error) if error.kind() == ErrorKind::Config => StorageRules::default(),
        other => other?,
    };
    kept.replace(rules);
    kept.versioning = None;
    let write = || {
        let mut file = temp.file()?;
        file.write(kept.to_json().as_bytes())?;
        if root.sync {
            file.file.sync_all()?;
        }
        let dir = root.dir(DIR)?;
        file.replace(&dir, NAME)?;
        if root.sync {
            fs::fsync(&dir)?;
        }
        Ok(())
    };
    write().map_err(|error| from_io("rules", SUBJECT, error))
}
