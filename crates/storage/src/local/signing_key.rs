//! The key of signed URLs, when the configuration names none: random, kept with the data.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{errors::is, root::Root, temp::TempDir};
use crate::memory::random_key;

const DIR: &str = ".zhuji";
const NAME: &str = "signing.key";

/// Reads the key of this data directory, or makes one. Processes that start at the same time end up with the same one: it is
/// written aside and linked to its name, which only the first can do.
pub(super) fn load_or_create(root: &Root, temp: &Arc<TempDir>) -> io::Result<Vec<u8>> {
    if let Some(key) = load(root, true)? {
        return Ok(key);
    }
    let mut file = temp.file()?;
    fs::fchmod(&file.file, Mode::from_raw_mode(0o600))?;
    file.write(hex::encode(random_key()).as_bytes())?;
    file.file.sync_all()?;
    let dir = root.dir(DIR)?;
    match file.create(&dir, NAME) {
        Ok(()) => fs::fsync(&dir)?,
        Err(error) if is(&error, &[Errno::EXIST]) => {}
        Err(error) => return Err(error),
    }
    load(root, true)?.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "the signing key vanished while it was made",
        )
    })
}

/// Reads the key and changes nothing; a random one if there is none.
pub(super) fn load_or_random(root: &Root) -> io::Result<Vec<u8>> {
    Ok(load(root, false)?.unwrap_or_else(random_key))
}

fn load(root: &Root, mend: bool) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match root.open_at(&format!("{DIR}/{NAME}"), flags, Mode::empty()) {
        Err(error) if is(&error, &[Errno::NOENT]) => return Ok(None),
        other => File::from(other?),
    };
    let mode = fs::fstat(&file)?.st_mode & 0o077;
    if mode != 0 && mend {
        tracing::warn!("the signing key of local URLs can be read by other users; making it private");
        fs::fchmod(&file, Mode::from_raw_mode(0o600))?;
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text)?;
    let key = hex::decode(text.trim()).ok().filter(|key| key.len() >= 32);
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "`.zhuji/signing.key` is damaged; remove it",
        )
    };
    key.ok_or_else(damaged).map(Some)
}
