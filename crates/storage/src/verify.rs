//! Whether an object is still what was stored.

use futures_util::TryStreamExt;
use serde::Serialize;

use crate::{ErrorKind, Result, Storage, crc::Crc64};

/// What reading a whole object has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verified {
    /// Size and CRC-64 are those that were kept.
    Intact {
        /// Bytes.
        size: u64,
        /// CRC-64/XZ.
        crc64: u64,
    },
    /// It can be read, but no CRC-64 was kept to compare with: a file that was put there by hand or changed in place, or an
    /// object that another client stored.
    Unknown {
        /// Bytes.
        size: u64,
        /// CRC-64/XZ of the bytes that are there now.
        crc64: u64,
    },
    /// The bytes are not those that were stored.
    Damaged {
        /// What differs.
        why: String,
    },
}

pub(crate) async fn verify(storage: &Storage, key: &str) -> Result<Verified> {
    match read(storage, key).await {
        Err(error) if error.kind() == ErrorKind::Integrity => Ok(Verified::Damaged {
            why: error.why().to_owned(),
        }),
        other => other,
    }
}

async fn read(storage: &Storage, key: &str) -> Result<Verified> {
    let download = storage.download_stream(key, ()).await?;
    let kept = download.metadata.crc64;
    let (mut stream, mut crc, mut size) = (download.stream, Crc64::new(), 0);
    // Size and CRC-64 are compared at the end of the stream, on every adapter.
    while let Some(chunk) = stream.try_next().await? {
        crc.update(&chunk);
        size += chunk.len() as u64;
    }
    let crc64 = crc.value();
    Ok(match kept {
        Some(kept) if kept == crc64 => Verified::Intact { size, crc64 },
        Some(kept) => Verified::Damaged {
            why: format!("CRC-64 of the bytes is {crc64}, of the object {kept}"),
        },
        None => Verified::Unknown { size, crc64 },
    })
}
