//! Each fault by itself, under each operation.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use zhuji_storage::{DownloadFileOptions, Error, ErrorKind, ListOptions, PutOptions, Result, Storage};
use zhuji_testkit::{FaultProxy, Moment, ProxyFault};

use crate::{KIB, World, support::noise, until};

/// Operations that take one request when nothing goes wrong. Each finds the object `old` and checks what it is given.
const OPERATIONS: [&str; 11] = [
    "upload",
    "upload_stream",
    "download",
    "download_range",
    "download_file",
    "metadata",
    "exists",
    "list",
    "copy",
    "delete",
    "delete_many",
];

const SIZE: usize = 200 * KIB;

async fn operate(storage: &Storage, operation: &str) -> Result<()> {
    let old = noise(SIZE);
    match operation {
        "upload" => {
            let stored = storage.upload("new", noise(SIZE + 1)).await?;
            assert_eq!(stored.size, SIZE as u64 + 1);
        }
        "upload_stream" => {
            let content = noise(SIZE + 1);
            let chunks: Vec<_> = content.chunks(10_000).map(Bytes::copy_from_slice).collect();
            let chunks = stream::iter(chunks.into_iter().map(std::io::Result::Ok));
            storage.upload_stream("new", chunks, PutOptions::new()).await?;
        }
        "download" => assert!(storage.download("old").await? == old),
        "download_range" => {
            let part = storage.download_stream("old", 1000..150_000).await?;
            assert!(part.stream.into_bytes().await? == old[1000..150_000]);
        }
        "download_file" => {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("file");
            storage
                .download_file("old", &file, DownloadFileOptions::new())
                .await?;
            assert!(std::fs::read(&file).unwrap() == old);
        }
        "metadata" => assert_eq!(storage.metadata("old").await?.size, SIZE as u64),
        "exists" => assert!(storage.exists("old").await?),
        "list" => assert_eq!(storage.list("", ListOptions::new()).await?.entries[0].key, "old"),
        "copy" => assert_eq!(storage.copy("old", "new").await?.size, SIZE as u64),
        "delete" => storage.delete("old").await?,
        "delete_many" => {
            for result in storage.delete_many(["old", "new"]).await {
                result?;
            }
        }
        other => panic!("{other}"),
    }
    Ok(())
}

/// The old state, or the new one: whatever an operation has come to, nothing else may be seen.
fn nothing_torn(world: &World, context: &str) {
    for (key, sizes) in [("old", [SIZE, SIZE]), ("new", [SIZE, SIZE + 1])] {
        if let Some(found) = world.server.object_bytes(key) {
            assert!(
                sizes.iter().any(|size| found == noise(*size)),
                "{context}: {key} is torn"
            );
        }
    }
    assert_eq!(world.server.uploads_open(), 0, "{context}");
}

async fn reset(world: &World) {
    world.proxy.clear();
    let direct = world.direct().await;
    direct.upload("old", noise(SIZE)).await.unwrap();
    direct.delete("new").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_once_is_never_noticed() {
    let world = World::new().await;
    for operation in OPERATIONS {
        for moment in Moment::ALL {
            for fault in [ProxyFault::Reset(moment), ProxyFault::Close(moment)] {
                let context = format!("{operation}: {fault}");
                reset(&world).await;
                world.proxy.script([fault]);
                let done = operate(&world.storage, operation).await;
                assert_eq!(world.proxy.pending(), 0, "{context}");
                done.unwrap_or_else(|error| panic!("{context}: {error}"));
                nothing_torn(&world, &context);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_always_breaks_is_an_error_with_a_cause() {
    // The heads: whoever gets some of a body each time gets all of it in the end.
    let moments = [
        Moment::BeforeRequest,
        Moment::RequestHead,
        Moment::BeforeAnswer,
        Moment::AnswerHead,
    ];
    let all = moments.map(|moment| async move {
        let world = World::new().await;
        for operation in OPERATIONS {
            let context = format!("{operation}: {moment:?}");
            reset(&world).await;
            world
                .proxy
                .rate(1, 1, vec![ProxyFault::Reset(moment), ProxyFault::Close(moment)]);
            let error = operate(&world.storage, operation).await.expect_err(&context);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{context}: {error}");
            assert!(error.is_retryable(), "{context}");
            assert!(error.to_string().contains("connection"), "{context}: {error}");
            nothing_torn(&world, &context);
        }
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection() {
    let world = World::new().await;
    reset(&world).await;
    world.proxy.refuse().await;
    for operation in OPERATIONS {
        let error = operate(&world.storage, operation).await.expect_err(operation);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation}: {error}");
        let text = error.to_string();
        assert!(
            text.contains("refused") && text.contains("OSS_ENDPOINT"),
            "{operation}: {text}"
        );
    }
    nothing_torn(&world, "refused");
    world.proxy.accept_again().await;
    for operation in OPERATIONS {
        reset(&world).await;
        // Shorter than the waits of the retries together, almost always.
        world
            .proxy
            .script([ProxyFault::Refuse(Duration::from_millis(10))]);
        let done = operate(&world.storage, operation).await;
        done.unwrap_or_else(|error| panic!("{operation}: {error}"));
        nothing_torn(&world, operation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_refusals() {
    let all = [429, 500, 502, 503, 504].map(|status| async move {
        let world = World::new().await;
        for operation in OPERATIONS {
            let context = format!("{operation}: {status}");
            reset(&world).await;
            world.proxy.script(vec![ProxyFault::Answer(status); 3]);
            let done = operate(&world.storage, operation).await;
            done.unwrap_or_else(|error| panic!("{context}: {error}"));
            nothing_torn(&world, &context);
        }
        reset(&world).await;
        world.proxy.rate(1, 1, vec![ProxyFault::Answer(status)]);
        let error = operate(&world.storage, "upload").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Unavailable, Some(status))
        );
        assert!(error.request_id().is_some() && error.is_retryable(), "{error}");
        nothing_torn(&world, "a burst without an end");
    });
    join_all(all).await;
    let world = World::new().await;
    // Mixed ones, and many operations at once.
    reset(&world).await;
    world.proxy.script(
        [503, 429, 500]
            .into_iter()
            .cycle()
            .take(30)
            .map(ProxyFault::Answer),
    );
    let readers = ["download", "metadata", "list", "download_range", "exists"].repeat(6);
    let all = readers.iter().map(|operation| operate(&world.storage, operation));
    let failed: Vec<Error> = join_all(all).await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for() {
    let world = World::new().await;
    world.proxy.set_latency(Duration::from_millis(150));
    world.proxy.set_bandwidth(Some(400 * KIB as u64));
    for operation in OPERATIONS {
        let direct = world.direct().await;
        direct.upload("old", noise(SIZE)).await.unwrap();
        direct.delete("new").await.unwrap();
        let began = Instant::now();
        let done = operate(&world.storage, operation).await;
        done.unwrap_or_else(|error| panic!("{operation}: {error}"));
        assert!(began.elapsed() >= Duration::from_millis(150), "{operation}");
        nothing_torn(&world, operation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_never_taken_for_the_object() {
    let world = World::new().await;
    // On the way up: the server's checksum differs, and the bytes are sent again.
    reset(&world).await;
    for operation in ["upload", "upload_stream"] {
        world
            .proxy
            .script([ProxyFault::CorruptRequest, ProxyFault::CorruptRequest]);
        operate(&world.storage, operation).await.unwrap();
        nothing_torn(&world, operation);
        world.proxy.rate(1, 1, vec![ProxyFault::CorruptRequest]);
        let error = operate(&world.storage, operation).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        world.proxy.clear();
        operate(&world.storage, operation).await.unwrap();
        nothing_torn(&world, operation);
    }
    // On the way down: nobody gets them without an error.
    for operation in ["download", "download_file"] {
        reset(&world).await;
        for seed in 0..8 {
            world.proxy.rate(seed, 1, vec![ProxyFault::CorruptAnswer]);
            let error = operate(&world.storage, operation).await.expect_err(operation);
            assert_eq!(error.kind(), ErrorKind::Integrity, "{operation}: {error}");
            assert!(error.is_retryable());
        }
        world.proxy.clear();
        operate(&world.storage, operation).await.unwrap();
    }
    // A file is loaded again by itself; whoever streams has the bytes already, and is told.
    world.proxy.script([ProxyFault::Pass, ProxyFault::CorruptAnswer]);
    operate(&world.storage, "download_file").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_downloads_go_on() {
    let world = World::new().await;
    reset(&world).await;
    for fault in [
        ProxyFault::Close(Moment::AnswerBody),
        ProxyFault::Reset(Moment::AnswerBody),
    ] {
        // Each attempt brings half of what was missing.
        world.proxy.script(vec![fault; 10]);
        operate(&world.storage, "download").await.unwrap();
        world.proxy.clear();
    }
    // Replaced while it was being read: two versions are never mixed.
    world
        .proxy
        .script([ProxyFault::Stall(Moment::AnswerBody, Duration::from_millis(500))]);
    let mut download = world.storage.download_stream("old", ()).await.unwrap().stream;
    let first = futures_util::TryStreamExt::try_next(&mut download)
        .await
        .unwrap()
        .unwrap();
    assert!(noise(SIZE).starts_with(&first));
    world.direct().await.upload("old", noise(SIZE + 7)).await.unwrap();
    world.proxy.cut();
    let error = download.into_bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_behind_the_name_changes() {
    let world = World::new().await;
    reset(&world).await;
    // Two doors to the same service; the name leads to the first, until that is closed.
    let (old_door, new_door) = (
        FaultProxy::start(world.server.address()).await.unwrap(),
        FaultProxy::start(world.server.address()).await.unwrap(),
    );
    world.proxy.move_to(old_door.address());
    operate(&world.storage, "download").await.unwrap();
    assert!(old_door.exchanges() > 0);
    old_door.refuse().await;
    world.proxy.move_to(new_door.address());
    for operation in OPERATIONS {
        reset(&world).await;
        operate(&world.storage, operation)
            .await
            .unwrap_or_else(|error| panic!("{operation}: {error}"));
    }
    assert!(new_door.exchanges() > 0);
    // In the middle of a download and of an upload.
    old_door.accept_again().await;
    reset(&world).await;
    world.proxy.set_bandwidth(Some(400 * KIB as u64));
    for (operation, door) in [
        ("download", &old_door),
        ("upload", &new_door),
        ("upload_stream", &old_door),
    ] {
        let (storage, before) = (world.storage.clone(), world.proxy.exchanges());
        let task = tokio::spawn(async move { operate(&storage, operation).await });
        until("it has begun", || world.proxy.exchanges() > before).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.proxy.move_to(door.address());
        task.await
            .unwrap()
            .unwrap_or_else(|error| panic!("{operation}: {error}"));
        nothing_torn(&world, operation);
    }
}
