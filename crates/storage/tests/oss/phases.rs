//! What failed is said: the name, the connection, the silence, the clock, the callback.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use jiff::SignedDuration;
use zhuji_storage::{ErrorKind, OssAdapter, PutOptions, Storage};
use zhuji_testkit::{
    FaultProxy, Moment, ProxyFault,
    oss::{Fault, OssServer, OssServerOptions},
};

use crate::{
    operations, start,
    support::{noise, oss_config},
};

const MIB: usize = 1024 * 1024;

/// The adapter alone: one attempt, whatever happens.
fn bare(server: &OssServer, endpoint: &str) -> Storage {
    Storage::new(OssAdapter::new(&oss_config(server, endpoint, &[])).unwrap())
}

#[tokio::test]
async fn each_phase_below_http_has_its_own_words() {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let failing = async |endpoint: &str| bare(&server, endpoint).upload("a", "x").await.unwrap_err();

    let error = failing("http://no-such-host.invalid").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error
            .to_string()
            .contains("can't be resolved; check OSS_ENDPOINT"),
        "{error}"
    );

    let free = zhuji_testkit::free_port();
    let error = failing(&format!("http://127.0.0.1:{free}")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("was refused; check OSS_ENDPOINT"),
        "{error}"
    );

    let error = failing(&format!("https://{}", server.address())).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("TLS"), "{error} {error:?}");

    let proxy = FaultProxy::start(server.address()).await.unwrap();
    for (moment, words) in [
        (Moment::BeforeRequest, "connection"),
        (Moment::RequestBody, "connection"),
        (Moment::BeforeAnswer, "connection"),
        (Moment::AnswerHead, "connection"),
    ] {
        for fault in [ProxyFault::Reset(moment), ProxyFault::Close(moment)] {
            proxy.script([fault.clone()]);
            let error = failing(&proxy.url()).await;
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault}: {error}");
            assert!(
                error.is_retryable() && error.to_string().contains(words),
                "{fault}: {error}"
            );
        }
    }
    proxy.blackhole().await;
    let began = Instant::now();
    let error = failing(&proxy.url()).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("no connection within 5 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_request_id() {
    let (server, storage) = start(&[]).await;
    let error = storage.metadata("none").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::NotFound, Some(404)));
    let ids: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.request_id)
        .collect();
    assert_eq!(error.request_id(), Some(ids[0].as_str()));
    assert!(error.to_string().contains(&ids[0]), "{error}");
    let error = storage.download("none").await.unwrap_err();
    assert_eq!(error.ec(), Some("0026-00000001"), "{error}");
}

#[tokio::test]
async fn a_failed_callback_is_no_success_and_no_reason_to_repeat() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::status_after_effect(203, "CallbackFailed").on_operation("PutObject"));
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!(
        (error.status(), error.code()),
        (Some(203), Some("CallbackFailed"))
    );
    assert!(
        error.to_string().contains("is stored") && !error.is_retryable(),
        "{error}"
    );
    assert_eq!(operations(&server), ["PutObject"]);
    assert_eq!(storage.download("a").await.unwrap(), "x");
}

#[tokio::test]
async fn a_wrong_clock_costs_one_refusal_and_never_a_byte() {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, noise(9 * MIB)).unwrap();
    for (name, mib) in [("bytes", 1), ("stream", 1), ("parts", 9), ("file", 9)] {
        // A client that knows nothing of it yet, and no layer that repeats.
        let storage = bare(&server, &server.endpoint());
        server.set_clock_offset(SignedDuration::from_hours(5));
        server.clear_requests();
        let content = noise(mib * MIB);
        let chunks: Vec<_> = content
            .chunks(MIB / 2)
            .map(|c| io::Result::Ok(Bytes::copy_from_slice(c)))
            .collect();
        // A write that may only create is repeated too: the refused one did nothing.
        let create = PutOptions::new().create_only();
        let stored = match name {
            "bytes" => storage.upload_with(name, content.clone(), create).await,
            "file" => storage.upload_file(name, &path, create).await,
            _ => storage.upload_stream(name, stream::iter(chunks), create).await,
        };
        assert_eq!(stored.unwrap().size, content.len() as u64, "{name}");
        assert!(server.object_bytes(name).unwrap() == content, "{name}");
        let refused = server
            .requests()
            .into_iter()
            .filter(|request| request.status == 403)
            .count();
        assert_eq!(refused, 1, "{name}: {:?}", operations(&server));
    }
    server.set_clock_offset(SignedDuration::ZERO);
    // A server whose clock can't be pleased is asked twice, not for ever.
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::status(403, "RequestTimeTooSkewed").times(99));
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::ClockSkew, false),
        "{error}"
    );
    assert_eq!(operations(&server).len(), 2);
    assert!(server.objects().is_empty());
}
