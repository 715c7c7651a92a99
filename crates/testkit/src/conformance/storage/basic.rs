use zhuji_storage::{ErrorKind, GetOptions};

use super::{Case, kind, noise};

pub(super) async fn round_trip(case: Case) {
    let stored = case.storage.upload("a/b.txt", "hello").await.unwrap();
    assert_eq!((stored.key.as_str(), stored.size), ("a/b.txt", 5));
    assert!(stored.url.contains("a/b.txt"), "{}", stored.url);
    assert_eq!(case.storage.download("a/b.txt").await.unwrap(), "hello");
    assert!(case.storage.exists("a/b.txt").await.unwrap());
    let metadata = case.storage.metadata("a/b.txt").await.unwrap();
    assert_eq!((metadata.key.as_str(), metadata.size), ("a/b.txt", 5));
    assert_eq!(metadata.etag, stored.etag);
    assert!(!metadata.etag.is_empty() && !metadata.etag.contains('"'));
    assert_eq!(metadata.crc64, stored.crc64);
    let age = jiff::Timestamp::now().duration_since(metadata.last_modified);
    assert!(
        age.as_secs().abs() < 60,
        "last modified {}",
        metadata.last_modified
    );
}

pub(super) async fn empty(case: Case) {
    let stored = case.storage.upload("empty", "").await.unwrap();
    assert_eq!(stored.size, 0);
    assert_eq!(case.storage.download("empty").await.unwrap(), "");
    assert_eq!(case.storage.metadata("empty").await.unwrap().size, 0);
    assert_eq!(
        kind(case.storage.download_stream("empty", 0..1).await),
        ErrorKind::InvalidRange
    );
}

pub(super) async fn large(case: Case) {
    let bytes = noise(9 * 1024 * 1024 + 7, 1);
    let stored = case.storage.upload("large.bin", bytes.clone()).await.unwrap();
    assert_eq!(stored.size, bytes.len() as u64);
    assert!(stored.crc64.is_some());
    assert!(
        case.storage.download("large.bin").await.unwrap() == bytes,
        "other bytes came back"
    );
}

pub(super) async fn overwrite(case: Case) {
    let first = case.storage.upload("a", "first, and longer").await.unwrap();
    let second = case.storage.upload("a", "second").await.unwrap();
    assert_ne!(first.etag, second.etag);
    assert_eq!(case.storage.download("a").await.unwrap(), "second");
    assert_eq!(case.storage.metadata("a").await.unwrap().size, 6);
}

pub(super) async fn missing(case: Case) {
    assert_eq!(kind(case.storage.download("no/such").await), ErrorKind::NotFound);
    assert_eq!(kind(case.storage.metadata("no/such").await), ErrorKind::NotFound);
    assert_eq!(kind(case.storage.copy("no/such", "b").await), ErrorKind::NotFound);
    assert!(!case.storage.exists("no/such").await.unwrap());
    assert!(!case.storage.exists("b").await.unwrap());
    // The beginning of a key is no object.
    case.storage.upload("folder/file", "x").await.unwrap();
    assert_eq!(kind(case.storage.download("folder").await), ErrorKind::NotFound);
    assert!(!case.storage.exists("folder").await.unwrap());
    // Nor can there be one below an object.
    assert!(!case.storage.exists("folder/file/deeper").await.unwrap());
}

pub(super) async fn delete(case: Case) {
    case.storage.delete("never/was").await.unwrap();
    case.storage.upload("a/b/c", "x").await.unwrap();
    case.storage.delete("a/b/c").await.unwrap();
    assert!(!case.storage.exists("a/b/c").await.unwrap());
    case.storage.delete("a/b/c").await.unwrap();
    // A name that was the beginning of another key is free again.
    case.storage.upload("a", "x").await.unwrap();
    case.storage.delete("a").await.unwrap();
    // Deleting the beginning of a key does not delete what is below.
    case.storage.upload("d/e", "x").await.unwrap();
    case.storage.delete("d").await.unwrap();
    assert!(case.storage.exists("d/e").await.unwrap());
}

pub(super) async fn copy(case: Case) {
    let bytes = noise(700_000, 2);
    let source = case.storage.upload("from 源+.bin", bytes.clone()).await.unwrap();
    case.storage.upload("to/it", "old").await.unwrap();
    let copied = case.storage.copy("from 源+.bin", "to/it").await.unwrap();
    assert_eq!((copied.key.as_str(), copied.size), ("to/it", source.size));
    assert_eq!(case.storage.download("to/it").await.unwrap(), bytes);
    assert_eq!(case.storage.download("from 源+.bin").await.unwrap(), bytes);
}

pub(super) async fn etags(case: Case) {
    let stored = case.storage.upload("a", "x").await.unwrap();
    case.storage.upload("b", "y").await.unwrap();
    for _ in 0..3 {
        assert_eq!(case.storage.metadata("a").await.unwrap().etag, stored.etag);
    }
    let download = case.storage.download_stream("a", ()).await.unwrap();
    assert_eq!(download.metadata.etag, stored.etag);
    let listed = case.storage.list("a", Default::default()).await.unwrap();
    assert_eq!(listed.entries[0].etag, stored.etag);
    assert_ne!(case.storage.metadata("b").await.unwrap().etag, stored.etag);
}

pub(super) async fn if_match(case: Case) {
    let old = case.storage.upload("a", "old").await.unwrap();
    let options = GetOptions::new().if_match(&old.etag);
    assert_eq!(
        case.storage
            .download_stream("a", options.clone())
            .await
            .unwrap()
            .length(),
        3
    );
    case.storage.upload("a", "new").await.unwrap();
    assert_eq!(
        kind(case.storage.download_stream("a", options).await),
        ErrorKind::Changed
    );
}
