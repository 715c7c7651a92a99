//! The link is down, and work goes on.

use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use zhuji_health::Outcome;
use zhuji_storage::{ErrorKind, ListOptions, PutOptions, SignOptions, Storage, StorageFactory, Verified};
use zhuji_testkit::conformance::storage::ObjectHttp;
use zhuji_testkit::oss::Fault;

use super::{Site, files};
use crate::{KIB, support, support::noise, until};

fn options() -> PutOptions {
    PutOptions::new()
        .content_type("application/x-test")
        .download_name("文献.pdf")
        .metadata("author", "李 雷")
}

async fn health(storage: &Storage) -> Outcome {
    storage.health_check().run().await
}

fn chunks(
    bytes: &[u8],
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + 'static {
    let pieces: Vec<_> = bytes
        .chunks(64 * KIB)
        .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_arrives_in_order_and_as_it_was() {
    let site = Site::new().await;
    let (small, long, file) = (noise(3000), noise(6000 * KIB), noise(300 * KIB));
    let storage = site.open().await;
    storage.upload("before", "x").await.unwrap();
    storage
        .upload_stream("before-too", chunks(&small), PutOptions::new())
        .await
        .unwrap();
    assert_eq!((site.waiting(), health(&storage).await), (0, Outcome::Up));

    site.proxy.refuse().await;
    let kept = storage.upload_with("a", small.clone(), options()).await.unwrap();
    let streamed = storage
        .upload_stream("b", chunks(&long), options())
        .await
        .unwrap();
    let path = site.dir.path().join("file");
    std::fs::write(&path, &file).unwrap();
    storage.upload_file("c", &path, options()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    storage.delete("before").await.unwrap();
    storage.copy("a", "d").await.unwrap();
    assert_eq!(site.waiting(), 5);
    assert_eq!((kept.size, streamed.size), (3000, long.len() as u64));

    let look = async |storage: &Storage| {
        for (key, bytes) in [("a", &small), ("b", &long), ("c", &file), ("d", &small)] {
            assert!(storage.download(key).await.unwrap() == *bytes, "{key}");
            let metadata = storage.metadata(key).await.unwrap();
            assert_eq!((metadata.key.as_str(), metadata.size), (key, bytes.len() as u64));
            assert_eq!(metadata.content_type, "application/x-test");
            assert_eq!(metadata.content_disposition, options().content_disposition);
            assert_eq!(metadata.user, options().metadata);
            assert!(matches!(
                storage.verify(key).await.unwrap(),
                Verified::Intact { .. }
            ));
        }
        let part = storage.download_stream("b", 10..20).await.unwrap();
        assert_eq!(part.stream.into_bytes().await.unwrap(), long[10..20]);
        assert!(!storage.exists("before").await.unwrap(), "deleted");
    };
    look(&storage).await;
    // What is not here is not known: neither an object nor a whole listing.
    for error in [
        storage.metadata("before-too").await.unwrap_err(),
        storage.list("", ListOptions::new()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(health(&storage).await, Outcome::degraded("link down"));
    drop(storage);

    // Another process, and the link is still down.
    let storage = site.open().await;
    look(&storage).await;
    storage.upload("e", "last").await.unwrap();
    site.server.clear_requests();
    site.proxy.accept_again().await;
    site.all_carried_out().await;
    assert_eq!(
        site.writes(),
        [
            "PutObject a",
            "CompleteMultipartUpload b",
            "PutObject c",
            "DeleteObject before",
            "PutObject d",
            "PutObject e"
        ]
    );
    look(&site.there().await).await;
    look(&storage).await;
    assert_eq!(storage.download("e").await.unwrap(), "last");
    until("nothing is left on the disk", || {
        files(&site.outbox().join("data")) == 0
    })
    .await;
    assert_eq!(health(&storage).await, Outcome::Up);
    assert_eq!(site.server.uploads_open(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_waits_behind_it_and_reads_see_the_latest() {
    let site = Site::new().await;
    let storage = site.open().await;
    storage.upload("old", "old").await.unwrap();
    storage.upload("other", "other").await.unwrap();
    site.proxy.refuse().await;
    for text in ["one", "two"] {
        storage.upload("k", text).await.unwrap();
        assert_eq!(storage.download("k").await.unwrap(), text);
    }
    let create = PutOptions::new().create_only();
    let refused = |error: zhuji_storage::Error, kind| assert_eq!(error.kind(), kind, "{error}");
    let put = async |key: &str, text: &'static str| storage.upload_with(key, text, create.clone()).await;
    refused(put("k", "x").await.unwrap_err(), ErrorKind::AlreadyExists);
    storage.delete("k").await.unwrap();
    refused(storage.download("k").await.unwrap_err(), ErrorKind::NotFound);
    storage.delete("old").await.unwrap();
    // Known to be absent, once its deletion waits; not known otherwise.
    put("old", "new").await.unwrap();
    refused(put("old", "x").await.unwrap_err(), ErrorKind::AlreadyExists);
    refused(put("unknown", "x").await.unwrap_err(), ErrorKind::Unavailable);
    let many = storage.delete_many(["k", "other", "never"]).await;
    assert!(many.iter().all(Result::is_ok), "{many:?}");
    storage.upload("k", "three").await.unwrap();

    // The link is up again, and OSS is slow: what comes now still waits behind.
    site.server.fail_next(
        Fault::delay(Duration::from_secs(1))
            .on_operation("PutObject")
            .on_key("k"),
    );
    site.proxy.accept_again().await;
    until("the first is under way", || site.server.faults_pending() == 0).await;
    storage.upload("k", "four").await.unwrap();
    assert_eq!(storage.download("k").await.unwrap(), "four");
    let keys = async |options| {
        let page = storage.list("", options).await.unwrap();
        page.entries
            .into_iter()
            .map(|entry| entry.key)
            .collect::<Vec<_>>()
    };
    if site.waiting() > 3 {
        assert_eq!(keys(ListOptions::new()).await, ["k", "old"]);
        assert_eq!(keys(ListOptions::new().limit(1)).await, ["k"]);
        assert_eq!(keys(ListOptions::new().after("k")).await, ["old"]);
    }
    site.all_carried_out().await;
    assert_eq!(keys(ListOptions::new()).await, ["k", "old"]);
    let there = site.there().await;
    assert_eq!(there.download("k").await.unwrap(), "four");
    assert_eq!(there.download("old").await.unwrap(), "new");
    let of_k: Vec<String> = site
        .writes()
        .into_iter()
        .filter(|write| write.ends_with(" k"))
        .collect();
    assert_eq!(
        of_k,
        [
            "PutObject k",
            "PutObject k",
            "DeleteObject k",
            "DeleteObject k",
            "PutObject k",
            "PutObject k"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_oss_refuses_for_good_is_kept_aside_and_holds_nothing_up() {
    let site = Site::new().await;
    let storage = site.open().await;
    site.proxy.refuse().await;
    for key in ["a", "forbidden", "z"] {
        storage.upload(key, key.to_owned()).await.unwrap();
    }
    let denied = Fault::status(403, "AccessDenied").on_key("forbidden").times(99);
    site.server.fail_next(denied.on_operation("PutObject"));
    // A proxy of the site is no OSS: what it refuses is tried again.
    site.proxy
        .script((0..3).map(|_| zhuji_testkit::ProxyFault::Answer(503)));
    site.proxy.accept_again().await;
    site.all_carried_out().await;
    let there = site.there().await;
    assert_eq!(there.download("z").await.unwrap(), "z");
    assert_eq!(
        there.download("forbidden").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let aside = site.outbox().join("failed");
    assert_eq!((files(&aside), files(&site.outbox().join("data"))), (1, 1));
    let record = std::fs::read_dir(&aside).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(
        text.contains(r#""key":"forbidden""#) && text.contains("AccessDenied"),
        "{text}"
    );
    let refused = Outcome::degraded("the outbox holds refused uploads");
    assert_eq!(health(&storage).await, refused);
    drop(storage);

    // It stays over a restart; moved back once the cause is mended, it is carried out.
    let storage = site.open().await;
    assert_eq!(health(&storage).await, refused);
    drop(storage);
    site.server.clear_faults();
    // An empty folder is not kept.
    let queue = site.outbox().join("queue");
    std::fs::create_dir_all(&queue).unwrap();
    std::fs::rename(&record, queue.join(record.file_name().unwrap())).unwrap();
    let storage = site.open().await;
    site.all_carried_out().await;
    assert_eq!(there.download("forbidden").await.unwrap(), "forbidden");
    assert_eq!(health(&storage).await, Outcome::Up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_refuses_and_loses_nothing() {
    let site = Site::new().await;
    let storage = site.open_with(&[("STORAGE_OUTBOX_MAX", "100KiB")]).await;
    site.proxy.refuse().await;
    storage.upload("fits", noise(90 * KIB)).await.unwrap();
    let too_much = noise(20 * KIB);
    for error in [
        storage.upload("bytes", too_much.clone()).await.unwrap_err(),
        storage
            .upload_stream("stream", chunks(&too_much), PutOptions::new())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(error.to_string().contains("STORAGE_OUTBOX_MAX"), "{error}");
    }
    storage.delete("a deletion needs no room").await.unwrap();
    site.proxy.accept_again().await;
    site.all_carried_out().await;
    assert!(site.there().await.download("fits").await.unwrap() == noise(90 * KIB));
    until("the room is free again", || {
        files(&site.outbox().join("data")) == 0
    })
    .await;
    site.proxy.refuse().await;
    storage.upload("fits again", noise(90 * KIB)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_what_waits_lead_here() {
    let site = Site::new().await;
    let mut http = ObjectHttp::bind().await.unwrap();
    let base = http.base_url().trim_end_matches("/uploads").to_owned();
    let storage = site.open_with(&[("BASE_URL", &base)]).await;
    http.serve(&storage).unwrap();
    let client = zhuji_testkit::http_client();
    storage.upload("there", "there").await.unwrap();
    let address = storage.signed_url("there", SignOptions::get()).await.unwrap();
    assert!(address.as_str().starts_with(&site.proxy.url()), "{address:?}");

    site.proxy.refuse().await;
    storage.upload("waits", "waits").await.unwrap();
    let address = storage.signed_url("waits", SignOptions::get()).await.unwrap();
    assert!(address.as_str().starts_with(http.base_url()), "{address:?}");
    let fetch = async || {
        client
            .get(address.as_str())
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    assert_eq!(fetch().await, "waits");
    let upload = storage
        .signed_url("new", SignOptions::put("text/plain"))
        .await
        .unwrap();
    assert!(upload.as_str().starts_with(http.base_url()), "{upload:?}");
    let sent = client
        .put(upload.as_str())
        .header("content-type", "text/plain")
        .body("by hand");
    assert_eq!(sent.send().await.unwrap().status(), 200);
    assert_eq!(storage.download("new").await.unwrap(), "by hand");

    site.proxy.accept_again().await;
    site.all_carried_out().await;
    assert_eq!(fetch().await, "waits", "the address outlives the wait");
    assert_eq!(site.there().await.download("new").await.unwrap(), "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_and_strangers_records_are_not_sent() {
    let site = Site::new().await;
    let storage = site.open().await;
    site.proxy.refuse().await;
    storage.upload("damaged", noise(5000)).await.unwrap();
    storage.upload("whole", "whole").await.unwrap();
    drop(storage);
    let data = std::fs::read_dir(site.outbox().join("data")).unwrap();
    let large = data
        .flatten()
        .find(|file| file.metadata().unwrap().len() == 5000)
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&large).unwrap();
    bytes[2500] ^= 1;
    let file = std::fs::OpenOptions::new().write(true).open(&large).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    file.set_modified(modified).unwrap();
    std::fs::write(site.outbox().join("queue/00000000000000000099"), "no record").unwrap();
    std::fs::write(site.outbox().join("data/waste"), "of a dead process").unwrap();

    let storage = site.open().await;
    site.proxy.accept_again().await;
    until("the others are carried out", || site.waiting() == 1).await;
    let there = site.there().await;
    assert_eq!(there.download("whole").await.unwrap(), "whole");
    assert!(!there.exists("damaged").await.unwrap());
    assert_eq!(files(&site.outbox().join("failed")), 1);
    assert_eq!(
        health(&storage).await,
        Outcome::degraded("the outbox holds refused uploads")
    );
    let entries: Vec<_> = storage.list_all("").try_collect().await.unwrap();
    assert_eq!(entries.len(), 1);
    drop(storage);
    std::fs::remove_file(site.outbox().join("queue/00000000000000000099")).unwrap();
    let _storage = site.open().await;
    assert!(
        !site.outbox().join("data/waste").exists(),
        "swept once every record is understood"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_swallows_everything_is_noticed() {
    let site = Site::new().await;
    let storage = site.open().await;
    storage.upload("there", "x").await.unwrap();
    // Neither an answer nor a refusal: only the health check, which the platform runs, tells that the link is gone.
    site.proxy.blackhole().await;
    let check = storage.health_check();
    let watch = tokio::spawn(async move {
        loop {
            assert!(!check.run().await.is_failure());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let began = std::time::Instant::now();
    let read = tokio::spawn({
        let storage = storage.clone();
        async move { storage.download("there").await }
    });
    storage.upload("waits", "y").await.unwrap();
    let acknowledged = began.elapsed();
    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    println!(
        "acknowledged after {acknowledged:?}, read refused after {:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    storage.upload("too", "z").await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "at once, now that it is known"
    );
    assert!(!watch.is_finished());
    watch.abort();
    site.proxy.resume().await;
    site.all_carried_out().await;
    assert_eq!(storage.download("too").await.unwrap(), "z");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_belongs_to_one_process() {
    let site = Site::new().await;
    let first = site.open().await;
    let dir = site.dir.path().to_str().unwrap();
    let settings = [("STORAGE_LOCAL_DIR", dir), ("STORAGE_OUTBOX_DIR", "auto")];
    let config = support::oss_config(&site.server, &site.proxy.url(), &settings);
    let error = StorageFactory::new().build(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("STORAGE_OUTBOX_DIR"), "{error}");
    // Tools look at the store without it.
    StorageFactory::new()
        .build(&config.clone().without_outbox())
        .await
        .unwrap();
    drop(first);
    StorageFactory::new().build(&config).await.unwrap();
}
