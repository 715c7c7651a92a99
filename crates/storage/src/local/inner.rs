//! What blocks: everything that touches the disk.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{
    LocalOptions, attributes,
    errors::from_io,
    listed::Listed,
    root::Root,
    signing_key,
    temp::TempDir,
    temp_file::TempFile,
    write::{self, Sidecars},
};
use crate::{Durability, Error, ErrorKind, Key, PutOptions, Result, UrlSigner};

/// What all clones and background tasks of one adapter share.
pub(super) struct Inner {
    pub(super) root: Root,
    /// `None` in a store that is open for reading only.
    pub(super) temp: Option<Arc<TempDir>>,
    pub(super) sidecars: Sidecars,
    pub(super) listed: Listed,
    pub(super) signer: Arc<UrlSigner>,
    /// Held while `.zhuji/rules.json` is replaced.
    pub(super) rules: Mutex<()>,
}

/// Opens a directory; blocking.
pub(super) fn open(path: &Path, options: LocalOptions) -> Result<Inner> {
    let subject = "storage directory";
    let failed = |error: std::io::Error| match from_io("opening", subject, error) {
        error if error.kind() == ErrorKind::NotFound => Error::new(
            ErrorKind::Config,
            "opening",
            subject,
            "the path leads through something that isn't a directory",
        )
        .with_hint("check STORAGE_LOCAL_DIR"),
        error => error,
    };
    let sync = options.durability == Durability::Fsync;
    let (root, temp) = if options.read_only {
        let missing = |error: std::io::Error| match from_io("opening", subject, error) {
            error if error.kind() == ErrorKind::NotFound => Error::new(
                ErrorKind::Config,
                "opening",
                subject,
                "there is no such directory",
            ),
            error => error,
        };
        (Root::open_existing(path, sync).map_err(missing)?, None)
    } else {
        let root = Root::open(path, sync).map_err(failed)?;
        let temp = Arc::new(TempDir::create(&root).map_err(failed)?);
        leftovers(&root, false);
        (root, Some(temp))
    };
    let key = match (options.signing_key, &temp) {
        (Some(key), _) => key.expose().as_bytes().to_vec(),
        (None, Some(temp)) => signing_key::load_or_create(&root, temp).map_err(failed)?,
        (None, None) => signing_key::load_or_random(&root).map_err(failed)?,
    };
    let signer = Arc::new(UrlSigner::new(key, options.base_url)?);
    let sidecars = Sidecars::new(options.sidecars, attributes::any_sidecar(&root));
    let inner = Inner {
        root,
        temp,
        sidecars,
        listed: Listed::default(),
        signer,
        rules: Mutex::new(()),
    };
    inner.probe()?;
    Ok(inner)
}

/// Removes what interrupted writes left, and counts it.
pub(super) fn leftovers(root: &Root, everywhere: bool) -> u64 {
    match (TempDir::sweep(root, everywhere), attributes::sweep(root)) {
        (Ok(0), Ok(0)) => 0,
        (Ok(files), Ok(sidecars)) => {
            tracing::info!(files, sidecars, "removed what interrupted writes had left");
            (files + sidecars) as u64
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "could not look for interrupted writes");
            0
        }
    }
}

impl Inner {
    /// A new temporary file.
    pub(super) fn temp_file(&self, operation: &'static str, subject: &str) -> Result<TempFile> {
        let temp = self.writable(operation, subject)?;
        temp.file().map_err(|error| from_io(operation, subject, error))
    }

    pub(super) fn writable(&self, operation: &'static str, subject: &str) -> Result<&Arc<TempDir>> {
        self.temp.as_ref().ok_or_else(|| {
            let why = "the store is open for reading only";
            Error::new(ErrorKind::ReadOnly, operation, subject, why)
        })
    }

    pub(super) fn remove(&self, key: &Key) -> Result<()> {
        self.writable("delete", key)?;
        write::remove(&self.root, key, &self.sidecars).map_err(|error| from_io("delete", key, error))
    }

    /// Writes to a temporary file, a new one if there is none yet.
    pub(super) fn append(&self, temp: Option<TempFile>, chunks: &[Bytes], key: &str) -> Result<TempFile> {
        let failed = |error| from_io("upload", key, error);
        let mut temp = match temp {
            Some(temp) => temp,
            None => self.temp_file("upload", key)?,
        };
        for chunk in chunks {
            temp.write(chunk).map_err(failed)?;
        }
        Ok(temp)
    }

    pub(super) fn commit(&self, temp: TempFile, key: &str, options: &PutOptions) -> Result<(u64, u64)> {
        write::commit(&self.root, temp, key, options, &self.sidecars)
    }

    /// Shows that a file can be written, or in a store that is only read, that the directory is there.
    pub(super) fn probe(&self) -> Result<()> {
        let failed = |error| from_io("check", "storage directory", error);
        if self.temp.is_none() {
            return self.root.dir("").map(drop).map_err(failed);
        }
        let mut file = self.temp_file("check", "storage directory")?;
        file.write(b"zhuji").map_err(failed)
    }

    pub(super) fn copy(&self, from: &Key, to: &Key) -> Result<(u64, u64)> {
        use std::io::Read;
        let failed = |error| from_io("copy", from, error);
        let (mut file, metadata) = attributes::open(&self.root, from).map_err(failed)?;
        let mut temp = self.temp_file("copy", from)?;
        let options = PutOptions::of(&metadata);
        // The checksum goes with the bytes: a copy of damaged ones is as damaged, and found out when it is read.
        if let Some(crc) = metadata.crc64
            && temp.take(&file, metadata.size, crc).map_err(failed)?
        {
            return self.commit(temp, to, &options);
        }
        let mut buffer = vec![0_u8; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            temp.write(&buffer[..count]).map_err(failed)?;
        }
        if metadata.crc64.is_some_and(|crc| crc != temp.crc.value()) {
            let why = "the bytes on the disk are not those that were stored (CRC-64 differs)";
            return Err(Error::new(ErrorKind::Integrity, "copy", from.as_str(), why));
        }
        self.commit(temp, to, &options)
    }
}
