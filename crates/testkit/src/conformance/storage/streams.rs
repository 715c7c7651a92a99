use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use zhuji_storage::{Body, ByteRange, ErrorKind, GetOptions, PutOptions};

use super::{Case, kind, noise};

fn chunks(bytes: &Bytes, size: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let all: Vec<_> = (0..bytes.len())
        .step_by(size)
        .map(|at| bytes.slice(at..bytes.len().min(at + size)))
        .collect();
    stream::iter(all.into_iter().map(Ok))
}

fn broken(bytes: &Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    chunks(bytes, 65_536).chain(stream::iter([Err(io::Error::other("the client hung up"))]))
}

pub(super) async fn unknown_length(case: Case) {
    for size in [0, 1, 100_000] {
        let bytes = noise(size, 3);
        let stored = case
            .storage
            .upload_stream("s", chunks(&bytes, 999), PutOptions::new())
            .await
            .unwrap();
        assert_eq!(stored.size, size as u64);
        assert_eq!(case.storage.download("s").await.unwrap(), bytes);
    }
    // Empty chunks are legal.
    let parts = ["", "a", "", "b", ""].map(|text| io::Result::Ok(Bytes::from_static(text.as_bytes())));
    case.storage
        .upload_stream("s", stream::iter(parts), PutOptions::new())
        .await
        .unwrap();
    assert_eq!(case.storage.download("s").await.unwrap(), "ab");
}

/// A stream may be asked for more until it ends, and never afterwards.
pub(super) async fn asked_after_its_end(case: Case) {
    for size in [0, 7, 9 << 20] {
        let bytes = noise(size, 5);
        let once = stream::unfold(bytes.clone(), |mut rest| async move {
            let piece = rest.split_to(rest.len().min(1_000_003));
            (!piece.is_empty()).then_some((io::Result::Ok(piece), rest))
        });
        case.storage
            .upload_stream("s", once, PutOptions::new())
            .await
            .unwrap();
        // Downloads are such streams.
        let download = case.storage.download_stream("s", ()).await.unwrap();
        case.storage
            .upload_stream("t", download.stream, PutOptions::new())
            .await
            .unwrap();
        assert!(case.storage.download("t").await.unwrap() == bytes, "{size}");
    }
}

pub(super) async fn long(case: Case) {
    let bytes = noise(21 * 1024 * 1024 + 13, 4);
    let options = PutOptions::new()
        .content_type("application/pdf")
        .download_name("长.pdf")
        .metadata("n", "v");
    let stored = case
        .storage
        .upload_stream("long", chunks(&bytes, 1_000_003), options.clone())
        .await
        .unwrap();
    assert_eq!(stored.size, bytes.len() as u64);
    let metadata = case.storage.metadata("long").await.unwrap();
    assert_eq!((metadata.size, metadata.etag), (stored.size, stored.etag));
    assert_eq!(metadata.content_type, "application/pdf");
    assert_eq!(metadata.content_disposition, options.content_disposition);
    assert_eq!(metadata.user, options.metadata);
    let download = case.storage.download_stream("long", ()).await.unwrap();
    assert!(
        download.stream.into_bytes().await.unwrap() == bytes,
        "other bytes came back"
    );
    let tail = case
        .storage
        .download_stream("long", ByteRange::Last(3_000_000))
        .await
        .unwrap();
    assert!(tail.stream.into_bytes().await.unwrap() == bytes.slice(bytes.len() - 3_000_000..));
    // One chunk of several parts.
    let whole = stream::iter([io::Result::Ok(bytes.clone())]);
    case.storage
        .upload_stream("long", whole, PutOptions::new())
        .await
        .unwrap();
    assert!(
        case.storage.download("long").await.unwrap() == bytes,
        "other bytes came back"
    );
}

pub(super) async fn declared_length(case: Case) {
    for size in [0, 5, 9_000_000] {
        let bytes = noise(size, 5);
        let body = Body::stream(chunks(&bytes, 100_000)).with_length(size as u64);
        case.storage.put("d", body, PutOptions::new()).await.unwrap();
        assert!(
            case.storage.download("d").await.unwrap() == bytes,
            "other bytes came back"
        );
    }
}

pub(super) async fn wrong_length(case: Case) {
    for (real, declared) in [(5, 6), (5, 4), (9_000_000, 9_000_001), (9_000_000, 8_999_999)] {
        let body = Body::stream(chunks(&noise(real, 6), 100_000)).with_length(declared);
        assert_eq!(
            kind(case.storage.put("w", body, PutOptions::new()).await),
            ErrorKind::InvalidInput
        );
        assert!(!case.storage.exists("w").await.unwrap());
    }
}

pub(super) async fn error(case: Case) {
    let failed = case
        .storage
        .upload_stream("e", broken(&noise(1000, 7)), PutOptions::new())
        .await;
    let failed = failed.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Source);
    let source = std::error::Error::source(&failed).unwrap();
    assert_eq!(source.to_string(), "the client hung up", "the cause is kept");
    assert!(!case.storage.exists("e").await.unwrap());
    case.storage.upload("e", "old").await.unwrap();
    let failed = case
        .storage
        .upload_stream("e", broken(&noise(1000, 7)), PutOptions::new())
        .await;
    assert_eq!(kind(failed), ErrorKind::Source);
    assert_eq!(
        case.storage.download("e").await.unwrap(),
        "old",
        "the older object stays"
    );
}

pub(super) async fn long_error(case: Case) {
    let failed = case
        .storage
        .upload_stream("e", broken(&noise(13_000_000, 8)), PutOptions::new())
        .await;
    assert_eq!(kind(failed), ErrorKind::Source);
    assert!(!case.storage.exists("e").await.unwrap());
}

pub(super) async fn dropped(case: Case) {
    let endless = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((io::Result::Ok(Bytes::from(vec![7_u8; 1024 * 1024])), ()))
    });
    let upload = case.storage.upload_stream("d", endless, PutOptions::new());
    assert!(
        tokio::time::timeout(Duration::from_millis(400), upload)
            .await
            .is_err()
    );
    assert!(!case.storage.exists("d").await.unwrap());
    // What runs in the background to clean up gets a moment.
    tokio::time::sleep(Duration::from_millis(500)).await;
}

pub(super) async fn ranges(case: Case) {
    let bytes = noise(2_000_000, 9);
    case.storage.upload("r", bytes.clone()).await.unwrap();
    let size = bytes.len() as u64;
    let expect: [(GetOptions, std::ops::Range<u64>); 8] = [
        ((0..1).into(), 0..1),
        ((0..size).into(), 0..size),
        ((5..10).into(), 5..10),
        ((size - 1..size + 100).into(), size - 1..size),
        ((100..=199).into(), 100..200),
        ((1_000_000..).into(), 1_000_000..size),
        (ByteRange::Last(10).into(), size - 10..size),
        (ByteRange::Last(size + 1).into(), 0..size),
    ];
    for (options, expected) in expect {
        let download = case.storage.download_stream("r", options.clone()).await.unwrap();
        let range = download.range.unwrap();
        assert_eq!(
            (range.start..range.end, range.total),
            (expected.clone(), size),
            "{options:?}"
        );
        assert_eq!(download.metadata.size, size);
        assert_eq!(download.length(), expected.end - expected.start);
        let got = download.stream.into_bytes().await.unwrap();
        assert!(
            got == bytes.slice(expected.start as usize..expected.end as usize),
            "{options:?}"
        );
    }
    assert!(
        case.storage
            .download_stream("r", ..)
            .await
            .unwrap()
            .range
            .is_none()
    );
}

pub(super) async fn invalid_ranges(case: Case) {
    case.storage.upload("r", "0123456789").await.unwrap();
    for options in [
        GetOptions::from(10..11),
        GetOptions::from(5..5),
        GetOptions::from(10..),
        GetOptions::from(u64::MAX..),
        GetOptions::from(ByteRange::Last(0)),
    ] {
        let result = case.storage.download_stream("r", options.clone()).await;
        assert_eq!(kind(result), ErrorKind::InvalidRange, "{options:?}");
    }
}
