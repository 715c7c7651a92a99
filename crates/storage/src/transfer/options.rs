//! What callers can ask of a file transfer.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, ErrorKind, PutOptions, Result};

/// The smallest part that can be asked for, in bytes; OSS takes no smaller one.
const MIN_PART: u64 = 100 * 1024;
const PART: u64 = 8 * 1024 * 1024;
const AT_ONCE: usize = 4;

/// How far a file transfer has come; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are there, those of an earlier attempt included.
    pub done: u64,
    /// The size of the file.
    pub total: u64,
    /// Of `done`, what an earlier attempt had transferred.
    pub resumed: u64,
}

#[derive(Clone)]
struct ProgressCallback(Arc<dyn Fn(Progress) + Send + Sync>);

impl fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressCallback")
    }
}

/// What both directions share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) part_size: u64,
    pub(crate) parallel: usize,
    pub(crate) checkpoint: Option<PathBuf>,
    progress: Option<ProgressCallback>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            part_size: PART,
            parallel: AT_ONCE,
            checkpoint: None,
            progress: None,
        }
    }
}

impl Common {
    pub(crate) fn report(&self, done: u64, total: u64, resumed: u64) {
        if let Some(ProgressCallback(tell)) = &self.progress {
            tell(Progress { done, total, resumed });
        }
    }

    fn check(&self, operation: &'static str, key: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidInput, operation, key, why));
        if self.part_size < MIN_PART {
            return refuse("the part size is below 100 KiB");
        }
        if self.parallel == 0 {
            return refuse("nothing may run at once");
        }
        Ok(())
    }
}

macro_rules! common_options {
    ($options:ident) => {
        impl $options {
            /// Bytes of a part, at least 100 KiB; larger for files that would have more than 10,000. Default: 8 MiB.
            #[must_use]
            pub fn part_size(mut self, bytes: u64) -> Self {
                self.common.part_size = bytes;
                self
            }

            /// Parts under way at once; each needs about 1 MiB of memory, whatever its size. Default: 4.
            #[must_use]
            pub fn parallel(mut self, parts: usize) -> Self {
                self.common.parallel = parts;
                self
            }

            /// Keeps what is needed to go on after a failure or a killed process in this file; the same call with the same
            /// file goes on. It is removed at the end. One transfer at a time may use it. Default: none, and a failed
            /// transfer leaves nothing behind.
            #[must_use]
            pub fn checkpoint(mut self, file: impl AsRef<Path>) -> Self {
                self.common.checkpoint = Some(file.as_ref().to_owned());
                self
            }

            /// Calls this whenever another part is there. It runs on the transfer's task and must not block.
            #[must_use]
            pub fn progress(mut self, tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
                self.common.progress = Some(ProgressCallback(Arc::new(tell)));
                self
            }
        }

        impl From<()> for $options {
            fn from((): ()) -> Self {
                Self::new()
            }
        }
    };
}

/// How a file is uploaded.
#[derive(Clone, Debug, Default)]
pub struct UploadFileOptions {
    pub(crate) put: PutOptions,
    pub(crate) common: Common,
}

impl UploadFileOptions {
    /// Default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the object is stored.
    #[must_use]
    pub fn put(mut self, put: PutOptions) -> Self {
        self.put = put;
        self
    }

    pub(crate) fn check(&self, key: &str) -> Result<()> {
        self.put.check(key)?;
        self.common.check("upload", key)
    }
}

common_options!(UploadFileOptions);

impl From<PutOptions> for UploadFileOptions {
    fn from(put: PutOptions) -> Self {
        Self::new().put(put)
    }
}

/// How an object is downloaded into a file.
#[derive(Clone, Debug, Default)]
pub struct DownloadFileOptions {
    pub(crate) common: Common,
}

impl DownloadFileOptions {
    /// Default options.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn check(&self, key: &str) -> Result<()> {
        self.common.check("download", key)
    }
}

common_options!(DownloadFileOptions);
