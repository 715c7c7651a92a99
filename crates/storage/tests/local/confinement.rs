//! Nothing leaves the root.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use zhuji_storage::{ErrorKind, Key, ListOptions, Storage};

/// `outside/` and `root/`, side by side.
struct Yard {
    dir: tempfile::TempDir,
    storage: Storage,
}

impl Yard {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["outside", "outside/deep", "root"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["outside/secret", "outside/deep/secret"] {
            fs::write(dir.path().join(name), "outside").unwrap();
        }
        let storage = crate::open(&dir.path().join("root")).await;
        Self { dir, storage }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Everything outside the root is as it was.
    fn assert_untouched(&self) {
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        let outside: Vec<_> = found
            .iter()
            .filter(|path| !path.starts_with(self.root()))
            .collect();
        let expected = ["outside", "outside/deep", "outside/deep/secret", "outside/secret"];
        assert_eq!(outside.len(), expected.len(), "{outside:?}");
        for name in ["outside/secret", "outside/deep/secret"] {
            assert_eq!(fs::read(self.dir.path().join(name)).unwrap(), b"outside");
        }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
    }
}

fn hostile_key() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("outside".to_owned()),
        Just("link".to_owned()),
        Just("filelink".to_owned()),
        Just("loop".to_owned()),
        Just(".zhuji".to_owned()),
        Just("~".to_owned()),
        Just("%2e%2e".to_owned()),
        Just("..\\".to_owned()),
        "[a-z.]{0,6}",
        "\\PC{0,8}",
        any::<String>(),
    ];
    let joint = prop_oneof![
        Just("/"),
        Just("/"),
        Just("//"),
        Just("\\"),
        Just("/../"),
        Just("\0"),
        Just("")
    ];
    prop::collection::vec((piece, joint), 1..6)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, joint)| piece + joint).collect())
}

#[test]
fn no_key_leaves_the_root() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let yard = runtime.block_on(Yard::new());
    symlink("../outside", yard.root().join("link")).unwrap();
    symlink("../outside/secret", yard.root().join("filelink")).unwrap();
    symlink(".", yard.root().join("loop")).unwrap();
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(key in hostile_key(), other in hostile_key())| {
        runtime.block_on(async {
            let storage = &yard.storage;
            // Whatever each call says, it says it without touching anything outside.
            let _ = storage.upload(&key, "overwritten").await;
            if let Ok(bytes) = storage.download(&key).await {
                prop_assert_ne!(&bytes[..], b"outside", "{:?} reads what is outside", key);
            }
            let _ = storage.copy(&key, &other).await;
            let _ = storage.list(&key, ListOptions::new()).await;
            let _ = storage.delete(&other).await;
            let _ = storage.delete_many([&key]).await;
            prop_assert!(!storage.exists(&key).await.unwrap_or(false) || Key::new(&key).is_ok());
            Ok(())
        })?;
    });
    yard.assert_untouched();
    assert!(
        yard.root().join(".zhuji/signing.key").exists(),
        "nor does one touch the reserved directory"
    );
}

#[tokio::test]
async fn links_to_directories_are_not_followed() {
    let yard = Yard::new().await;
    symlink("../outside", yard.root().join("link")).unwrap();
    let storage = &yard.storage;
    for key in ["link/secret", "link/new", "link/deep/secret"] {
        assert_eq!(
            storage.upload(key, "x").await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{key}"
        );
        assert_eq!(
            storage.download(key).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{key}"
        );
        assert_eq!(
            storage.metadata(key).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{key}"
        );
        assert_eq!(
            storage.delete(key).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{key}"
        );
        storage.upload("ok", "x").await.unwrap();
        assert_eq!(
            storage.copy("ok", key).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{key}"
        );
    }
    for prefix in ["link/", "link", "link/deep/"] {
        let page = storage.list(prefix, ListOptions::new()).await.unwrap();
        assert!(page.entries.is_empty(), "{page:?}");
    }
    let error = storage.download("link/secret").await.unwrap_err().to_string();
    assert!(
        error.contains("symbolic link") && !error.contains("outside"),
        "{error}"
    );
    yard.assert_untouched();
}

#[tokio::test]
async fn links_to_files_are_not_followed() {
    let yard = Yard::new().await;
    symlink("../outside/secret", yard.root().join("filelink")).unwrap();
    let storage = &yard.storage;
    assert_eq!(
        storage.download("filelink").await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert!(
        storage
            .list("", ListOptions::new())
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    // A write replaces the link itself.
    storage.upload("filelink", "mine").await.unwrap();
    assert_eq!(storage.download("filelink").await.unwrap(), "mine");
    assert!(!yard.root().join("filelink").is_symlink());
    yard.assert_untouched();
}

#[tokio::test]
async fn things_that_are_no_files_are_no_objects() {
    let yard = Yard::new().await;
    let made = std::process::Command::new("mkfifo")
        .arg(yard.root().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let read = tokio::time::timeout(std::time::Duration::from_secs(5), yard.storage.download("pipe"));
    assert_eq!(
        read.await
            .expect("does not wait for a writer")
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    assert!(
        yard.storage
            .list("", ListOptions::new())
            .await
            .unwrap()
            .entries
            .is_empty()
    );
}

#[tokio::test]
async fn the_root_itself_may_be_a_link() {
    let yard = Yard::new().await;
    let link = yard.dir.path().join("way");
    symlink("root", &link).unwrap();
    let storage = crate::open(&link).await;
    storage.upload("a", "x").await.unwrap();
    assert_eq!(yard.storage.download("a").await.unwrap(), "x");
}
