//! What other clients for OSS have been seen to get wrong, as far as no other test here is about it.

use std::io;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use zhuji_storage::{ErrorKind, ListOptions, PutOptions, SignOptions};
use zhuji_testkit::oss::Fault;

use crate::start;

const MIB: usize = 1024 * 1024;
const ODD_KEYS: [&str; 14] = [
    "a%2Fb",
    "q?x=1&y#z",
    "a+b",
    "100%.txt",
    "%",
    "a b",
    " outer spaces ",
    "文献/心脏病 (1).pdf",
    "emoji/😀.png",
    "=@:,;$",
    "~!*'().txt",
    "quo\"te<&>",
    "%25",
    "a%20b",
];

#[tokio::test]
async fn every_request_is_about_the_key_that_was_meant() {
    let (server, storage) = start(&[]).await;
    for (index, key) in ODD_KEYS.into_iter().enumerate() {
        let body = format!("object {index}");
        storage.upload(key, body.clone()).await.unwrap();
        let names: Vec<String> = server.objects().into_iter().map(|object| object.key).collect();
        assert_eq!(names, [key], "as the server sees it");
        assert_eq!(storage.download(key).await.unwrap(), body);
        assert_eq!(storage.metadata(key).await.unwrap().key, key);
        let url = storage.signed_url(key, SignOptions::get()).await.unwrap();
        let answer = zhuji_testkit::http_client()
            .get(url.as_str())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.text().await.unwrap(), body, "{key}");
        let copy = format!("{key} copy");
        storage.copy(key, &copy).await.unwrap();
        assert_eq!(server.object_bytes(&copy).unwrap(), body);
        storage.delete(key).await.unwrap();
        assert!(storage.delete_many([&copy]).await[0].is_ok(), "{key}");
        assert!(server.objects().is_empty(), "{key}");
    }
}

#[tokio::test]
async fn listed_keys_are_the_keys_that_were_stored() {
    let (_server, storage) = start(&[]).await;
    for key in ODD_KEYS {
        storage
            .upload(&format!("dir/子 目录+x/{key}"), "x")
            .await
            .unwrap();
    }
    let mut expected = ODD_KEYS.map(|key| format!("dir/子 目录+x/{key}"));
    expected.sort_unstable();
    // In pages of two, so that every position is a weird one.
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let options = ListOptions {
            after,
            ..ListOptions::new().limit(2)
        };
        let page = storage.list("dir/子 目录+x/", options).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.key));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, expected);
    let listed: Vec<_> = storage.list_all("dir/").try_collect().await.unwrap();
    assert_eq!(listed.len(), ODD_KEYS.len());
}

#[tokio::test]
async fn every_body_says_how_long_it_is() {
    let (server, storage) = start(&[]).await;
    let chunks = |mib: usize| stream::iter((0..mib).map(|_| io::Result::Ok(Bytes::from(vec![7; MIB]))));
    storage.upload("bytes", vec![7; 100_000]).await.unwrap();
    storage.upload("empty", "").await.unwrap();
    storage
        .upload_stream("short", chunks(1), PutOptions::new())
        .await
        .unwrap();
    storage
        .upload_stream("long", chunks(9), PutOptions::new())
        .await
        .unwrap();
    let _ = storage.delete_many(["bytes"]).await;
    for request in server.requests() {
        let chunked = request.headers.contains_key("transfer-encoding");
        let length = request.headers.get("content-length");
        let length = length.map_or(0, |value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert!(!chunked && length == request.bytes_in, "{}", request.operation);
    }
}

#[tokio::test]
async fn what_is_signed_is_also_sent() {
    let (server, storage) = start(&[]).await;
    let options = PutOptions::new()
        .content_type("text/csv; charset=utf-8")
        .download_name("文献 (1).csv")
        .metadata("one", "1")
        .metadata("two", "第二 +%/")
        .metadata("three", " spaces around ");
    storage.upload_with("a", "x", options.clone()).await.unwrap();
    let object = server.objects().remove(0);
    assert_eq!(
        object
            .headers
            .keys()
            .filter(|name| name.starts_with("x-oss-meta-"))
            .count(),
        3
    );
    assert_eq!(object.headers["content-type"], "text/csv; charset=utf-8");
    let metadata = storage.metadata("a").await.unwrap();
    assert_eq!(metadata.user, options.metadata);
    assert_eq!(metadata.content_disposition, options.content_disposition);
}

#[tokio::test]
async fn a_refused_abort_is_not_taken_for_a_clean_end() {
    let (server, storage) = start(&[]).await;
    server.fail_next(
        Fault::status(403, "AccessDenied")
            .on_operation("UploadPart")
            .times(9),
    );
    server.fail_next(
        Fault::status(403, "AccessDenied")
            .on_operation("AbortMultipartUpload")
            .times(9),
    );
    let chunks = stream::iter((0..9).map(|_| io::Result::Ok(Bytes::from(vec![7; MIB]))));
    let error = storage
        .upload_stream("a", chunks, PutOptions::new())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Denied, Some(403)),
        "{error}"
    );
    assert_eq!(
        server.uploads_open(),
        1,
        "it is still there, and a warning says so"
    );
    // Deleting many: the refusal of the whole is the refusal of each.
    server.clear_faults();
    server.fail_next(Fault::status(403, "AccessDenied").on_operation("DeleteMultipleObjects"));
    let results = storage.delete_many(["a", "b"]).await;
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Denied))
    );
    storage.upload("a", "x").await.unwrap();
    server.fail_next(Fault::status(403, "AccessDenied").on_operation("CopyObject"));
    assert_eq!(
        storage.copy("a", "b").await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    server.fail_next(Fault::status(403, "AccessDenied").on_operation("ListObjectsV2"));
    assert_eq!(
        storage.list("", ListOptions::new()).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
}

#[tokio::test]
async fn a_signed_upload_takes_any_length_and_exactly_its_type() {
    let (server, storage) = start(&[]).await;
    let http = zhuji_testkit::http_client();
    let put = storage
        .signed_url("a", SignOptions::put("application/pdf"))
        .await
        .unwrap();
    for length in [1, 5, 3 * MIB] {
        let request = http.put(put.as_str()).header("content-type", "application/pdf");
        assert_eq!(
            request.body(vec![7; length]).send().await.unwrap().status(),
            200,
            "{length}"
        );
        assert_eq!(server.object_bytes("a").unwrap().len(), length);
    }
    let other = http
        .put(put.as_str())
        .header("content-type", "text/html")
        .body("x");
    assert_eq!(other.send().await.unwrap().status(), 403);
    let mut options = SignOptions::put("x");
    options.content_type = None;
    let untyped = storage.signed_url("b", options).await.unwrap();
    assert_eq!(
        http.put(untyped.as_str())
            .body("12345")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let typed = http
        .put(untyped.as_str())
        .header("content-type", "text/html")
        .body("x");
    assert_eq!(typed.send().await.unwrap().status(), 403);
}
