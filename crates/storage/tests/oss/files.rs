//! Whole files, up and down: in parts, side by side, and resumed after anything.

use std::{
    fs::{self, File},
    future::pending,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::sync::Notify;
use zhuji_storage::{
    DownloadFileOptions, ErrorKind, LocalAdapter, LocalOptions, Progress, PutOptions, Storage,
    StorageFactory, UploadFileOptions,
};
use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};

use crate::{operations, start, support::noise};

const PART: u64 = 256 * 1024;
const PARTS: usize = 12;
const SIZE: usize = PART as usize * PARTS - 1000;

/// A directory with a file of random content, and the content.
fn source(size: usize) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (path, content) = (dir.path().join("source.pdf"), noise(size));
    fs::write(&path, &content).unwrap();
    (dir, path, content)
}

fn count(server: &OssServer, operation: &str) -> usize {
    operations(server)
        .iter()
        .filter(|name| *name == operation)
        .count()
}

fn up() -> UploadFileOptions {
    UploadFileOptions::new().part_size(PART)
}

fn down() -> DownloadFileOptions {
    DownloadFileOptions::new().part_size(PART)
}

type Seen = Arc<Mutex<Vec<Progress>>>;

/// A progress callback that notes everything, and a signal for when so many bytes are there.
fn watch(bytes: u64) -> (Seen, Arc<Notify>, impl Fn(Progress) + Send + Sync + 'static) {
    let (seen, reached) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (list, signal) = (Arc::clone(&seen), Arc::clone(&reached));
    let tell = move |progress: Progress| {
        list.lock().unwrap().push(progress);
        if progress.done >= bytes {
            signal.notify_one();
        }
    };
    (seen, reached, tell)
}

/// Uploads with a checkpoint until some parts are there, then drops the upload.
async fn upload_half(server: &OssServer, storage: &Storage, path: &Path, checkpoint: &Path) {
    let (_, reached, tell) = watch(3 * PART);
    let options = up().checkpoint(checkpoint).progress(tell).parallel(2);
    tokio::select! {
        stored = storage.upload_file("a.pdf", path, options) => panic!("not to be finished: {stored:?}"),
        () = reached.notified() => {}
    }
    assert!(checkpoint.exists());
    // What was on its way may still arrive.
    let mut seen = usize::MAX;
    while seen != server.requests().len() {
        seen = server.requests().len();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Names in a directory, hidden ones included.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_of_every_size_go_up_and_come_back() {
    let (server, storage) = start(&[]).await;
    let storage = storage.scoped("asl");
    for size in [0, 1, PART as usize - 1, PART as usize, PART as usize + 1, SIZE] {
        let (dir, path, content) = source(size);
        let (seen, _, tell) = watch(u64::MAX);
        let options = up().progress(tell).put(PutOptions::new().metadata("n", "1"));
        let stored = storage.upload_file("文 a.pdf", &path, options).await.unwrap();
        assert_eq!((stored.size, stored.key.as_str()), (size as u64, "文 a.pdf"));
        let progress = seen.lock().unwrap().clone();
        assert_eq!(progress.last().unwrap().done, size as u64);
        assert!(progress.is_sorted_by_key(|progress| progress.done));
        assert!(server.object_bytes("asl/文 a.pdf").unwrap() == content);
        let metadata = storage.metadata("文 a.pdf").await.unwrap();
        assert_eq!(metadata.content_type, "application/pdf");
        assert_eq!((metadata.crc64, metadata.user["n"].as_str()), (stored.crc64, "1"));

        let (target, (seen, _, tell)) = (dir.path().join("target"), watch(u64::MAX));
        fs::write(&target, "old").unwrap();
        let found = storage
            .download_file("文 a.pdf", &target, down().progress(tell))
            .await
            .unwrap();
        assert_eq!(found.etag, stored.etag);
        assert!(fs::read(&target).unwrap() == content);
        assert_eq!(seen.lock().unwrap().last().unwrap().done, size as u64);
        assert_eq!(names(dir.path()), ["source.pdf", "target"]);
    }
    assert_eq!(server.uploads_open(), 0);
}

#[tokio::test]
async fn every_adapter_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalAdapter::open(dir.path().join("store"), LocalOptions::default())
        .await
        .unwrap();
    for storage in [Storage::memory(), Storage::new(local)] {
        let (files, path, content) = source(SIZE);
        let (seen, _, tell) = watch(u64::MAX);
        let stored = storage
            .upload_file("a.pdf", &path, up().progress(tell))
            .await
            .unwrap();
        assert_eq!(stored.size, SIZE as u64);
        assert_eq!(seen.lock().unwrap().last().unwrap().done, SIZE as u64);
        let target = files.path().join("b");
        let state = files.path().join("state");
        storage
            .download_file("a.pdf", &target, down().checkpoint(&state))
            .await
            .unwrap();
        assert!(fs::read(&target).unwrap() == content);
        assert_eq!(names(files.path()), ["b", "source.pdf"]);
        let create = PutOptions::new().create_only();
        let again = storage.upload_file("a.pdf", &path, create).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    }
}

#[tokio::test]
async fn parts_go_side_by_side_and_a_failed_one_goes_again_alone() {
    let (server, storage) = start(&[]).await;
    let (dir, path, content) = source(SIZE);
    server.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .on_operation("UploadPart")
            .times(2),
    );
    server.fail_next(Fault::cut_upload(1000).on_operation("UploadPart"));
    server.fail_next(Fault::wrong_crc().on_operation("UploadPart"));
    storage.upload_file("a", &path, up().parallel(6)).await.unwrap();
    assert_eq!(count(&server, "UploadPart"), PARTS + 4);
    assert!(server.object_bytes("a").unwrap() == content);
    let lengths = server
        .requests()
        .into_iter()
        .filter(|r| r.operation == "UploadPart");
    assert!(
        lengths
            .into_iter()
            .all(|request| request.headers.contains_key("content-length")),
        "parts from the disk say how long they are"
    );

    server.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .on_operation("GetObject")
            .times(3),
    );
    server.fail_next(Fault::cut_download(100_000).on_operation("GetObject").times(5));
    let target = dir.path().join("target");
    storage
        .download_file("a", &target, down().parallel(6))
        .await
        .unwrap();
    assert!(fs::read(&target).unwrap() == content);
    assert_eq!(server.faults_pending(), 0);
}

#[tokio::test]
async fn an_upload_without_a_checkpoint_leaves_nothing() {
    let (server, storage) = start(&[]).await;
    let (_dir, path, _) = source(SIZE);
    server.fail_next(
        Fault::status(403, "AccessDenied")
            .on_operation("UploadPart")
            .times(99),
    );
    let error = storage.upload_file("a", &path, up()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.uploads_open(), 0);
    server.clear_faults();
    // Dropped in the middle.
    let (_, reached, tell) = watch(PART);
    tokio::select! {
        _ = storage.upload_file("a", &path, up().parallel(1).progress(tell)) => panic!("not to be finished"),
        () = reached.notified() => {}
    }
    crate::faults::no_uploads_left(&server).await;
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn an_upload_goes_on_with_the_parts_that_are_missing() {
    let (server, storage) = start(&[]).await;
    let (dir, path, content) = source(SIZE);
    let checkpoint = dir.path().join("state.json");
    upload_half(&server, &storage, &path, &checkpoint).await;
    let sent = count(&server, "UploadPart");
    assert!((3..PARTS).contains(&sent), "{sent}");
    server.clear_requests();

    let (seen, _, tell) = watch(u64::MAX);
    let options = up().checkpoint(&checkpoint).progress(tell);
    storage.upload_file("a.pdf", &path, options).await.unwrap();
    assert!(server.object_bytes("a.pdf").unwrap() == content);
    assert_eq!(
        (
            count(&server, "InitiateMultipartUpload"),
            count(&server, "ListParts")
        ),
        (0, 1)
    );
    assert!(
        count(&server, "UploadPart") <= PARTS - 3,
        "{:?}",
        operations(&server)
    );
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .all(|progress| progress.resumed >= 3 * PART)
    );
    assert_eq!(
        (server.uploads_open(), names(dir.path())),
        (0, vec!["source.pdf".to_owned()])
    );
}

#[tokio::test]
async fn a_changed_file_starts_anew_and_the_stale_upload_is_aborted() {
    let (server, storage) = start(&[]).await;
    let (dir, path, _) = source(SIZE);
    let checkpoint = dir.path().join("state.json");
    // Another content, another length, another part size, other headers: none of them fits the parts that are there.
    for change in 0..4 {
        fs::write(&path, noise(SIZE)).unwrap();
        upload_half(&server, &storage, &path, &checkpoint).await;
        server.clear_requests();
        let mut options = up().checkpoint(&checkpoint);
        let mut content = noise(SIZE);
        match change {
            0 => content.reverse(),
            1 => content.truncate(SIZE - 1),
            2 => options = options.part_size(2 * PART),
            _ => options = options.put(PutOptions::new().content_type("text/x-other")),
        }
        if change < 2 {
            fs::write(&path, &content).unwrap();
            let later = SystemTime::now() + Duration::from_secs(5);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(later)
                .unwrap();
        }
        storage.upload_file("a.pdf", &path, options).await.unwrap();
        assert!(server.object_bytes("a.pdf").unwrap() == content, "{change}");
        assert_eq!(count(&server, "AbortMultipartUpload"), 1, "{change}");
        assert_eq!(count(&server, "InitiateMultipartUpload"), 1, "{change}");
        assert_eq!(
            (server.uploads_open(), checkpoint.exists()),
            (0, false),
            "{change}"
        );
    }
}

#[tokio::test]
async fn a_file_that_only_looks_unchanged_is_sent_as_it_is() {
    let (server, storage) = start(&[]).await;
    let (dir, path, mut content) = source(SIZE);
    let checkpoint = dir.path().join("state.json");
    upload_half(&server, &storage, &path, &checkpoint).await;
    // Same length, same time.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    content[100] ^= 1;
    fs::write(&path, &content).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    storage
        .upload_file("a.pdf", &path, up().checkpoint(&checkpoint))
        .await
        .unwrap();
    assert!(server.object_bytes("a.pdf").unwrap() == content);
}

#[tokio::test]
async fn an_upload_that_is_gone_starts_anew() {
    let (server, storage) = start(&[]).await;
    let (dir, path, content) = source(SIZE);
    let checkpoint = dir.path().join("state.json");
    for operation in ["ListParts", "UploadPart"] {
        upload_half(&server, &storage, &path, &checkpoint).await;
        server.clear_requests();
        server.fail_next(Fault::status(404, "NoSuchUpload").on_operation(operation));
        storage
            .upload_file("a.pdf", &path, up().checkpoint(&checkpoint))
            .await
            .unwrap();
        assert!(server.object_bytes("a.pdf").unwrap() == content, "{operation}");
        assert_eq!(count(&server, "InitiateMultipartUpload"), 1, "{operation}");
        assert!(!checkpoint.exists());
    }
    // Neither does a damaged checkpoint stop anybody.
    for damaged in ["", "{", "[]", "{\"upload_id\":1}"] {
        fs::write(&checkpoint, damaged).unwrap();
        storage
            .upload_file("a.pdf", &path, up().checkpoint(&checkpoint))
            .await
            .unwrap();
        assert!(!checkpoint.exists());
    }
}

#[tokio::test]
async fn a_file_that_changes_on_its_way_is_not_stored() {
    let (server, storage) = start(&[]).await;
    for with_checkpoint in [false, true] {
        let (dir, path, _) = source(SIZE);
        let mut options = up().parallel(1);
        if with_checkpoint {
            options = options.checkpoint(dir.path().join("state"));
        }
        let (once, file) = (AtomicBool::new(false), path.clone());
        let options = options.progress(move |progress| {
            if progress.done > 0 && !once.swap(true, Ordering::SeqCst) {
                // Longer, so that it shows whatever the clock's resolution.
                fs::write(&file, noise(SIZE + 1)).unwrap();
            }
        });
        let error = storage.upload_file("a", &path, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source, "{error}");
        assert_eq!((server.uploads_open(), server.objects().len()), (0, 0));
        assert_eq!(names(dir.path()), ["source.pdf"]);
    }
    let nowhere = storage.upload_file("a", "/nowhere/at/all", ()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Source);
    assert!(!nowhere.to_string().contains("nowhere"), "no paths: {nowhere}");
    let directory = storage.upload_file("a", "/", ()).await.unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::Source);
}

#[tokio::test]
async fn create_only_holds_for_files_too() {
    let (server, storage) = start(&[]).await;
    storage.upload("a", "older").await.unwrap();
    for size in [10, SIZE] {
        let (dir, path, _) = source(size);
        let options = up()
            .checkpoint(dir.path().join("state"))
            .put(PutOptions::new().create_only());
        let error = storage.upload_file("a", &path, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(
            (server.uploads_open(), names(dir.path())),
            (0, vec!["source.pdf".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_download_goes_on_with_the_parts_that_are_missing() {
    let (server, storage) = start(&[]).await;
    let content = noise(SIZE);
    storage.upload("a", content.clone()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (target, checkpoint) = (dir.path().join("t"), dir.path().join("state"));
    let (_, reached, tell) = watch(3 * PART);
    let options = down().checkpoint(&checkpoint).progress(tell).parallel(1);
    server.fail_next(
        Fault::delay(Duration::from_millis(250))
            .on_operation("GetObject")
            .times(PARTS as u32),
    );
    tokio::select! {
        done = storage.download_file("a", &target, options) => panic!("not to be finished: {done:?}"),
        () = reached.notified() => {}
    }
    server.clear_faults();
    assert!(!target.exists(), "nothing is to be seen before all is there");
    let hidden = names(dir.path())
        .into_iter()
        .find(|name| name.ends_with(".part"))
        .unwrap();
    // One of the parts that the checkpoint remembers is damaged, as after a power failure.
    {
        use std::os::unix::fs::FileExt;
        let file = File::options().write(true).open(dir.path().join(hidden)).unwrap();
        file.write_all_at(&[0; 64], 10).unwrap();
    }
    server.clear_requests();
    let (seen, _, tell) = watch(u64::MAX);
    storage
        .download_file("a", &target, down().checkpoint(&checkpoint).progress(tell))
        .await
        .unwrap();
    assert!(fs::read(&target).unwrap() == content);
    assert!(seen.lock().unwrap()[0].resumed >= PART);
    assert!(count(&server, "GetObject") < PARTS, "{:?}", operations(&server));
    assert_eq!(names(dir.path()), ["t"]);
}

#[tokio::test]
async fn a_replaced_object_is_not_mixed_into_a_file() {
    let (server, storage) = start(&[]).await;
    for with_checkpoint in [false, true] {
        storage.upload("a", noise(SIZE)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (target, state) = (dir.path().join("t"), dir.path().join("state"));
        let mut options = down().parallel(1);
        if with_checkpoint {
            options = options.checkpoint(&state);
        }
        let (_, reached, tell) = watch(PART);
        server.fail_next(
            Fault::delay(Duration::from_millis(100))
                .on_operation("GetObject")
                .times(99),
        );
        let replace = async {
            reached.notified().await;
            storage.upload("a", vec![7; SIZE]).await.unwrap();
            pending::<()>().await;
        };
        let error = tokio::select! {
            done = storage.download_file("a", &target, options.progress(tell)) => done.unwrap_err(),
            () = replace => unreachable!(),
        };
        server.clear_faults();
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
    }
}

#[tokio::test]
async fn a_damaged_download_does_not_become_a_file() {
    let (server, storage) = start(&[]).await;
    storage.upload("a", noise(SIZE)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    fs::write(&target, "old").unwrap();
    // What the parts give together isn't what the object is said to have.
    server.fail_next(Fault::wrong_crc().on_operation("HeadObject"));
    let error = storage.download_file("a", &target, down()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert_eq!(
        (names(dir.path()), fs::read(&target).unwrap()),
        (vec!["t".to_owned()], b"old".to_vec())
    );
    // Where no file can be.
    for bad in [
        dir.path().to_owned(),
        dir.path().join("no/such"),
        PathBuf::from("/"),
        target.join("below"),
    ] {
        let error = storage.download_file("a", &bad, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let missing = storage.download_file("none", &target, ()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(names(dir.path()), ["t"]);
}

const ENDPOINT: &str = "ZHUJI_TEST_TRANSFER_ENDPOINT";
const DIR: &str = "ZHUJI_TEST_TRANSFER_DIR";
const KEYS: [&str; 2] = ["LTAItransfer", "transfersecrettransfersecret"];

/// Not a test: the process that is killed in the middle of both transfers.
#[tokio::test]
async fn transferring() {
    let (Ok(endpoint), Ok(dir)) = (std::env::var(ENDPOINT), std::env::var(DIR)) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let storage = killed_storage(&endpoint).await;
    let up = storage.upload_file(
        "up",
        dir.join("source.pdf"),
        up().checkpoint(dir.join("up")).parallel(2),
    );
    let down = storage.download_file(
        "down",
        dir.join("t"),
        down().checkpoint(dir.join("down")).parallel(2),
    );
    let (up, down) = tokio::join!(up, down);
    up.unwrap();
    down.unwrap();
}

async fn killed_storage(endpoint: &str) -> Storage {
    let config = crate::support::storage_config(&[
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_BUCKET", "demo"),
        ("OSS_ACCESS_KEY_ID", KEYS[0]),
        ("OSS_ACCESS_KEY_SECRET", KEYS[1]),
        ("OSS_ENDPOINT", endpoint),
    ]);
    StorageFactory::new().build(&config).await.unwrap()
}

#[tokio::test]
async fn a_killed_process_goes_on_where_it_was() {
    let options = OssServerOptions {
        access_key_id: KEYS[0].to_owned(),
        access_key_secret: KEYS[1].to_owned(),
        ..OssServerOptions::default()
    };
    let server = OssServer::start(options).await.unwrap();
    let storage = killed_storage(&server.endpoint()).await;
    let (dir, _, content) = source(SIZE);
    storage.upload("down", content.clone()).await.unwrap();
    server.clear_requests();
    let slow = |operation: &str| {
        Fault::delay(Duration::from_millis(60))
            .on_operation(operation)
            .times(1000)
    };
    server.fail_next(slow("UploadPart"));
    server.fail_next(slow("GetObject"));
    let (mut kills, mut finished) = (0, false);
    while !finished {
        let before = server.requests().len();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "files::transferring", "--nocapture"])
            .env(ENDPOINT, server.endpoint())
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Until it has moved some parts, or is done. Nobody who begins anew moves them all with so few requests: that it
        // ends shows that each went on where the one before was.
        while server.requests().len() < before + 9 && !finished {
            tokio::time::sleep(Duration::from_millis(5)).await;
            finished = child.try_wait().unwrap().is_some_and(|status| status.success());
        }
        // SIGKILL, to exactly the process that was started.
        child.kill().unwrap();
        child.wait().unwrap();
        kills += usize::from(!finished);
        assert!(kills < 200, "it makes no progress");
    }
    assert!(kills >= 2, "it was hardly killed");
    assert!(server.object_bytes("up").unwrap() == content);
    assert!(fs::read(dir.path().join("t")).unwrap() == content);
    assert_eq!(
        (server.uploads_open(), names(dir.path())),
        (0, vec!["source.pdf".to_owned(), "t".to_owned()])
    );
}
