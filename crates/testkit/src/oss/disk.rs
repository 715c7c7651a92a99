//! Keeps the store across restarts: one data file and one description per object, both written beside their
//! final name and then renamed, so that a kill leaves either the old object or the new one.
//!
//! ```text
//! DATA_DIR/BUCKET/bucket.json
//! DATA_DIR/BUCKET/objects/SHA256(key).json      key, metadata, name of the data file
//! DATA_DIR/BUCKET/objects/SHA256(key).N.data
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::OssError;
use super::store::{Bucket, BucketMeta, Buckets, Meta, Object};

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    data: String,
    meta: Meta,
}

impl Disk {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Reads everything; a file that can't be understood is an error with its name.
    pub(crate) fn load(&self) -> std::io::Result<Buckets> {
        std::fs::create_dir_all(&self.root)?;
        let mut buckets = Buckets::new();
        for dir in std::fs::read_dir(&self.root)? {
            let dir = dir?;
            let Ok(name) = dir.file_name().into_string() else {
                continue;
            };
            let about = dir.path().join("bucket.json");
            if !about.is_file() {
                continue;
            }
            let mut bucket = Bucket::new(read_json::<BucketMeta>(&about)?);
            load_objects(&dir.path().join("objects"), &mut bucket)?;
            buckets.insert(name, bucket);
        }
        Ok(buckets)
    }

    pub(crate) async fn put_bucket(&self, bucket: &str, meta: Option<BucketMeta>) -> Result<(), OssError> {
        let dir = self.root.join(bucket);
        run(move || match meta {
            Some(meta) => {
                std::fs::create_dir_all(dir.join("objects"))?;
                write_json(&dir.join("bucket.json"), &meta)
            }
            None if dir.exists() => std::fs::remove_dir_all(&dir),
            None => Ok(()),
        })
        .await
    }

    pub(crate) async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        object: Option<Arc<Object>>,
    ) -> Result<(), OssError> {
        let dir = self.root.join(bucket).join("objects");
        let key = key.to_owned();
        run(move || {
            let stem = hex::encode(Sha256::digest(key.as_bytes()));
            let about = dir.join(format!("{stem}.json"));
            let before = about.is_file().then(|| read_json::<Entry>(&about)).transpose()?;
            match object {
                Some(object) => {
                    let data = format!("{stem}.{:016x}.data", fastrand::u64(..));
                    write_file(&dir.join(&data), &object.chunks)?;
                    write_json(
                        &about,
                        &Entry {
                            key,
                            data,
                            meta: object.meta.clone(),
                        },
                    )?;
                }
                None if before.is_some() => std::fs::remove_file(&about)?,
                None => {}
            }
            // A data file without a description is harmless; the next start removes it.
            if let Some(before) = before {
                let _ = std::fs::remove_file(dir.join(before.data));
            }
            Ok(())
        })
        .await
    }
}

fn load_objects(dir: &Path, bucket: &mut Bucket) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut known = std::collections::HashSet::new();
    let mut others = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|ext| ext == "json") {
            let entry: Entry = read_json(&path)?;
            let data = dir.join(&entry.data);
            let bytes = Bytes::from(std::fs::read(&data).map_err(|e| named(&data, e))?);
            if bytes.len() as u64 != entry.meta.size {
                return Err(named(
                    &data,
                    format!("{} bytes, {} expected", bytes.len(), entry.meta.size),
                ));
            }
            known.insert(data);
            let chunks = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
            bucket.objects.insert(
                entry.key,
                Arc::new(Object {
                    meta: entry.meta,
                    chunks,
                }),
            );
        } else {
            others.push(path);
        }
    }
    for path in others.iter().filter(|path| !known.contains(*path)) {
        std::fs::remove_file(path).map_err(|e| named(path, e))?;
    }
    Ok(())
}

async fn run(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), OssError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(OssError::internal(format!("the data directory failed: {error}"))),
        Err(error) => Err(OssError::internal(format!("the writer failed: {error}"))),
    }
}

fn write_file(path: &Path, chunks: &[Bytes]) -> std::io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = std::fs::File::create(&beside).map_err(|e| named(&beside, e))?;
    for chunk in chunks {
        file.write_all(chunk).map_err(|e| named(&beside, e))?;
    }
    drop(file);
    std::fs::rename(&beside, path).map_err(|e| named(path, e))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| named(path, e))?;
    write_file(path, &[Bytes::from(text)])
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> std::io::Result<T> {
    let text = std::fs::read(path).map_err(|e| named(path, e))?;
    serde_json::from_slice(&text).map_err(|e| named(path, e))
}

fn named(path: &Path, why: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(format!("{}: {why}", path.display()))
}
