//! What is known of an object besides its bytes, and where it is kept.
//!
//! In an extended attribute of the file itself: it is set before the rename that makes the object visible, so content and
//! metadata appear together or not at all, one open reads both, and a copy that keeps attributes keeps everything. On a
//! file system without them (or if asked for) in a sidecar below `.zhuji/meta`, whose name contains the modification time
//! of the file it belongs to: it is written before the rename too, and a reader of the older object can't mistake it for
//! its own.
//!
//! A file without either was put there by hand; its type follows from its name.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use jiff::Timestamp;
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::root::Root;
use crate::{Metadata, PutOptions};

const ATTRIBUTE: &str = "user.zhuji";
const META_DIR: &str = ".zhuji/meta";
/// A restored backup may have cut the modification time to whole (or even) seconds.
const TOLERANCE_NANOS: i128 = 2_000_000_000;

/// The first byte of the compact form.
const COMPACT: u8 = 2;

/// The stored form: JSON with short names, or where there is nothing but size, time, checksum and type, 25 bytes and the type.
/// That fits into an inode of ext4, and saves each object a block of the disk and each write a sixth of its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attributes {
    /// Version of this format.
    v: u8,
    /// Size and modification time when it was written: if they no longer fit, someone else changed the content.
    s: u64,
    m: i128,
    /// CRC-64.
    #[serde(with = "hexadecimal")]
    c: u64,
    t: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    u: BTreeMap<String, String>,
    /// The key, in a sidecar only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

impl Attributes {
    pub(super) fn new(options: &PutOptions, crc: u64) -> Self {
        Self {
            v: 1,
            s: 0,
            m: 0,
            c: crc,
            t: options.content_type.clone().unwrap_or_default(),
            d: options.content_disposition.clone(),
            u: options.metadata.clone(),
            k: None,
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let compact = || {
            let modified = i64::try_from(self.m).ok()?;
            let mut bytes = Vec::with_capacity(25 + self.t.len());
            bytes.push(COMPACT);
            bytes.extend_from_slice(&self.s.to_le_bytes());
            bytes.extend_from_slice(&modified.to_le_bytes());
            bytes.extend_from_slice(&self.c.to_le_bytes());
            bytes.extend_from_slice(self.t.as_bytes());
            Some(bytes)
        };
        let plain = self.d.is_none() && self.u.is_empty() && self.k.is_none();
        match plain.then(compact).flatten() {
            Some(bytes) => Ok(bytes),
            None => Ok(serde_json::to_vec(self)?),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.first() != Some(&COMPACT) {
            return serde_json::from_slice(bytes).ok();
        }
        let (size, rest) = bytes[1..].split_first_chunk()?;
        let (modified, rest) = rest.split_first_chunk()?;
        let (crc, kind) = rest.split_first_chunk()?;
        Some(Self {
            v: 1,
            s: u64::from_le_bytes(*size),
            m: i64::from_le_bytes(*modified).into(),
            c: u64::from_le_bytes(*crc),
            t: std::str::from_utf8(kind).ok()?.to_owned(),
            d: None,
            u: BTreeMap::new(),
            k: None,
        })
    }

    /// Writes the attributes of a file that is complete but not yet visible into the file itself. `false` if this file
    /// system can't hold them: then they belong in a sidecar.
    pub(super) fn save_inside(&mut self, file: &File) -> io::Result<bool> {
        let stat = fs::fstat(file)?;
        (self.s, self.m) = (stat.st_size as u64, mtime(&stat));
        let text = self.encode()?;
        match fs::fsetxattr(file, ATTRIBUTE, &text, XattrFlags::empty()) {
            Ok(()) => Ok(true),
            // No attributes here, or not of this size. A disk that is full fails again with the sidecar.
            Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the attributes of a file that is complete but not yet visible under `key` into a sidecar.
    pub(super) fn save_beside(mut self, root: &Root, file: &File, key: &str) -> io::Result<()> {
        self.s = fs::fstat(file)?.st_size as u64;
        // The kernel's clock is coarse: two quick writes of a key could share a time and so a sidecar.
        let now = Timestamp::now();
        let time = Timespec {
            tv_sec: now.as_second(),
            tv_nsec: now.subsec_nanosecond().into(),
        };
        fs::futimens(
            file,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        )?;
        self.m = mtime(&fs::fstat(file)?);
        self.k = Some(key.to_owned());
        let text = serde_json::to_vec(&self)?;
        let dir = root.dir_or_create(META_DIR)?;
        let name = sidecar_name(key, self.m);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut sidecar = File::from(fs::openat(&dir, &name, flags, Mode::from_raw_mode(0o640))?);
        sidecar.write_all(&text)?;
        if root.sync {
            sidecar.sync_all()?;
            fs::fsync(&dir)?;
        }
        Ok(())
    }

    fn load(root: &Root, file: &File, key: &str, stat: &Stat) -> Option<Self> {
        let mut buffer = [0_u8; 4096];
        match fs::fgetxattr(file, ATTRIBUTE, &mut buffer) {
            Ok(length) => return Self::decode(&buffer[..length]),
            Err(Errno::RANGE) => {
                let mut large = vec![0_u8; 64 * 1024];
                let length = fs::fgetxattr(file, ATTRIBUTE, &mut large[..]).ok()?;
                return Self::decode(&large[..length]);
            }
            Err(_) => {}
        }
        let path = format!("{META_DIR}/{}", sidecar_name(key, mtime(stat)));
        let mut text = Vec::new();
        let sidecar = root
            .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .ok()?;
        File::from(sidecar).take(64 * 1024).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// JSON has no numbers of 64 bits.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}

/// Opens an object together with what is known of it.
pub(super) fn open(root: &Root, key: &str) -> io::Result<(File, Metadata)> {
    let (mut file, mut stat) = root.file(key)?;
    loop {
        let found = Attributes::load(root, &file, key, &stat).filter(|found| found.v == 1);
        if found.is_none() {
            // Either there never were attributes, or the object has just been replaced and its sidecar went with it.
            let (now, now_stat) = root.file(key)?;
            if (now_stat.st_ino, mtime(&now_stat)) != (stat.st_ino, mtime(&stat)) {
                (file, stat) = (now, now_stat);
                continue;
            }
        }
        return Ok((file, metadata(found, key, &stat)));
    }
}

fn metadata(found: Option<Attributes>, key: &str, stat: &Stat) -> Metadata {
    let (size, modified) = (stat.st_size as u64, mtime(stat));
    let crc = found
        .as_ref()
        .filter(|found| found.s == size && (found.m - modified).abs() <= TOLERANCE_NANOS)
        .map(|found| found.c);
    let etag = match crc {
        Some(crc) => format!("{crc:016x}-{size:x}"),
        None => format!("{modified:x}-{size:x}"),
    };
    let at = Timestamp::from_nanosecond(modified).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut metadata = Metadata::new(key, size, etag, at);
    metadata.crc64 = crc;
    if let Some(found) = found {
        if !found.t.is_empty() {
            metadata.content_type = found.t;
        }
        metadata.content_disposition = found.d;
        metadata.user = found.u;
    }
    metadata
}

/// Removes the sidecar of a version of `key` that is no longer there.
pub(super) fn forget(root: &Root, key: &str, old: &Stat) {
    if let Ok(dir) = root.dir(META_DIR) {
        let _ = fs::unlinkat(dir, sidecar_name(key, mtime(old)), AtFlags::empty());
    }
}

/// Whether there are sidecars.
pub(super) fn any_sidecar(root: &Root) -> bool {
    let Ok(entries) = root.dir(META_DIR).and_then(|dir| Ok(fs::Dir::read_from(dir)?)) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name() != c"." && entry.file_name() != c"..")
}

/// Removes sidecars without a file, which a crash between sidecar and rename leaves behind.
pub(super) fn sweep(root: &Root) -> io::Result<usize> {
    let dir = match root.dir(META_DIR) {
        Ok(dir) => dir,
        Err(_) => return Ok(0),
    };
    let mut swept = 0;
    for entry in fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let Ok(stat) = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        // A young one may belong to a write that is about to rename its file.
        let age = Timestamp::now().as_nanosecond() - mtime(&stat);
        if name.starts_with('.') || age < 3_600_000_000_000 {
            continue;
        }
        let mut text = Vec::new();
        let path = format!("{META_DIR}/{name}");
        let opened = root.open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        File::from(opened).take(64 * 1024).read_to_end(&mut text)?;
        let key = serde_json::from_slice::<Attributes>(&text)
            .ok()
            .and_then(|found| found.k);
        let belongs = key.is_some_and(|key| {
            let file = root.file(&key);
            file.is_ok_and(|(_, stat)| sidecar_name(&key, mtime(&stat)) == name)
        });
        if !belongs && fs::unlinkat(dir.as_fd(), name, AtFlags::empty()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

fn sidecar_name(key: &str, modified: i128) -> String {
    let digest = Sha256::digest(key.as_bytes());
    format!("{}-{modified:x}", hex::encode(&digest[..16]))
}

pub(super) fn mtime(stat: &Stat) -> i128 {
    i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_objects_have_fits_into_an_inode() {
        for content_type in [
            "application/pdf",
            "application/octet-stream",
            "text/plain; charset=utf-8",
        ] {
            let plain = PutOptions::new().content_type(content_type);
            let mut attributes = Attributes::new(&plain, 0x995d_c9bb_df19_39fa);
            (attributes.s, attributes.m) = (u64::MAX, 1_763_890_000_123_456_789);
            let bytes = attributes.encode().unwrap();
            // What ext4 leaves of an inode of 256 bytes.
            assert!(bytes.len() <= 64, "{} bytes", bytes.len());
            let back = Attributes::decode(&bytes).unwrap();
            assert_eq!(
                (back.s, back.m, back.c, &back.t),
                (attributes.s, attributes.m, attributes.c, &attributes.t)
            );
            let full = Attributes::new(&plain.clone().metadata("name", "值"), 1);
            assert_eq!(
                Attributes::decode(&full.encode().unwrap()).unwrap().u["name"],
                "值"
            );
        }
        for damaged in [&b""[..], b"\x02", b"\x02123", b"{", b"\x07"] {
            assert!(Attributes::decode(damaged).is_none());
        }
    }
}
