//! Fallbacks that the kernel and the file system of the test don't need.
#![cfg(target_os = "linux")]

use super::{inner::open, temp::TempDir, *};
use crate::Storage;

#[tokio::test]
async fn everything_works_on_a_kernel_without_openat2() {
    works_with(|inner| Inner {
        root: inner.root.without_openat2(),
        ..inner
    })
    .await;
}

#[tokio::test]
async fn everything_works_on_a_file_system_without_unnamed_files() {
    works_with(|inner| Inner {
        temp: Some(Arc::new(TempDir::create(&inner.root).unwrap().only_named())),
        ..inner
    })
    .await;
}

async fn works_with(change: impl FnOnce(Inner) -> Inner) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    std::fs::write(dir.path().join("outside/secret"), "outside").unwrap();
    let path = dir.path().join("root");
    let inner = change(open(&path, LocalOptions::default()).unwrap());
    let storage = Storage::new(LocalAdapter {
        inner: Arc::new(inner),
        path: path.clone(),
        _sweeper: None,
    });
    let options = PutOptions::new().content_type("text/csv").metadata("n", "1");
    storage
        .upload_with("a/b/c", "content", options.clone())
        .await
        .unwrap();
    let again = storage.upload_with("a/b/c", "other", options.create_only()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    storage.upload("d/e", "replaced").await.unwrap();
    storage.copy("a/b/c", "d/e").await.unwrap();
    assert_eq!(storage.download("d/e").await.unwrap(), "content");
    assert_eq!(storage.metadata("d/e").await.unwrap().user["n"], "1");
    let page = storage.list("", ListOptions::new()).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    std::os::unix::fs::symlink("../outside", path.join("link")).unwrap();
    for result in [
        storage.upload("link/secret", "x").await.map(drop),
        storage.upload("link/new/x", "x").await.map(drop),
        storage.copy("a/b/c", "link/secret").await.map(drop),
        storage.download("link/secret").await.map(drop),
        storage.delete("link/secret").await,
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(
        std::fs::read(dir.path().join("outside/secret")).unwrap(),
        b"outside"
    );
    storage.delete("a/b/c").await.unwrap();
    assert!(!path.join("a").exists());
}
