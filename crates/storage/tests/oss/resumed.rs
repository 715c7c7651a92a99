//! A download goes on where its connection broke, with the same version of the object or not at all.

use std::time::Duration;

use futures_util::TryStreamExt;
use zhuji_storage::{ByteRange, ErrorKind, GetOptions, Storage};
use zhuji_testkit::oss::{Fault, OssServer};

use crate::{start, support::noise};

const MIB: usize = 1024 * 1024;

/// The ranges of the downloads that the server has seen.
fn ranges(server: &OssServer) -> Vec<Option<String>> {
    let header = |request: zhuji_testkit::oss::OssRequestRecord, name: &str| {
        let value = request.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let gets = server
        .requests()
        .into_iter()
        .filter(|r| r.operation == "GetObject");
    gets.map(|request| {
        let range = header(request.clone(), "range");
        // Whoever asks for the rest names the version it belongs to.
        assert_eq!(range.is_some(), header(request, "if-match").is_some());
        range
    })
    .collect()
}

async fn stored(storage: &Storage, mib: usize) -> Vec<u8> {
    let content = noise(mib * MIB + 17);
    storage.upload("a", content.clone()).await.unwrap();
    content
}

#[tokio::test]
async fn a_broken_download_goes_on_with_the_byte_it_lacks() {
    let (server, storage) = start(&[]).await;
    let content = stored(&storage, 8).await;
    // More breaks than a single request is ever repeated: each of them comes after some progress.
    server.fail_next(Fault::cut_download(MIB as u64).on_operation("GetObject").times(7));
    let bytes = storage.download("a").await.unwrap();
    assert!(bytes == content, "not byte-identical");
    let ranges = ranges(&server);
    assert_eq!(ranges.len(), 8, "{ranges:?}");
    assert_eq!(ranges[0], None);
    // Each asks from where the one before has got to, to the end of the object.
    let starts: Vec<u64> = ranges[1..]
        .iter()
        .map(|range| {
            let range = range.as_deref().unwrap().strip_prefix("bytes=").unwrap();
            let (start, end) = range.split_once('-').unwrap();
            assert_eq!(end, (content.len() - 1).to_string());
            start.parse().unwrap()
        })
        .collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
}

#[tokio::test]
async fn a_broken_range_goes_on_within_the_range() {
    let (server, storage) = start(&[]).await;
    let content = stored(&storage, 3).await;
    for (range, expected) in [
        (
            ByteRange::Bounded {
                start: 1000,
                end: 2_000_000,
            },
            &content[1000..2_000_000],
        ),
        (ByteRange::From(1_000_000), &content[1_000_000..]),
        (ByteRange::Last(2_000_000), &content[content.len() - 2_000_000..]),
    ] {
        server.fail_next(Fault::cut_download(300_000).on_operation("GetObject").times(2));
        let download = storage.download_stream("a", range).await.unwrap();
        assert_eq!(download.length(), expected.len() as u64);
        assert!(
            download.stream.into_bytes().await.unwrap() == expected,
            "{range:?}"
        );
        assert_eq!(server.faults_pending(), 0);
    }
}

#[tokio::test]
async fn without_progress_patience_ends() {
    let (server, storage) = start(&[]).await;
    stored(&storage, 1).await;
    server.clear_requests();
    server.fail_next(Fault::cut_download(0).on_operation("GetObject").times(100));
    let error = storage.download("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    let asked = ranges(&server).len();
    assert!((4..=8).contains(&asked), "{asked} requests");
}

#[tokio::test]
async fn bytes_of_another_version_are_never_spliced_in() {
    let (server, storage) = start(&[]).await;
    for remove in [false, true] {
        let old = stored(&storage, 4).await;
        server.fail_next(Fault::cut_download(2 * MIB as u64).on_operation("GetObject"));
        let mut stream = storage.download_stream("a", ()).await.unwrap().stream;
        let mut read = stream.try_next().await.unwrap().unwrap().to_vec();
        if remove {
            storage.delete("a").await.unwrap();
        } else {
            // As long as the old one.
            storage.upload("a", vec![7; old.len()]).await.unwrap();
        }
        let error = loop {
            match stream.try_next().await {
                Ok(Some(piece)) => read.extend_from_slice(&piece),
                Ok(None) => panic!("{} bytes passed for the whole", read.len()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert!(!error.is_retryable());
        assert!(read == old[..read.len()], "what was read is of the old version");
        assert!(
            stream.try_next().await.unwrap().is_none(),
            "after an error comes nothing"
        );
    }
}

#[tokio::test]
async fn a_refusal_in_the_middle_is_told_as_what_it_is() {
    let (server, storage) = start(&[]).await;
    stored(&storage, 2).await;
    let mut stream = {
        server.fail_next(Fault::cut_download(MIB as u64).on_operation("GetObject"));
        storage.download_stream("a", ()).await.unwrap().stream
    };
    server.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .on_operation("GetObject")
            .times(2),
    );
    server.fail_next(Fault::status(403, "AccessDenied").on_operation("GetObject"));
    let error = loop {
        match stream.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a refused rest passed for the end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(server.faults_pending(), 0);
}

#[tokio::test]
async fn the_checksum_still_counts_at_the_end() {
    let (server, storage) = start(&[]).await;
    stored(&storage, 2).await;
    server.fail_next(Fault::wrong_crc().on_operation("GetObject"));
    let mut stream = storage
        .download_stream("a", GetOptions::new())
        .await
        .unwrap()
        .stream;
    server.fail_next(Fault::cut_download(1000).on_operation("GetObject"));
    let mut read = 0;
    let error = loop {
        match stream.try_next().await {
            Ok(Some(piece)) => read += piece.len(),
            Ok(None) => panic!("a wrong checksum passed"),
            Err(error) => break error,
        }
    };
    assert_eq!((read, error.kind()), (2 * MIB + 17, ErrorKind::Integrity));
}

#[tokio::test]
async fn a_transfer_may_last_longer_than_thirty_seconds() {
    // Neither the client nor a layer limits a whole transfer, only the silence within it.
    let storage = crate::strangers::drip(33, Duration::from_secs(1)).await;
    let began = std::time::Instant::now();
    assert_eq!(storage.download("a").await.unwrap().len(), 33 * 1000);
    assert!(began.elapsed() > Duration::from_secs(31));
}
