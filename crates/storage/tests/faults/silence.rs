//! Connections that stay open and say nothing. These tests wait as long as the client does.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use zhuji_storage::ErrorKind;
use zhuji_testkit::{Moment, ProxyFault};

use crate::{KIB, World, full, support::noise};

const FOR_EVER: Duration = Duration::from_secs(600);
const SIZE: usize = 200 * KIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_given_up_and_tried_again() {
    let cases = [
        ("upload", Moment::RequestBody),
        ("upload", Moment::BeforeAnswer),
        ("download", Moment::BeforeAnswer),
        ("download", Moment::AnswerHead),
        ("download", Moment::AnswerBody),
        ("list", Moment::AnswerBody),
    ];
    let began = Instant::now();
    let all = cases.map(|(operation, moment)| async move {
        let world = World::new().await;
        world.direct().await.upload("old", noise(SIZE)).await.unwrap();
        world.proxy.script([ProxyFault::Stall(moment, FOR_EVER)]);
        let done = match operation {
            "upload" => world.storage.upload("new", noise(SIZE)).await.map(drop),
            "download" => world
                .storage
                .download("old")
                .await
                .map(|bytes| assert!(bytes == noise(SIZE))),
            _ => world
                .storage
                .list("", zhuji_storage::ListOptions::new())
                .await
                .map(drop),
        };
        done.unwrap_or_else(|error| panic!("{operation} {moment:?}: {error}"));
        if operation == "upload" {
            assert!(world.server.object_bytes("new").unwrap() == noise(SIZE));
        }
    });
    join_all(all).await;
    // One silence of 30 s, no more.
    assert!(
        began.elapsed() >= Duration::from_secs(29),
        "{:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_gone_is_told_in_time() {
    let world = World::new().await;
    world.direct().await.upload("old", noise(SIZE)).await.unwrap();
    // Nobody answers an attempt to connect: 5 s each.
    world.proxy.blackhole().await;
    let began = Instant::now();
    let error = world.storage.metadata("old").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("OSS_ENDPOINT"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    world.proxy.resume().await;
    assert!(world.storage.download("old").await.unwrap() == noise(SIZE));
    if !full() {
        println!("a server that never answers: only with ZHUJI_TEST_FULL=1 (90 s)");
        return;
    }
    world.proxy.pause();
    let began = Instant::now();
    let error = world.storage.upload("new", noise(SIZE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "{:?}",
        began.elapsed()
    );
}
