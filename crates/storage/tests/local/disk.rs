//! A disk that is full, and one that can't be written.

use std::{path::Path, process::Command};

use zhuji_storage::{ErrorKind, Key, LocalAdapter, LocalOptions, PutOptions, SignOptions, Storage};

/// A small file system of its own, gone with the test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Mounting needs to be root; says so where the test isn't.
    fn new() -> Option<Self> {
        Self::of("tmpfs", "size=4m")
    }

    fn of(kind: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", kind, "-o", options, kind])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                println!("SKIPPED: no right to mount a small file system for this test");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, mode: &str) {
        let options = format!("remount,{mode}");
        assert!(
            Command::new("mount")
                .args(["-o", &options])
                .arg(self.path())
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let Some(disk) = Mounted::new() else { return };
    let storage = crate::open(disk.path()).await;
    storage.upload("small", "kept").await.unwrap();
    for _ in 0..3 {
        let error = storage.upload("large", vec![1_u8; 6_000_000]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(
            !error.is_retryable() && error.to_string().contains("full"),
            "{error}"
        );
        let chunks = (0..6).map(|_| Ok::<_, std::io::Error>(vec![1_u8; 1_000_000].into()));
        let stream = futures_util::stream::iter(chunks);
        let error = storage
            .upload_stream("large", stream, Default::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
    assert!(!storage.exists("large").await.unwrap());
    assert_eq!(storage.download("small").await.unwrap(), "kept");
    // The space of the failed attempts has come back.
    storage.upload("medium", vec![1_u8; 3_000_000]).await.unwrap();
    assert!(storage.check().await.is_ok());
}

#[tokio::test]
async fn a_read_only_disk_is_told() {
    let Some(disk) = Mounted::new() else { return };
    let storage = crate::open(disk.path()).await;
    storage.upload("a", "x").await.unwrap();
    disk.remount("ro");
    assert_eq!(
        storage.upload("b", "x").await.unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(storage.delete("a").await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(storage.check().await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(storage.download("a").await.unwrap(), "x");
    let opened = LocalAdapter::open(disk.path(), LocalOptions::default()).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::ReadOnly);
    disk.remount("rw");
    storage.upload("b", "x").await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_only_read_is_left_as_it_is() {
    let options = || LocalOptions {
        read_only: true,
        ..LocalOptions::default()
    };
    let Some(disk) = Mounted::new() else { return };
    std::fs::create_dir(disk.path().join("by-hand")).unwrap();
    std::fs::write(disk.path().join("by-hand/a.txt"), "x").unwrap();
    let read = Storage::new(LocalAdapter::open(disk.path(), options()).await.unwrap());
    assert_eq!(read.download("by-hand/a.txt").await.unwrap(), "x");
    assert!(!disk.path().join(".zhuji").exists(), "nothing is created");
    for result in [
        read.upload("b", "x").await.map(drop),
        read.copy("by-hand/a.txt", "b").await.map(drop),
        read.delete("by-hand/a.txt").await,
        read.delete_many(["by-hand/a.txt"]).await.remove(0),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    // A real store, on media that can't be written; its URLs are still good.
    let storage = crate::open(disk.path()).await;
    let stored = storage.upload("c", "y").await.unwrap();
    let url = storage
        .signed_url("c", SignOptions::get())
        .await
        .unwrap()
        .into_string();
    drop(storage);
    disk.remount("ro");
    let read = Storage::new(LocalAdapter::open(disk.path(), options()).await.unwrap());
    assert_eq!(read.metadata("c").await.unwrap().etag, stored.etag);
    let query = url.split_once('?').unwrap().1;
    let key = Key::new("c").unwrap();
    read.url_signer()
        .unwrap()
        .verify("GET", &key, query, None)
        .unwrap();
    read.check().await.unwrap();
    let missing = LocalAdapter::open(disk.path().join("typo"), options())
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    assert!(missing.to_string().contains("no such directory"), "{missing}");
}

/// The kernel's ramfs has no extended attributes.
#[tokio::test]
async fn a_disk_without_attributes_keeps_one_sidecar_for_each_object() {
    let Some(disk) = Mounted::of("ramfs", "mode=0755") else {
        return;
    };
    let sidecars = || std::fs::read_dir(disk.path().join(".zhuji/meta")).map_or(0, Iterator::count);
    let storage = crate::open(disk.path()).await;
    for round in 0..5 {
        let options = PutOptions::new()
            .content_type("application/x-test")
            .metadata("round", round.to_string());
        storage
            .upload_with("a", format!("{round}"), options)
            .await
            .unwrap();
        let metadata = storage.metadata("a").await.unwrap();
        assert_eq!(metadata.content_type, "application/x-test");
        assert_eq!(metadata.user["round"], round.to_string());
        assert_eq!(sidecars(), 1, "overwriting leaves nothing behind");
    }
    // Many writers and removers of one key.
    let writers = (0..8).map(|writer| {
        let storage = storage.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                storage.upload("b", format!("{writer}")).await.unwrap();
                if writer == 0 {
                    storage.delete("b").await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    storage.upload("b", "last").await.unwrap();
    assert_eq!(sidecars(), 2);
    // Also in a process that finds them there.
    let reopened = crate::open(disk.path()).await;
    reopened.upload("a", "again").await.unwrap();
    assert_eq!(sidecars(), 2);
    reopened.delete("a").await.unwrap();
    reopened.delete("b").await.unwrap();
    assert_eq!(sidecars(), 0);
}

#[tokio::test]
async fn a_root_that_is_a_file_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = LocalAdapter::open(file.path(), LocalOptions::default())
        .await
        .unwrap_err();
    assert!(
        !error.to_string().contains(file.path().to_str().unwrap()),
        "{error}"
    );
    let below = LocalAdapter::open(file.path().join("x"), LocalOptions::default())
        .await
        .unwrap_err();
    assert_eq!(below.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn errors_name_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Storage = crate::open(dir.path()).await;
    let error = storage.download("missing").await.unwrap_err();
    let whole = format!("{error} {error:?}");
    assert!(!whole.contains(dir.path().to_str().unwrap()), "{whole}");
    assert!(whole.contains("missing"));
}
