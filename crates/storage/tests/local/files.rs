//! Files as they lie there: other people's, changed ones, damaged ones.

use std::fs;

use futures_util::StreamExt;
use zhuji_storage::{ErrorKind, ListOptions, LocalAdapter, LocalOptions, PutOptions, Storage};

#[tokio::test]
async fn everything_survives_a_restart() {
    for sidecars in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let open = || async {
            let options = LocalOptions {
                sidecars,
                ..LocalOptions::default()
            };
            Storage::new(LocalAdapter::open(dir.path(), options).await.unwrap())
        };
        let options = PutOptions::new()
            .content_type("text/csv")
            .download_name("表.csv")
            .metadata("n", "值");
        let stored = open()
            .await
            .upload_with("a/b", "content", options.clone())
            .await
            .unwrap();
        let metadata = open().await.metadata("a/b").await.unwrap();
        assert_eq!((metadata.etag, metadata.crc64), (stored.etag, stored.crc64));
        assert_eq!(
            (Some(metadata.content_type), metadata.user),
            (options.content_type, options.metadata)
        );
        assert_eq!(metadata.content_disposition, options.content_disposition);
        assert_eq!(
            fs::read(dir.path().join("a/b")).unwrap(),
            b"content",
            "a plain file"
        );
    }
}

#[tokio::test]
async fn files_that_were_put_there_by_hand_are_objects() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    fs::create_dir(dir.path().join("old")).unwrap();
    fs::write(dir.path().join("old/guide.pdf"), "by hand").unwrap();
    let metadata = storage.metadata("old/guide.pdf").await.unwrap();
    assert_eq!(
        (metadata.size, metadata.content_type.as_str()),
        (7, "application/pdf")
    );
    assert_eq!(metadata.crc64, None);
    assert_eq!(
        storage.metadata("old/guide.pdf").await.unwrap().etag,
        metadata.etag
    );
    assert_eq!(storage.download("old/guide.pdf").await.unwrap(), "by hand");
    assert_eq!(
        storage.list("", ListOptions::new()).await.unwrap().entries.len(),
        1
    );
    // A file whose name is no key is not in the way.
    fs::write(dir.path().join("old/line\nfeed"), "x").unwrap();
    assert_eq!(
        storage.list("", ListOptions::new()).await.unwrap().entries.len(),
        1
    );
}

#[tokio::test]
async fn a_changed_file_has_another_etag() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let stored = storage
        .upload_with("a", "content", PutOptions::new().content_type("text/csv"))
        .await
        .unwrap();
    fs::write(dir.path().join("a"), "changed by an editor").unwrap();
    let metadata = storage.metadata("a").await.unwrap();
    assert_ne!(metadata.etag, stored.etag);
    assert_eq!(
        (metadata.crc64, metadata.content_type.as_str()),
        (None, "text/csv")
    );
    assert_eq!(storage.download("a").await.unwrap(), "changed by an editor");
}

#[tokio::test]
async fn a_damaged_file_is_noticed() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    for size in [1000_usize, 3_000_000] {
        storage.upload("a", vec![7_u8; size]).await.unwrap();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("a"))
            .unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_at(&[8], size as u64 - 5).unwrap();
        // As a failing disk would: the time of modification stays.
        file.set_modified(modified).unwrap();
        assert_eq!(
            storage.download("a").await.unwrap_err().kind(),
            ErrorKind::Integrity,
            "{size}"
        );
        // A copy does not make it good.
        if storage.copy("a", "b").await.is_ok() {
            assert_eq!(
                storage.download("b").await.unwrap_err().kind(),
                ErrorKind::Integrity
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_shrinks_under_a_reader_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    storage.upload("a", vec![7_u8; 4_000_000]).await.unwrap();
    let mut download = storage.download_stream("a", ()).await.unwrap();
    download.stream.next().await.unwrap().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join("a"))
        .unwrap()
        .set_len(10)
        .unwrap();
    let rest: Vec<_> = download.stream.collect().await;
    assert_eq!(
        rest.last().unwrap().as_ref().unwrap_err().kind(),
        ErrorKind::Integrity
    );
}

#[tokio::test]
async fn names_can_not_be_file_and_folder() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    storage.upload("a", "x").await.unwrap();
    assert_eq!(
        storage.upload("a/b", "x").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        storage.upload("a/b/c", "x").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    storage.upload("d/e/f", "x").await.unwrap();
    assert_eq!(
        storage.upload("d", "x").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(
        storage.upload("d/e", "x").await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let create = PutOptions::new().create_only();
    assert_eq!(
        storage.upload_with("d", "x", create).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(storage.download("d/e/f").await.unwrap(), "x");
    // Empty directories that somebody left are not in the way.
    fs::create_dir_all(dir.path().join("g/h/i")).unwrap();
    storage.upload("g", "x").await.unwrap();
    assert_eq!(storage.download("g").await.unwrap(), "x");
}

#[tokio::test]
async fn writers_and_deleters_of_one_folder_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let tasks = (0..4).map(|writer| {
        let storage = storage.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let key = format!("deep/er/{writer}-{}", round % 2);
                // The folder vanishes whenever it is empty, and has to come back.
                storage.upload(&key, "x").await.unwrap();
                storage.delete(&key).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(
        storage
            .list("", ListOptions::new())
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(!dir.path().join("deep").exists());
}

/// The second page of a large folder knows what has changed since the first.
#[tokio::test]
async fn pages_of_a_large_folder_see_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let folder = dir.path().join("large");
    fs::create_dir(&folder).unwrap();
    for number in 0..5000 {
        fs::write(folder.join(format!("{number:05}")), "x").unwrap();
    }
    let back = |seconds| {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(&folder).unwrap().set_modified(then).unwrap();
    };
    let page = async |after: &str| {
        let options = ListOptions::new().after(after);
        storage.list("large/", options).await.unwrap()
    };
    // Long unchanged, so that the names are remembered; then changed by us, and by others.
    back(60);
    let first = page("large/").await;
    assert_eq!(
        (first.entries.len(), first.next.as_deref()),
        (1000, Some("large/00999"))
    );
    assert_eq!(page("large/00999").await.entries[0].key, "large/01000");
    storage.upload("large/00999-a", "x").await.unwrap();
    assert_eq!(page("large/00999").await.entries[0].key, "large/00999-a");
    storage.delete("large/00999-a").await.unwrap();
    assert_eq!(page("large/00999").await.entries[0].key, "large/01000");
    back(50);
    page("large/").await;
    fs::remove_file(folder.join("01000")).unwrap();
    assert_eq!(page("large/00999").await.entries[0].key, "large/01001");
    fs::write(folder.join("01000"), "x").unwrap();
    assert_eq!(page("large/00999").await.entries[0].key, "large/01000");
    back(40);
    // An object that is replaced keeps its place and shows its new size.
    page("large/").await;
    storage.upload("large/01000", "longer").await.unwrap();
    assert_eq!(page("large/00999").await.entries[0].size, 6);
    let mut all: Vec<_> = storage
        .list_all("large/")
        .map(|entry| entry.unwrap().key)
        .collect()
        .await;
    let sorted = all.clone();
    all.sort();
    assert_eq!((all.len(), all == sorted), (5000, true));
}
