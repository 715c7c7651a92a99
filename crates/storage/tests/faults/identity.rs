//! Who we are and what time it is, over a network that breaks as well.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use zhuji_storage::{ErrorKind, UploadFileOptions};
use zhuji_testkit::oss::OssCredentials;
use zhuji_testkit::{FakeSts, FaultProxy, Moment, ProxyFault};

use crate::{KIB, World, connect, support};

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_that_nobody_renews_is_an_error() {
    let world = World::new().await;
    let credentials = OssCredentials {
        access_key_id: "STS.expired".to_owned(),
        access_key_secret: "secret".to_owned(),
        security_token: Some("token".to_owned()),
    };
    let end = Timestamp::now() - SignedDuration::from_secs(1);
    world.server.add_temporary_credentials(credentials, end);
    let config = support::oss_config(
        &world.server,
        &world.proxy.url(),
        &[
            ("OSS_ACCESS_KEY_ID", "STS.expired"),
            ("OSS_ACCESS_KEY_SECRET", "secret"),
            ("OSS_SECURITY_TOKEN", "token"),
        ],
    );
    let storage = zhuji_storage::StorageFactory::new().build(&config).await.unwrap();
    world.proxy.script([ProxyFault::Reset(Moment::RequestBody)]);
    let error = storage.upload("a", vec![1; 100 * KIB]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Credential, Some("SecurityTokenExpired"))
    );
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert!(world.server.objects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_all_the_time_and_a_token_service_that_breaks() {
    let world = World::new().await;
    let sts = FakeSts::start(&world.server).await.unwrap();
    let address = sts.url().trim_start_matches("http://").parse().unwrap();
    let door = FaultProxy::start(address).await.unwrap();
    let credentials = zhuji_storage::CredentialsUri::new(&format!("{}/credentials", door.url()));
    let credentials = std::sync::Arc::new(zhuji_storage::RefreshingCredentials::new(credentials));
    let config = support::oss_config(&world.server, &world.proxy.url(), &[]);
    let adapter = zhuji_storage::OssAdapter::with_credentials(&config, credentials as _).unwrap();
    let retried = zhuji_storage::layers::RetryLayer::new(
        std::sync::Arc::new(adapter),
        zhuji_storage::RetryPolicy::default(),
    );
    let storage = zhuji_storage::Storage::new(retried);
    sts.set_life(Duration::from_secs(3));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), support::noise(1000 * KIB)).unwrap();
    let began = std::time::Instant::now();
    let mut uploads = 0;
    // Longer than two lives.
    while began.elapsed() < Duration::from_secs(8) {
        // Each time it is asked it breaks once, however many uploads one life is enough for.
        if door.pending() == 0 {
            door.script([ProxyFault::Reset(Moment::AnswerBody)]);
        }
        world
            .proxy
            .script([ProxyFault::Pass, ProxyFault::Close(Moment::BeforeAnswer)]);
        world.proxy.set_bandwidth(Some(2000 * KIB as u64));
        let options = UploadFileOptions::new().part_size(100 * KIB as u64).parallel(2);
        storage.upload_file("a", file.path(), options).await.unwrap();
        assert!(storage.download("a").await.unwrap() == support::noise(1000 * KIB));
        uploads += 1;
    }
    assert!(
        sts.issued().len() >= 3 && uploads >= 1,
        "{} keys, {uploads} uploads",
        sts.issued().len()
    );
    world.no_uploads_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skewed_clock_costs_one_request() {
    let world = World::new().await;
    for minutes in [20, -20, 24 * 60, 0] {
        world.server.set_clock_offset(SignedDuration::from_mins(minutes));
        world.server.clear_requests();
        let storage = connect(&world.server, &world.proxy.url()).await;
        storage.upload("a", vec![7; 100 * KIB]).await.unwrap();
        assert_eq!(storage.download("a").await.unwrap().len(), 100 * KIB);
        let refused = || {
            let requests = world.server.requests();
            let skewed = |code: &Option<String>| code.as_deref() == Some("RequestTimeTooSkewed");
            requests.iter().filter(|request| skewed(&request.code)).count()
        };
        assert_eq!(refused(), usize::from(minutes != 0), "{minutes} minutes");
        // A clock that jumps in the middle of an upload in parts, over a connection that breaks.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), support::noise(300 * KIB)).unwrap();
        world.proxy.script([
            ProxyFault::Pass,
            ProxyFault::Stall(Moment::BeforeRequest, Duration::from_millis(300)),
        ]);
        world.proxy.script([ProxyFault::Reset(Moment::RequestHead)]);
        let options = UploadFileOptions::new().part_size(100 * KIB as u64).parallel(1);
        let upload = storage.upload_file("b", file.path(), options);
        let jump = async {
            crate::until("the upload has begun", || world.server.uploads_open() == 1).await;
            world
                .server
                .set_clock_offset(SignedDuration::from_mins(minutes + 40));
        };
        let (stored, ()) = tokio::join!(upload, jump);
        stored.unwrap();
        assert!(world.server.object_bytes("b").unwrap() == support::noise(300 * KIB));
        world.no_uploads_left().await;
    }
}
