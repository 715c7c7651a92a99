//! Who writes files.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::local::LocalFileSystem;
use opendal::Operator;
use zhuji_storage::{Storage, StorageConfig, StorageFactory};

use super::{Durability, OBJECT_STORE, OPENDAL, OURS};

pub(super) enum Files {
    /// As the factory builds it: content type, metadata and CRC-64 are kept with the bytes, and compared at a read.
    Ours(Storage),
    /// The least that is atomic and as durable, in one blocking task: a temporary file, renamed.
    SystemCalls(PathBuf, Durability),
    ObjectStore(LocalFileSystem),
    Opendal(Operator),
}

impl Files {
    pub(super) async fn open(name: &str, root: PathBuf, durability: Durability) -> anyhow::Result<Self> {
        fs::create_dir_all(&root)?;
        let text = root.to_str().context("a path that is text")?;
        Ok(match name {
            OURS => {
                let durability = match durability {
                    Durability::Rename => "rename",
                    Durability::Fsync => "fsync",
                };
                let config: StorageConfig = zhuji_config::load_from_pairs([
                    ("STORAGE_TYPE", "local"),
                    ("STORAGE_LOCAL_DIR", text),
                    ("STORAGE_DURABILITY", durability),
                ])
                .map_err(|report| anyhow::anyhow!("{report}"))?;
                Self::Ours(StorageFactory::new().build(&config).await?)
            }
            OBJECT_STORE => {
                let store = LocalFileSystem::new_with_prefix(&root)?;
                Self::ObjectStore(store.with_fsync(durability == Durability::Fsync))
            }
            OPENDAL => {
                let temporary = root.join("tmp");
                let service = opendal::services::Fs::default()
                    .root(text)
                    .atomic_write_dir(temporary.to_str().unwrap_or_default());
                Self::Opendal(Operator::new(service)?)
            }
            _ => Self::SystemCalls(root, durability),
        })
    }

    pub(super) async fn put(&self, key: String, bytes: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Ours(storage) => drop(storage.upload(&key, bytes).await?),
            Self::SystemCalls(root, durability) => {
                let (root, durability) = (root.clone(), *durability);
                tokio::task::spawn_blocking(move || write(&root, &key, &bytes, durability)).await??;
            }
            Self::ObjectStore(store) => {
                let path = object_store::path::Path::parse(&key)?;
                store.put(&path, bytes.into()).await?;
            }
            Self::Opendal(operator) => drop(operator.write(&key, bytes).await?),
        }
        Ok(())
    }

    pub(super) async fn get(&self, key: String) -> anyhow::Result<usize> {
        Ok(match self {
            Self::Ours(storage) => storage.download(&key).await?.len(),
            Self::SystemCalls(root, _) => {
                let path = root.join(key);
                tokio::task::spawn_blocking(move || fs::read(path)).await??.len()
            }
            Self::ObjectStore(store) => {
                let path = object_store::path::Path::parse(&key)?;
                store.get(&path).await?.bytes().await?.len()
            }
            // In one piece, as the others give it.
            Self::Opendal(operator) => operator.read(&key).await?.to_bytes().len(),
        })
    }
}

fn write(root: &Path, key: &str, bytes: &[u8], durability: Durability) -> std::io::Result<()> {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let path = root.join(key);
    let folder = path.parent().unwrap_or(root);
    let temporary = folder.join(format!(".tmp-{}", NAMES.fetch_add(1, Ordering::Relaxed)));
    let mut file = match File::create_new(&temporary) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            File::create_new(&temporary)?
        }
        file => file?,
    };
    file.write_all(bytes)?;
    if durability == Durability::Fsync {
        file.sync_all()?;
    }
    fs::rename(&temporary, &path)?;
    if durability == Durability::Fsync {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
