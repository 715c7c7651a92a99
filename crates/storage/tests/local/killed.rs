//! A process that dies while it writes.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::TryStreamExt;
use zhuji_storage::{Durability, ListOptions, LocalAdapter, LocalOptions, PutOptions, Storage};

const DIR: &str = "ZHUJI_TEST_WRITER_DIR";
const SIDECARS: &str = "ZHUJI_TEST_WRITER_SIDECARS";

/// Not a test: the process that is killed. It writes the same keys again and again, each object all of one byte, with
/// that byte in its metadata.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let storage = storage(&dir, std::env::var(SIDECARS).is_ok()).await;
    for round in 0.. {
        let byte = b'a' + (round % 26) as u8;
        let options = PutOptions::new()
            .content_type("text/csv")
            .metadata("byte", byte.to_string());
        let small = vec![byte; 1000 + round % 5000];
        let chunks = (0..6).map(move |_| Ok::<_, std::io::Error>(vec![byte; 500_000].into()));
        let key = format!("small/{}", round % 7);
        let (one, two) = tokio::join!(
            storage.upload_with(&key, small, options.clone()),
            storage.upload_stream("large", futures_util::stream::iter(chunks), options.clone()),
        );
        one.and(two).unwrap();
    }
}

async fn storage(dir: &str, sidecars: bool) -> Storage {
    let options = LocalOptions {
        durability: Durability::Rename,
        sidecars,
        ..LocalOptions::default()
    };
    Storage::new(LocalAdapter::open(dir, options).await.unwrap())
}

#[tokio::test]
async fn a_killed_writer_leaves_only_whole_objects() {
    kill_and_look(false).await;
}

#[tokio::test]
async fn a_killed_writer_with_sidecars_leaves_only_whole_objects() {
    kill_and_look(true).await;
}

/// Names that no key can have.
fn hidden(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => hidden(&entry.path()),
            _ => usize::from(entry.file_name().as_encoded_bytes()[0] == 1),
        })
        .sum()
}

/// A process died between the two calls that replace an object.
#[tokio::test]
async fn names_beside_objects_are_swept_once_their_owner_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let first = crate::open(dir.path()).await;
    first.upload("a/b/object", "x").await.unwrap();
    let living = fs::read_dir(dir.path().join(".zhuji/tmp"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let living = living.file_name().into_string().unwrap();
    let dead = dir.path().join(".zhuji/tmp/dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "beside").unwrap();
    for name in ["dead-7", &format!("{living}-7")] {
        fs::write(dir.path().join(format!("a/b/\u{1}zhuji-{name}")), "left").unwrap();
    }
    let page = first.list("", ListOptions::new()).await.unwrap();
    assert_eq!(page.entries.len(), 1, "they are never listed");
    assert!(!first.exists("a/b/\u{1}zhuji-dead-7").await.unwrap_or(false));
    // The sweep of the start goes on behind and may have been first.
    first.sweep(false).await.unwrap();
    assert_eq!(hidden(dir.path()), 1, "the living owner's stays");
    assert!(!dead.exists());
    assert_eq!(first.download("a/b/object").await.unwrap(), "x");
}

async fn kill_and_look(sidecars: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut checked = 0_u64;
    let rounds = crate::full_or(200, 12);
    for round in 0..rounds {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "killed::writer", "--nocapture"])
            .env(DIR, path);
        if sidecars {
            command.env(SIDECARS, "1");
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(60 + round * 11 % 240)).await;
        // SIGKILL, to exactly the process that was started.
        child.kill().unwrap();
        child.wait().unwrap();

        let storage = storage(path, sidecars).await;
        let entries: Vec<_> = storage.list_all("").try_collect().await.unwrap();
        for entry in entries {
            let metadata = storage.metadata(&entry.key).await.unwrap();
            let byte: u8 = metadata
                .user
                .get("byte")
                .expect("an object without its metadata")
                .parse()
                .unwrap();
            assert_eq!(metadata.content_type, "text/csv");
            let bytes = storage.download(&entry.key).await.unwrap();
            assert!(bytes.iter().all(|b| *b == byte), "a torn object: {}", entry.key);
            checked += 1;
        }
        for attempt in 0.. {
            let temporary = fs::read_dir(dir.path().join(".zhuji/tmp")).unwrap().count();
            let hidden = hidden(dir.path());
            if (temporary, hidden) == (1, 0) {
                break;
            }
            let left = format!("{temporary} directories and {hidden} names of the dead are not swept");
            assert!(attempt < 1000, "{left}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("{rounds} writers killed, {checked} objects looked at, none torn or without metadata");
    assert!(checked > rounds, "only {checked} objects were written");
}

#[tokio::test]
async fn the_living_are_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    let first = crate::open(dir.path()).await;
    let (send, receive) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receive, |mut receive| async {
        Some((receive.recv().await?, receive))
    });
    let upload = tokio::spawn({
        let first = first.clone();
        async move { first.upload_stream("a", stream, PutOptions::new()).await }
    });
    for _ in 0..4 {
        send.send(Ok(vec![1_u8; 1024 * 1024].into())).await.unwrap();
    }
    // Another process would do the same.
    let second = crate::open(dir.path()).await;
    drop(send);
    assert_eq!(upload.await.unwrap().unwrap().size, 4 * 1024 * 1024);
    assert_eq!(
        second.list("", ListOptions::new()).await.unwrap().entries.len(),
        1
    );
}
