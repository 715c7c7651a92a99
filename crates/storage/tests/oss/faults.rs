//! What passes is tried again; what was half done is undone.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use zhuji_storage::{ErrorKind, PutOptions, Storage, StorageRules};
use zhuji_testkit::oss::{Fault, OssServer};

use crate::{operations, start};

const MIB: usize = 1024 * 1024;

async fn upload_long(
    storage: &Storage,
    key: &str,
    mib: usize,
) -> zhuji_storage::Result<zhuji_storage::Stored> {
    let chunks = (0..mib).map(|index| io::Result::Ok(Bytes::from(vec![index as u8; MIB])));
    storage
        .upload_stream(key, stream::iter(chunks), PutOptions::new())
        .await
}

/// Background clean-up gets a moment.
pub(crate) async fn no_uploads_left(server: &OssServer) {
    for _ in 0..50 {
        if server.uploads_open() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} unfinished uploads", server.uploads_open());
}

#[tokio::test]
async fn bursts_of_server_errors_are_survived() {
    let (server, storage) = start(&[]).await;
    for (status, code) in [
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "ServiceUnavailable"),
        (504, "GatewayTimeout"),
        (429, "TooManyRequests"),
    ] {
        server.fail_next(Fault::status(status, code).times(2));
        storage.upload("a", "content").await.unwrap();
        server.fail_next(Fault::status(status, code).times(2));
        assert_eq!(storage.download("a").await.unwrap(), "content");
        server.fail_next(Fault::status(status, code));
        storage.metadata("a").await.unwrap();
        server.fail_next(Fault::status(status, code));
        storage.list("", Default::default()).await.unwrap();
        server.fail_next(Fault::status(status, code));
        storage.copy("a", "b").await.unwrap();
        server.fail_next(Fault::status(status, code));
        assert!(storage.delete_many(["b", "c"]).await.iter().all(Result::is_ok));
        server.fail_next(Fault::status(status, code));
        storage.delete("a").await.unwrap();
    }
    assert_eq!(server.faults_pending(), 0);
}

#[tokio::test]
async fn patience_ends() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::status(503, "ServiceUnavailable").times(100));
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Unavailable, Some(503))
    );
    assert!(error.request_id().is_some() && error.is_retryable());
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn what_no_repetition_mends_is_asked_once() {
    let (server, storage) = start(&[]).await;
    storage.upload("a", "x").await.unwrap();
    server.clear_requests();
    for operation in ["PutObject", "GetObject", "HeadObject", "DeleteObject"] {
        server.fail_next(Fault::status(403, "AccessDenied").on_operation(operation));
    }
    assert_eq!(
        storage.upload("a", "x").await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert_eq!(storage.download("a").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(storage.metadata("a").await.unwrap_err().kind(), ErrorKind::Denied);
    // The best of the other crates reports this one as a success.
    assert_eq!(storage.delete("a").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn lost_answers_and_broken_connections() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::lose_answer());
    storage.upload("a", "content").await.unwrap();
    server.fail_next(Fault::cut_upload(3).on_operation("PutObject"));
    storage.upload("b", "content").await.unwrap();
    server.fail_next(Fault::lose_answer());
    storage.delete("b").await.unwrap();
    assert_eq!(storage.download("a").await.unwrap(), "content");
    assert!(!storage.exists("b").await.unwrap());
}

#[tokio::test]
async fn a_create_only_write_never_fails_on_its_own_success() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::lose_answer());
    let error = storage
        .upload_with("a", "x", PutOptions::new().create_only())
        .await
        .unwrap_err();
    // Nobody knows; what must not be said is "already exists".
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 1);
}

/// OSS does not heed the condition there, and says nothing.
#[tokio::test]
async fn a_create_only_write_to_a_bucket_with_versioning_is_refused() {
    for status in ["enabled", "suspended"] {
        let (server, storage) = start(&[]).await;
        let rules = format!(r#"{{"versioning": "{status}"}}"#);
        let rules = StorageRules::from_json(&rules).unwrap();
        storage.apply_rules(&rules, false).await.unwrap();
        let create = || PutOptions::new().create_only();
        let first = storage.upload_with("a", "x", create()).await.unwrap_err();
        assert_eq!(first.kind(), ErrorKind::Unsupported, "{first}");
        assert!(first.to_string().contains("the newest version now"), "{first}");
        let before = server.requests().len();
        let chunks = (0..6).map(|_| io::Result::Ok(Bytes::from(vec![1; MIB])));
        let second = storage
            .upload_stream("b", stream::iter(chunks), create())
            .await
            .unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Unsupported, "{second}");
        assert_eq!(
            (server.requests().len(), server.uploads_open()),
            (before, 0),
            "not even begun"
        );
        storage.upload("a", "others are").await.unwrap();
    }
}

#[tokio::test]
async fn a_create_only_stream_never_fails_on_its_own_success() {
    let (server, storage) = start(&[]).await;
    for (mib, operation) in [(1, "PutObject"), (9, "CompleteMultipartUpload")] {
        server.clear_requests();
        server.fail_next(Fault::lose_answer().on_operation(operation));
        let key = format!("{mib}");
        let chunks = (0..mib).map(|index| io::Result::Ok(Bytes::from(vec![index as u8; MIB])));
        let error = storage
            .upload_stream(&key, stream::iter(chunks), PutOptions::new().create_only())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation}: {error}");
        let sent = operations(&server)
            .iter()
            .filter(|name| *name == operation)
            .count();
        assert_eq!(sent, 1, "{operation}");
        // It had been stored, and stays.
        assert_eq!(storage.metadata(&key).await.unwrap().size, (mib * MIB) as u64);
        let chunks = [io::Result::Ok(Bytes::from_static(b"x"))];
        let again = storage
            .upload_stream(&key, stream::iter(chunks), PutOptions::new().create_only())
            .await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    no_uploads_left(&server).await;
}

#[tokio::test]
async fn another_object_is_not_taken_for_a_completed_upload() {
    let (server, storage) = start(&[]).await;
    // The upload was removed by somebody else, and there is an older object under the key.
    storage.upload("a", "older").await.unwrap();
    server.fail_next(Fault::status(500, "InternalError").on_operation("CompleteMultipartUpload"));
    server.fail_next(Fault::status(404, "NoSuchUpload").on_operation("CompleteMultipartUpload"));
    let error = upload_long(&storage, "a", 9).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(storage.download("a").await.unwrap(), "older");
    no_uploads_left(&server).await;
}

#[tokio::test]
async fn wrong_checksums_are_noticed_both_ways() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::wrong_crc().times(4).on_operation("PutObject"));
    assert_eq!(
        storage.upload("a", "x").await.unwrap_err().kind(),
        ErrorKind::Integrity
    );
    // One wrong answer is made good by a second upload.
    server.fail_next(Fault::wrong_crc().on_operation("PutObject"));
    storage.upload("a", "x").await.unwrap();
    server.fail_next(Fault::wrong_crc().on_operation("GetObject"));
    assert_eq!(
        storage.download("a").await.unwrap_err().kind(),
        ErrorKind::Integrity
    );
    server.fail_next(Fault::wrong_crc().on_operation("CompleteMultipartUpload"));
    assert_eq!(
        upload_long(&storage, "b", 9).await.unwrap_err().kind(),
        ErrorKind::Integrity
    );
}

#[tokio::test]
async fn a_failed_part_is_sent_again_alone() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::status(500, "InternalError").on_operation("InitiateMultipartUpload"));
    server.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .on_operation("UploadPart")
            .times(2),
    );
    server.fail_next(Fault::cut_upload(100_000).on_operation("UploadPart"));
    server.fail_next(Fault::wrong_crc().on_operation("UploadPart"));
    server.fail_next(Fault::status(500, "InternalError").on_operation("CompleteMultipartUpload"));
    let stored = upload_long(&storage, "a", 25).await.unwrap();
    assert_eq!(stored.size, 25 * MIB as u64);
    let bytes = storage.download("a").await.unwrap();
    assert!(
        bytes
            .chunks(MIB)
            .enumerate()
            .all(|(index, chunk)| chunk.iter().all(|b| *b == index as u8))
    );
    let parts = operations(&server)
        .iter()
        .filter(|name| *name == "UploadPart")
        .count();
    assert_eq!(parts, 7 + 4, "seven parts, four of them twice");
    no_uploads_left(&server).await;
}

#[tokio::test]
async fn a_completed_upload_whose_answer_was_lost_is_recognised() {
    let (server, storage) = start(&[]).await;
    server.fail_next(Fault::lose_answer().on_operation("CompleteMultipartUpload"));
    let stored = upload_long(&storage, "a", 9).await.unwrap();
    assert_eq!(storage.metadata("a").await.unwrap().etag, stored.etag);
    no_uploads_left(&server).await;
}

#[tokio::test]
async fn a_failed_upload_leaves_nothing_to_pay_for() {
    let (server, storage) = start(&[]).await;
    for operation in ["UploadPart", "CompleteMultipartUpload"] {
        server.fail_next(
            Fault::status(403, "AccessDenied")
                .on_operation(operation)
                .times(10),
        );
        assert_eq!(
            upload_long(&storage, "a", 20).await.unwrap_err().kind(),
            ErrorKind::Denied,
            "{operation}"
        );
        server.clear_faults();
        assert_eq!(server.uploads_open(), 0, "aborted before the error is told");
        assert!(server.objects().is_empty());
    }
    // Dropped in the middle.
    server.fail_next(
        Fault::delay(Duration::from_secs(5))
            .on_operation("UploadPart")
            .times(10),
    );
    let upload = upload_long(&storage, "a", 20);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), upload)
            .await
            .is_err()
    );
    server.clear_faults();
    no_uploads_left(&server).await;
}

#[tokio::test]
async fn connections_are_used_again() {
    let (server, storage) = start(&[]).await;
    for index in 0..50 {
        storage.upload(&format!("k/{index}"), "x").await.unwrap();
        storage.download(&format!("k/{index}")).await.unwrap();
    }
    assert!(
        server.connections() <= 2,
        "{} connections for 100 requests",
        server.connections()
    );
    let before = server.connections();
    let files: Vec<_> = (0..100).map(|index| (format!("m/{index}"), "x")).collect();
    assert!(storage.upload_many(files).await.iter().all(Result::is_ok));
    assert!(server.connections() - before <= 12, "{}", server.connections());
}
