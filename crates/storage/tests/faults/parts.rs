//! Uploads in parts: whatever breaks, the object is whole or the old one, and no unfinished upload stays behind.

use std::time::Duration;

use zhuji_storage::{ErrorKind, UploadFileOptions};
use zhuji_testkit::{Moment, ProxyFault};

use crate::{KIB, World, support::noise};

const SIZE: usize = 250 * KIB;
/// To begin, three parts, to complete.
const EXCHANGES: usize = 5;

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), noise(SIZE)).unwrap();
    file
}

fn options() -> UploadFileOptions {
    UploadFileOptions::new().part_size(100 * KIB as u64).parallel(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_an_upload_may_fail_once() {
    let (world, file) = (World::new().await, file());
    let mut faults = vec![ProxyFault::Answer(503), ProxyFault::CorruptRequest];
    for moment in Moment::ALL {
        faults.extend([ProxyFault::Reset(moment), ProxyFault::Close(moment)]);
    }
    for fault in faults {
        for exchange in 0..EXCHANGES {
            let context = format!("request {exchange}: {fault}");
            world.direct().await.upload("a", "old").await.unwrap();
            world.proxy.script(vec![ProxyFault::Pass; exchange]);
            world.proxy.script([fault.clone()]);
            let stored = world.storage.upload_file("a", file.path(), options()).await;
            let stored = stored.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(
                (stored.size, world.proxy.pending()),
                (SIZE as u64, 0),
                "{context}"
            );
            assert!(
                world.server.object_bytes("a").unwrap() == noise(SIZE),
                "{context}"
            );
            assert_eq!(world.server.uploads_open(), 0, "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_leaves_the_old_object_and_nothing_else() {
    let file = file();
    for exchange in 0..EXCHANGES {
        for fault in [
            ProxyFault::Answer(500),
            ProxyFault::Reset(Moment::RequestHead),
            ProxyFault::Close(Moment::RequestBody),
        ] {
            let context = format!("request {exchange}: {fault}");
            // What may have begun unseen is looked for later: not through the next fault.
            let world = World::new().await;
            world.direct().await.upload("a", "old").await.unwrap();
            world.proxy.script(vec![ProxyFault::Pass; exchange]);
            // As often as one request is sent; then aborting works.
            world.proxy.script(vec![fault; 4]);
            let error = world
                .storage
                .upload_file("a", file.path(), options())
                .await
                .expect_err(&context);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{context}: {error}");
            assert_eq!(world.server.object_bytes("a").unwrap(), "old", "{context}");
            assert_eq!(
                world.server.uploads_open(),
                0,
                "{context}: aborted before the error is told"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_leaves_nothing() {
    let (world, file) = (World::new().await, file());
    for exchange in 1..EXCHANGES {
        world.proxy.script(vec![ProxyFault::Pass; exchange]);
        world
            .proxy
            .script([ProxyFault::Stall(Moment::BeforeRequest, Duration::from_secs(20))]);
        let upload = world.storage.upload_file("a", file.path(), options());
        assert!(
            tokio::time::timeout(Duration::from_secs(1), upload)
                .await
                .is_err()
        );
        world.no_uploads_left().await;
        assert!(world.server.objects().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_while_it_begins_leaves_nothing() {
    let (world, file) = (World::new().await, file());
    let answered_late = ProxyFault::Stall(Moment::BeforeAnswer, Duration::from_secs(3));
    world.proxy.script([answered_late]);
    let upload = world.storage.upload_file("a", file.path(), options());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), upload)
            .await
            .is_err()
    );
    assert_eq!(world.server.uploads_open(), 1, "the server has begun it");
    world.no_uploads_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_whose_id_never_arrived_are_found_and_removed() {
    let (world, file) = (World::new().await, file());
    world
        .proxy
        .script(vec![ProxyFault::Close(Moment::BeforeAnswer); 4]);
    let failed = world.storage.upload_file("a", file.path(), options()).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.server.uploads_open(), 4, "each attempt has begun one");
    world.no_uploads_left().await;
}
