//! The small file that remembers a transfer.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Reads a checkpoint. One that is missing, damaged or of another form means "start anew".
pub(crate) async fn load<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let bytes = match tokio::fs::read(file).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "the checkpoint can't be read; starting anew");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(%error, "the checkpoint is damaged; starting anew"))
        .ok()
}

/// Writes a checkpoint as a whole: whoever reads it finds the old one or this one. It needs no `fsync`: after a power
/// failure a missing checkpoint costs time, and a damaged one is not believed.
pub(crate) async fn save<T: Serialize>(file: &Path, state: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(state)?;
    let new = beside(file);
    tokio::fs::write(&new, bytes).await?;
    tokio::fs::rename(&new, file).await
}

/// Removes a checkpoint, if there is one.
pub(crate) async fn remove(file: &Path) {
    match tokio::fs::remove_file(file).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a checkpoint could not be removed");
        }
        _ => {}
    }
}

/// Always the same name, so that a killed process leaves at most one.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
