//! `local:DIR/KEY` and `oss://BUCKET/KEY`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zhuji_config::Sources;
use zhuji_storage::{Storage, StorageConfig, StorageFactory};

use crate::failure::Failure;

/// A place in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory of the local adapter. Where the store ends and the key begins is found by looking at the disk.
    Local(PathBuf),
    /// A bucket, and a key or prefix in it.
    Oss {
        /// The bucket.
        bucket: String,
        /// The key or prefix, maybe empty.
        key: String,
    },
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected `local:DIR/KEY` or `oss://BUCKET/KEY`";
        if let Some(path) = text.strip_prefix("local:").filter(|path| !path.is_empty()) {
            return Ok(Self::Local(PathBuf::from(path)));
        }
        let rest = text.strip_prefix("oss://").ok_or(EXPECTED)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self::Oss {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "local:{}", path.display()),
            Self::Oss { bucket, key } => write!(f, "oss://{bucket}/{key}"),
        }
    }
}

/// An opened place: the store, and the key or prefix in it.
pub(crate) struct Place {
    pub(crate) storage: Storage,
    pub(crate) key: String,
}

impl Location {
    /// Opens the store. OSS takes region, endpoint and keys from the same variables as a service.
    pub(crate) async fn open(&self) -> Result<Place, Failure> {
        let (pairs, key) = match self {
            Self::Local(path) => {
                let (root, key) = split(path);
                (
                    vec![("STORAGE_TYPE", "local".to_owned()), ("STORAGE_LOCAL_DIR", root)],
                    key,
                )
            }
            Self::Oss { bucket, key } => (
                vec![("STORAGE_TYPE", "oss".to_owned()), ("OSS_BUCKET", bucket.clone())],
                key.clone(),
            ),
        };
        let config: StorageConfig = zhuji_config::load(Sources::discover(pairs))
            .map_err(|report| Failure::usage(format!("{self} can't be opened\n{report}")))?;
        Ok(Place {
            storage: StorageFactory::new().build(&config).await?,
            key,
        })
    }
}

/// The longest leading part of the path that is a directory is the store; the rest is the key.
fn split(path: &Path) -> (String, String) {
    let mut root = path;
    while !root.is_dir() {
        match root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => root = parent,
            // Nothing of it exists: the whole path is a store that is about to be made.
            None => return (path.display().to_string(), String::new()),
        }
    }
    let key = path
        .strip_prefix(root)
        .map(|key| key.display().to_string())
        .unwrap_or_default();
    (root.display().to_string(), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_nonsense_is_refused() {
        assert_eq!("local:./up/a".parse(), Ok(Location::Local("./up/a".into())));
        let oss = Location::Oss {
            bucket: "b".to_owned(),
            key: "asl/x.pdf".to_owned(),
        };
        assert_eq!("oss://b/asl/x.pdf".parse(), Ok(oss));
        for bad in ["", "local:", "oss://", "oss:///x", "s3://b/x", "/tmp/x"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_directory_that_exists_is_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let (root, key) = split(&dir.path().join("a/b.pdf"));
        assert_eq!(Path::new(&root), dir.path());
        assert_eq!(key, "a/b.pdf");
    }
}
