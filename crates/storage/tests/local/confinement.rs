//! Nothing leaves the root.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
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

    /// Removes all objects.
    async fn clear(&self) {
        let keys: Vec<_> = self.storage.list_all("").try_collect().await.unwrap();
        let results = self
            .storage
            .delete_many(keys.iter().map(|entry| entry.key.as_str()))
            .await;
        results.into_iter().for_each(Result::unwrap);
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

/// Makes keys that want out, half-way valid ones, and noise; the same ones for the same seed.
struct Hostile(fastrand::Rng);

impl Hostile {
    fn key(&mut self) -> String {
        const PIECES: [&str; 28] = [
            "..",
            ".",
            "...",
            ". .",
            "outside",
            "outside/deep",
            "link",
            "filelink",
            "loop",
            "secret",
            ".zhuji",
            "tmp",
            "signing.key",
            "~",
            "%2e%2e",
            "%2e%2e%2f",
            "..\\",
            "..%c0%af",
            "C:",
            "nul",
            "\u{2024}\u{2024}",
            "\u{ff0e}\u{ff0e}",
            "\u{2215}",
            "文献",
            "😀",
            "a",
            "b",
            "-",
        ];
        const JOINTS: [&str; 12] = ["/", "/", "/", "/", "/", "//", "\\", "/../", "/./", "\0", "\n", ""];
        let mut key = String::new();
        for _ in 0..self.0.usize(1..6) {
            match self.0.u8(..) {
                0..=199 => key.push_str(PIECES[self.0.usize(..PIECES.len())]),
                200..=239 => key.extend((0..self.0.usize(..8)).map(|_| self.0.lowercase())),
                240..=253 => key.extend((0..self.0.usize(..8)).map(|_| self.0.char(..))),
                _ => key.push_str(&"s".repeat(self.0.usize(250..1100))),
            }
            key.push_str(JOINTS[self.0.usize(..JOINTS.len())]);
        }
        if self.0.bool() {
            key.trim_end_matches('/').to_owned()
        } else {
            key
        }
    }
}

#[test]
fn no_key_leaves_the_root() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let yard = runtime.block_on(Yard::new());
    symlink("../outside", yard.root().join("link")).unwrap();
    symlink("../outside/secret", yard.root().join("filelink")).unwrap();
    symlink(".", yard.root().join("loop")).unwrap();
    let count = crate::full_or(1_000_000, 20_000);
    let mut hostile = Hostile(fastrand::Rng::with_seed(0x005a_6875_6a69));
    let mut accepted = 0;
    for round in 0..count {
        let (key, other) = (hostile.key(), hostile.key());
        runtime.block_on(async {
            let storage = &yard.storage;
            let good = Key::new(&key).is_ok();
            accepted += u64::from(good);
            // Whatever each call says, it says it without touching anything outside.
            let stored = storage.upload(&key, "overwritten").await;
            assert!(good || stored.is_err(), "{key:?} was stored and is no key");
            if let Ok(bytes) = storage.download(&key).await {
                assert!(good && bytes != "outside", "{key:?} reads what is outside");
            }
            // The other calls on a part of them, in turn: all open paths in the same way.
            match round % 4 {
                0 => drop(storage.copy(&key, &other).await),
                1 => drop(storage.list(&key, ListOptions::new().limit(3)).await),
                2 => drop(storage.delete_many([&key, &other]).await),
                _ => drop(storage.delete(&key).await),
            }
        });
        if round % 10_000 == 9_999 {
            yard.assert_untouched();
            // Short paths, so that the tree stays small.
            runtime.block_on(yard.clear());
        }
    }
    println!("{count} hostile keys, {accepted} of them good; nothing outside was touched");
    assert!(
        accepted > count / 20,
        "the generator is too hostile to prove anything"
    );
    yard.assert_untouched();
    assert!(
        yard.root().join(".zhuji/signing.key").exists(),
        "nor does one touch the reserved directory"
    );
}

/// Anything at all, shrunk to the smallest key that breaks a rule.
#[test]
fn what_passes_the_key_check_is_a_path_below() {
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(key in prop_oneof!["\\PC{0,40}", "[a./\\\\]{0,20}", any::<String>()])| {
        if Key::new(&key).is_ok() {
            let below = Path::new(&key).components().all(|part| matches!(part, std::path::Component::Normal(_)));
            prop_assert!(below && !key.contains('\0') && !key.starts_with(".zhuji/"), "{:?}", key);
        }
    });
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
