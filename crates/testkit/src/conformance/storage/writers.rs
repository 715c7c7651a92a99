use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use zhuji_storage::{ErrorKind, PutOptions};

use super::{Case, kind};

pub(super) async fn create_only(case: Case) {
    let options = || PutOptions::new().create_only();
    case.storage.upload_with("c", "first", options()).await.unwrap();
    assert_eq!(
        kind(case.storage.upload_with("c", "second", options()).await),
        ErrorKind::AlreadyExists
    );
    let long = stream::iter((0..10).map(|_| io::Result::Ok(Bytes::from(vec![1_u8; 1024 * 1024]))));
    assert_eq!(
        kind(case.storage.upload_stream("c", long, options()).await),
        ErrorKind::AlreadyExists
    );
    assert_eq!(case.storage.download("c").await.unwrap(), "first");
    case.storage.delete("c").await.unwrap();
    case.storage.upload_with("c", "third", options()).await.unwrap();
}

pub(super) async fn create_only_race(case: Case) {
    for round in 0..5 {
        let key = format!("race/{round}");
        let attempts = (0..12).map(|writer| {
            let (storage, key) = (case.storage.clone(), key.clone());
            tokio::spawn(async move {
                let options = PutOptions::new().create_only();
                storage
                    .upload_with(&key, format!("writer {writer}"), options)
                    .await
                    .map(|_| writer)
            })
        });
        let results: Vec<_> = join_all(attempts).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        let lost = results.iter().filter_map(|result| result.as_ref().err());
        assert!(
            lost.into_iter()
                .all(|error| error.kind() == ErrorKind::AlreadyExists),
            "{results:?}"
        );
        assert_eq!(
            case.storage.download(&key).await.unwrap(),
            format!("writer {}", won[0])
        );
    }
}

/// Writers with different content, size and metadata on one key; readers must see one of them, whole.
pub(super) async fn torn_reads(case: Case) {
    const WRITERS: u8 = 4;
    let content = |writer: u8| Bytes::from(vec![b'a' + writer; 100_000 + usize::from(writer) * 50_000]);
    let options = |writer: u8| PutOptions::new().metadata("writer", writer.to_string());
    case.storage
        .upload_with("k", content(0), options(0))
        .await
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let readers = (0..2).map(|_| {
        let (storage, stop) = (case.storage.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut reads = 0;
            loop {
                let download = storage.download_stream("k", ()).await.unwrap();
                let writer: u8 = download.metadata.user["writer"].parse().unwrap();
                let bytes = download.stream.into_bytes().await.unwrap();
                assert!(bytes == content(writer), "a torn read");
                reads += 1;
                if stop.load(Ordering::Relaxed) {
                    return reads;
                }
                // An adapter in memory is always ready; the writers need the threads too.
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..WRITERS).map(|writer| {
        let storage = case.storage.clone();
        tokio::spawn(async move {
            for _ in 0..15 {
                storage
                    .upload_with("k", content(writer), options(writer))
                    .await
                    .unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

/// Until an upload is complete the old object is what readers get.
pub(super) async fn overwrite_in_stream(case: Case) {
    case.storage.upload("k", "old").await.unwrap();
    let storage = case.storage.clone();
    let chunks = stream::unfold(0, move |count| {
        let storage = storage.clone();
        async move {
            assert_eq!(storage.download("k").await.unwrap(), "old");
            (count < 12).then(|| (io::Result::Ok(Bytes::from(vec![count; 1024 * 1024])), count + 1))
        }
    });
    case.storage
        .upload_stream("k", chunks, PutOptions::new())
        .await
        .unwrap();
    assert_eq!(case.storage.metadata("k").await.unwrap().size, 12 * 1024 * 1024);
}
