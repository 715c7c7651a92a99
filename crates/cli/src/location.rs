//! `local:DIR/KEY` and `oss://BUCKET/KEY`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use zhuji::{AppEnv, DeploymentMode};
use zhuji_config::{ConfigValue, Loader, Report, Sources};
use zhuji_storage::{LocalAdapter, LocalOptions, RESERVED_SEGMENT, Storage, StorageConfig, StorageFactory};

use crate::failure::Failure;

/// A place in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A path into a directory of the local adapter, as it was typed. Where the store ends and the key begins is found by
    /// looking for the store's own directory.
    Local(String),
    /// A bucket, and a key or prefix in it.
    Oss {
        /// The bucket.
        bucket: String,
        /// The key or prefix, maybe empty.
        key: String,
    },
}

/// What a command is going to do at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing is created or changed, not even beside the objects. A directory that never was a store is read as one.
    Read,
    /// Something is removed from a store that is there.
    Change,
    /// Something is put into a store; where there is none, the place itself becomes one.
    Fill,
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected `local:DIR/KEY` or `oss://BUCKET/KEY`";
        if let Some(path) = text.strip_prefix("local:").filter(|path| !path.is_empty()) {
            return Ok(Self::Local(path.to_owned()));
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
            Self::Local(path) => write!(f, "local:{path}"),
            Self::Oss { bucket, key } => write!(f, "oss://{bucket}/{key}"),
        }
    }
}

/// A place whose store has been found and not yet opened.
pub(crate) struct Located {
    told: String,
    store: Store,
    pub(crate) key: String,
}

enum Store {
    Local { root: PathBuf, read_only: bool },
    Oss { bucket: String },
}

/// An opened place: the store, and the key or prefix in it.
pub(crate) struct Place {
    pub(crate) storage: Storage,
    pub(crate) key: String,
    /// The directory of a local store, in which each object is the file of its key.
    pub(crate) root: Option<PathBuf>,
}

impl Place {
    /// The store that a service here would use, by the same variables.
    pub(crate) async fn configured() -> Result<Self, Failure> {
        let config = configured()?;
        let root = (config.kind == "local").then(|| config.local_dir.clone());
        Ok(Self {
            storage: StorageFactory::new().build(&config).await?,
            key: String::new(),
            root,
        })
    }

    /// The same, for a command that only looks: a directory must exist, and nothing in it is created or changed.
    pub(crate) async fn configured_to_read() -> Result<Self, Failure> {
        let config = configured()?;
        if config.kind != "local" {
            return Self::configured().await;
        }
        let options = LocalOptions {
            signing_key: config.signing_key,
            read_only: true,
            ..LocalOptions::default()
        };
        Self::directory(&config.local_dir, options).await
    }

    /// A directory as a store, whatever the variables say.
    pub(crate) async fn directory(root: &Path, options: LocalOptions) -> Result<Self, Failure> {
        let opened = LocalAdapter::open(root, options).await;
        let adapter = opened.map_err(|error| Failure::failed(format!("{}: {error}", root.display())))?;
        Ok(Self {
            storage: Storage::new(adapter),
            key: String::new(),
            root: Some(root.to_owned()),
        })
    }
}

impl Location {
    /// Whether one of the two places lies in the other, or they are the same.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (here, there) = match (self, other) {
            (
                Self::Oss { bucket, key },
                Self::Oss {
                    bucket: other,
                    key: another,
                },
            ) if bucket == other => (PathBuf::from(key), PathBuf::from(another)),
            (Self::Local(here), Self::Local(there)) => (real(here), real(there)),
            _ => return false,
        };
        here.starts_with(&there) || there.starts_with(&here)
    }

    /// Finds the store; looks at the disk and changes nothing.
    pub(crate) fn locate(&self, access: Access) -> Result<Located, Failure> {
        let (store, key) = match self {
            Self::Local(path) => {
                let (root, key) = find_store(path, access)?;
                let read_only = access == Access::Read;
                (Store::Local { root, read_only }, key)
            }
            Self::Oss { bucket, key } => (
                Store::Oss {
                    bucket: bucket.clone(),
                },
                key.clone(),
            ),
        };
        Ok(Located {
            told: self.to_string(),
            store,
            key,
        })
    }
}

impl Located {
    /// Opens the store. OSS takes region, endpoint and keys from the same variables as a service.
    pub(crate) async fn open(self) -> Result<Place, Failure> {
        let root = match &self.store {
            Store::Local { root, .. } => Some(root.clone()),
            Store::Oss { .. } => None,
        };
        let (factory, pairs) = match self.store {
            Store::Local { root, read_only } => {
                let factory = StorageFactory::new().register("local", move |config: StorageConfig| {
                    let options = LocalOptions {
                        durability: config.durability,
                        signing_key: config.signing_key,
                        read_only,
                        ..LocalOptions::default()
                    };
                    LocalAdapter::open(root.clone(), options)
                });
                (factory, vec![("STORAGE_TYPE", "local".to_owned())])
            }
            Store::Oss { bucket } => {
                let pairs = vec![("STORAGE_TYPE", "oss".to_owned()), ("OSS_BUCKET", bucket)];
                (StorageFactory::new(), pairs)
            }
        };
        let mut config = settings(pairs).map_err(|report| {
            Failure::usage(format!(
                "{} can't be opened
{report}",
                self.told
            ))
        })?;
        // A place that was named is that place, whatever lies elsewhere for a service.
        config.resident_prefixes.clear();
        let storage = factory.build(&config.without_outbox()).await;
        Ok(Place {
            storage: storage.map_err(|error| Failure::failed(format!("{}: {error}", self.told)))?,
            key: self.key,
            root,
        })
    }
}

/// The path as the system knows it, as far as it is there already.
fn real(path: &str) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let known = path
        .ancestors()
        .find_map(|above| Some((above, above.canonicalize().ok()?)));
    match known {
        Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path,
    }
}

/// The store of a service here, without its outbox, which belongs to the service.
fn configured() -> Result<StorageConfig, Failure> {
    let config = settings(Vec::new()).map_err(|report| Failure::usage(report.to_string()))?;
    Ok(config.without_outbox())
}

/// The settings, from where a service has them too, with the defaults of its mode.
fn settings(pairs: Vec<(&'static str, String)>) -> Result<StorageConfig, Report> {
    let sources = Sources::discover(pairs);
    let env = sources.lookup("APP_ENV", &["NODE_ENV"]);
    let mode = sources.lookup("DEPLOYMENT_MODE", &[]);
    // What does not parse is told by the service; here it changes no default.
    let env = env.and_then(|text| AppEnv::parse(&text).ok());
    let mode = mode.and_then(|text| DeploymentMode::parse(&text).ok());
    let defaults = mode
        .unwrap_or(DeploymentMode::Standalone)
        .defaults(env.unwrap_or(AppEnv::Development));
    // What an operator moves has to be on the disk when the command says so.
    let kept = |(name, _): &(&str, &str)| *name != "STORAGE_DURABILITY";
    let defaults = defaults
        .into_iter()
        .filter(kept)
        .map(|(name, value)| (name, value, "DEPLOYMENT_MODE and APP_ENV"));
    let mut loader = Loader::new(sources.with_defaults(defaults));
    let config = loader.load::<StorageConfig>();
    let report = loader.report().without_strangers_of_files();
    match config {
        Some(config) if report.is_ok() => Ok(config),
        _ => Err(report),
    }
}

/// Refuses what must not happen while the service's outbox holds writes that the store has not: `why` says what would be
/// lost.
pub(crate) async fn nothing_waits(why: &str) -> Result<(), Failure> {
    let config = settings(Vec::new()).map_err(|report| Failure::usage(report.to_string()))?;
    let Some(outbox) = config.outbox() else {
        return Ok(());
    };
    let waiting: usize = ["queue", "failed"]
        .into_iter()
        .filter_map(|folder| Some(std::fs::read_dir(outbox.join(folder)).ok()?.count()))
        .sum();
    match waiting {
        0 => Ok(()),
        waiting => Err(Failure::failed(format!(
            "{waiting} writes wait in the outbox {}: {why}; let the service carry them out first (docs/runbooks/outbox.md)",
            outbox.display()
        ))),
    }
}

/// The root of the store that a path leads into, and the key in it. A store is a directory with the reserved directory of
/// the local adapter.
fn find_store(text: &str, access: Access) -> Result<(PathBuf, String), Failure> {
    let unusable = |why: &str| Failure::failed(format!("local:{text}: {why}"));
    let typed = std::path::absolute(text).map_err(|error| unusable(&error.to_string()))?;
    // What exists is resolved; what doesn't can only be names.
    let mut existing = typed.as_path();
    while std::fs::symlink_metadata(existing).is_err() {
        existing = existing
            .parent()
            .ok_or_else(|| unusable("there is no such directory"))?;
    }
    let missing = typed.strip_prefix(existing).unwrap_or(Path::new(""));
    if missing
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(unusable("the path leads through a directory that does not exist"));
    }
    let resolved = existing
        .canonicalize()
        .map_err(|error| unusable(&error.to_string()))?;
    let whole = if missing.as_os_str().is_empty() {
        resolved.clone()
    } else {
        resolved.join(missing)
    };
    let found = resolved
        .ancestors()
        .find(|dir| dir.join(RESERVED_SEGMENT).is_dir());
    let root = match (found, access) {
        (Some(root), _) => root.to_owned(),
        (None, Access::Fill) => whole.clone(),
        (None, Access::Change) => {
            let why =
                format!("there is no store here: no directory on the way has a `{RESERVED_SEGMENT}` in it");
            return Err(unusable(&why));
        }
        (None, Access::Read) if whole.is_dir() => whole.clone(),
        (None, Access::Read) if whole.is_file() => whole.parent().unwrap_or(&whole).to_owned(),
        (None, Access::Read) => return Err(unusable("there is no such file or directory")),
    };
    let key = whole
        .strip_prefix(&root)
        .ok()
        .and_then(Path::to_str)
        .ok_or_else(|| unusable("the path is not UTF-8"))?;
    // A final slash says "below", as with OSS.
    let slash = if !key.is_empty() && text.ends_with('/') {
        "/"
    } else {
        ""
    };
    Ok((root, format!("{key}{slash}")))
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
    fn a_store_is_found_above_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let store = base.join("uploads");
        std::fs::create_dir_all(store.join(".zhuji")).unwrap();
        std::fs::create_dir_all(store.join("asl")).unwrap();
        let find = |path: &str, access| {
            let found = find_store(&format!("{}/{path}", base.display()), access);
            found.map_err(|failure| failure.to_string())
        };
        for access in [Access::Read, Access::Change, Access::Fill] {
            for (path, key) in [
                ("uploads", ""),
                ("uploads/", ""),
                ("uploads/asl", "asl"),
                ("uploads/asl/", "asl/"),
                ("uploads/asl/../new/b.pdf", "new/b.pdf"),
                ("uploads/new/b.pdf", "new/b.pdf"),
            ] {
                let expected = (store.clone(), key.to_owned());
                if path.contains("..") {
                    // `..` is resolved where it exists, and refused where it doesn't.
                    assert!(find("uploads/no/../b", access).is_err());
                }
                assert_eq!(find(path, access), Ok(expected), "{path}");
            }
        }
        // Elsewhere: read as it is, become a store, or refused.
        std::fs::create_dir(base.join("plain")).unwrap();
        std::fs::write(base.join("plain/a"), "x").unwrap();
        let plain = base.join("plain");
        assert_eq!(find("plain", Access::Read), Ok((plain.clone(), String::new())));
        assert_eq!(find("plain/a", Access::Read), Ok((plain, "a".to_owned())));
        assert_eq!(
            find("new/x", Access::Fill),
            Ok((base.join("new/x"), String::new()))
        );
        assert!(find("typo", Access::Read).unwrap_err().contains("no such file"));
        assert!(find("plain", Access::Change).unwrap_err().contains("no store"));
    }
}
