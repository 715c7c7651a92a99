//! Requests no proper client sends, faults on order, and keeping data across restarts.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zhuji_testkit::oss::{Fault, OssCredentials, OssServer, OssServerOptions};

use crate::wire::{Call, raw};

async fn server() -> OssServer {
    OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port")
}

async fn put(server: &OssServer, path: &str, body: &str) {
    assert_eq!(
        Call::new("PUT", path).body(body).send(server).await.status,
        200,
        "{path}"
    );
}

fn md5(body: &str) -> String {
    STANDARD.encode(Md5::digest(body))
}

#[tokio::test]
async fn malformed_authorization_is_refused_with_a_code_and_never_with_a_panic() {
    let server = server().await;
    let id = server.access_key_id().to_owned();
    let good_scope = "20250101/cn-hangzhou/oss/aliyun_v4_request";
    let deep = "a".repeat(5000);
    for (authorization, status, code, ec) in [
        ("", 400, "InvalidArgument", "0002-00000202"),
        ("Bearer x", 400, "InvalidArgument", "0002-00000202"),
        ("OSS", 400, "InvalidArgument", "0002-00000202"),
        ("OSS nocolon", 400, "InvalidArgument", "0002-00000202"),
        ("OSS :", 400, "InvalidArgument", "0002-00000202"),
        ("OSS4-HMAC-SHA256", 400, "InvalidArgument", "0002-00000202"),
        ("OSS4-HMAC-SHA256 x", 400, "InvalidArgument", "0002-00000202"),
        (
            "OSS4-HMAC-SHA256 Signature=1",
            400,
            "InvalidArgument",
            "0002-00000202",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=a,Credential=a,Signature=1",
            400,
            "InvalidArgument",
            "0002-00000202",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=a,Unknown=1,Signature=1",
            400,
            "InvalidArgument",
            "0002-00000202",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=a/b/c,Signature=1",
            400,
            "InvalidArgument",
            "0002-00000213",
        ),
        (
            &format!("OSS4-HMAC-SHA256 Credential={deep},Signature=1"),
            400,
            "InvalidArgument",
            "0002-00000213",
        ),
        (
            "OSS4-HMAC-SHA256 Credential=a/20221220/cn-hangzhou/oss/abc,Signature=1",
            400,
            "InvalidArgument",
            "0002-00000213",
        ),
        (
            &format!("OSS4-HMAC-SHA256 Credential=a/{good_scope},AdditionalHeaders=,Signature=1"),
            400,
            "InvalidArgument",
            "0002-00000209",
        ),
        (
            &format!("OSS4-HMAC-SHA256 Credential=nobody/{good_scope},Signature=1"),
            403,
            "InvalidAccessKeyId",
            "0002-00000902",
        ),
        (
            &format!("OSS4-HMAC-SHA256 Credential={id}/{good_scope},AdditionalHeaders=not-there,Signature=1"),
            400,
            "InvalidArgument",
            "",
        ),
    ] {
        let answer = Call::new("PUT", "/demo/a")
            .authorization(authorization)
            .body("x")
            .send(&server)
            .await;
        assert_eq!(answer.status, status, "{authorization}: {answer:?}");
        assert_eq!(answer.code(), code, "{authorization}: {answer:?}");
        assert_eq!(
            answer.header("x-oss-ec").unwrap_or_default(),
            ec,
            "{authorization}: {answer:?}"
        );
        assert!(
            answer
                .element("RequestId")
                .is_some_and(|id| answer.header("x-oss-request-id") == Some(&id))
        );
    }
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn a_wrong_signature_is_told_what_was_signed_but_never_the_secret() {
    let server = server().await;
    let bytes = Call::new("PUT", "/demo/a").body("x").bytes(&server);
    let text = String::from_utf8(bytes).expect("ASCII");
    let changed = text.replacen("PUT /demo/a", "PUT /demo/b", 1);
    let answer = raw(&server, changed.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "SignatureDoesNotMatch")
    );
    assert!(
        answer
            .element("StringToSign")
            .is_some_and(|t| t.starts_with("OSS4-HMAC-SHA256\n")),
        "{answer:?}"
    );
    assert!(
        answer
            .element("CanonicalRequest")
            .is_some_and(|t| t.starts_with("PUT\n/demo/b\n")),
        "{answer:?}"
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains(server.access_key_secret()));
    assert!(
        !format!("{server:?}").contains(server.access_key_secret()),
        "Debug tells the secret"
    );
    // The same request unchanged is right: only the change was refused.
    assert_eq!(raw(&server, text.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn what_it_does_not_do_answers_501_and_changes_nothing() {
    let server = server().await;
    put(&server, "/demo/a", "text").await;
    for (method, path, name, value) in [
        ("GET", "/demo/", "replication", ""),
        ("PUT", "/demo/", "worm", ""),
        ("GET", "/demo/a", "symlink", ""),
        ("PUT", "/demo/a", "symlink", ""),
        ("POST", "/demo/a", "restore", ""),
        ("GET", "/demo/a", "x-oss-process", "image%2Fresize"),
        ("GET", "/demo/a", "frobnicate", ""),
        ("DELETE", "/demo/a", "versionId", "1"),
        ("POST", "/demo/", "", ""),
    ] {
        let mut call = Call::new(method, path);
        if !name.is_empty() {
            call = call.query(name, value);
        }
        let answer = call.send(&server).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (501, "NotImplemented"),
            "{method} {path}?{name}"
        );
    }
    let answer = Call::new("PATCH", "/demo/a").send(&server).await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "MethodNotAllowed"));
    // A parameter with a value that OSS does not know is passed over, as OSS does.
    assert_eq!(
        Call::new("GET", "/demo/a")
            .query("v", "7")
            .send(&server)
            .await
            .body,
        b"text"
    );
    assert_eq!(server.object_bytes("a").as_deref(), Some(&b"text"[..]));
}

#[tokio::test]
async fn broken_documents_are_refused() {
    let server = server().await;
    let many: String = (0..1001)
        .map(|i| format!("<Object><Key>{i}</Key></Object>"))
        .collect();
    for body in [
        "",
        "not xml",
        "<Delete>",
        "<Delete></Other>",
        "<Other><Object><Key>a</Key></Object></Other>",
        "<Delete></Delete>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><Delete><Object><Key>&a;</Key></Object></Delete>",
        &"<a>".repeat(10_000),
        &format!("<Delete>{many}</Delete>"),
    ] {
        let call = Call::new("POST", "/demo/")
            .query("delete", "")
            .header("Content-MD5", &md5(body))
            .body(body);
        let answer = call.send(&server).await;
        let start = &body[..body.len().min(60)];
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "MalformedXML"),
            "{start}: {answer:?}"
        );
    }
    let body = "<Delete><Object><Key>a</Key></Object></Delete>";
    let without = Call::new("POST", "/demo/")
        .query("delete", "")
        .body(body)
        .send(&server)
        .await;
    assert_eq!(
        (without.status, without.code().as_str()),
        (400, "MissingArgument")
    );
    let wrong = Call::new("POST", "/demo/")
        .query("delete", "")
        .header("Content-MD5", "AAAA")
        .body(body);
    assert_eq!(wrong.send(&server).await.code(), "InvalidDigest");
    let cors = Call::new("PUT", "/demo/")
        .query("cors", "")
        .body("<CORSConfiguration>")
        .send(&server)
        .await;
    assert_eq!(cors.code(), "MalformedXML");
    let huge = Call::new("PUT", "/demo/")
        .query("lifecycle", "")
        .body(vec![b' '; 3 << 20])
        .send(&server)
        .await;
    assert_eq!(huge.code(), "EntityTooLarge");
}

#[tokio::test]
async fn names_lengths_and_headers_beyond_the_limits_are_refused() {
    let options = OssServerOptions {
        max_put_bytes: 1000,
        ..OssServerOptions::default()
    };
    let server = OssServer::start(options).await.expect("a free port");
    for path in [
        "/demo//a",
        "/demo/%5Ca",
        "/demo/a%0Ab",
        "/demo/a%00b",
        "/demo/%FF%FE",
        &format!("/demo/{}", "k".repeat(1024)),
    ] {
        let answer = Call::new("PUT", path).body("x").send(&server).await;
        let code = answer.code();
        assert!(
            code == "InvalidObjectName" || code == "SignatureDoesNotMatch",
            "{path}: {answer:?}"
        );
        assert_ne!(answer.status, 200, "{path}");
    }
    let announced = Call::new("PUT", "/demo/a")
        .header("Content-Length", "6000000000")
        .header("Expect", "100-continue");
    let answer = announced.send(&server).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "EntityTooLarge"));
    let chunked = Call::new("PUT", "/demo/a")
        .header("Transfer-Encoding", "chunked")
        .body(format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)));
    assert_eq!(chunked.send(&server).await.code(), "EntityTooLarge");
    let nothing = b"PUT /demo/a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&server, nothing).await.code(), "AccessDenied");
    let no_host = raw(&server, b"GET /demo/a HTTP/1.0\r\n\r\n").await;
    assert_eq!((no_host.status, no_host.code().as_str()), (400, "InvalidRequest"));
    let meta = Call::new("PUT", "/demo/a")
        .header("x-oss-meta-long", &"m".repeat(9000))
        .body("x")
        .send(&server)
        .await;
    assert_eq!(meta.code(), "InvalidArgument");
    let header = Call::new("PUT", "/demo/a")
        .header("x-junk", &"h".repeat(2 << 20))
        .send(&server)
        .await;
    assert!([0, 431].contains(&header.status), "{}", header.status);
    let bucket = Call::new("PUT", "/Not_A_Bucket/").send(&server).await;
    assert_eq!(bucket.code(), "InvalidBucketName");
    assert!(raw(&server, b"\x00\x01\x02 nonsense\r\n\r\n").await.status == 400);
    assert!(server.objects().is_empty());
    // After all that it still serves.
    put(&server, "/demo/a", "fine").await;
}

#[tokio::test]
async fn a_body_that_never_ends_stores_nothing() {
    let server = server().await;
    for call in [
        Call::new("PUT", "/demo/half")
            .header("Content-Length", "1000")
            .body("only this"),
        Call::new("PUT", "/demo/half")
            .header("Transfer-Encoding", "chunked")
            .body("5\r\nhello\r\n"),
    ] {
        let mut stream = TcpStream::connect(server.address())
            .await
            .expect("the server listens");
        stream
            .write_all(&call.bytes(&server))
            .await
            .expect("the server reads");
        drop(stream);
    }
    let gone = async {
        while server.requests().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("both requests end");
    assert!(
        server.requests().iter().all(|request| request.status == 0),
        "{:?}",
        server.requests()
    );
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn parts_out_of_order_or_of_another_upload_are_refused() {
    let server = OssServer::start(OssServerOptions {
        min_part_bytes: 1,
        ..OssServerOptions::default()
    })
    .await
    .expect("a free port");
    let started = Call::new("POST", "/demo/k")
        .query("uploads", "")
        .send(&server)
        .await;
    let id = started.element("UploadId").expect("an upload id");
    let mut etags = Vec::new();
    for number in ["1", "2"] {
        let part = Call::new("PUT", "/demo/k")
            .query("partNumber", number)
            .query("uploadId", &id)
            .body(number);
        etags.push(
            part.send(&server)
                .await
                .header("etag")
                .expect("an ETag")
                .to_owned(),
        );
    }
    let part = |number: u32, etag: &str| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let complete = |key: &'static str, inner: String| {
        Call::new("POST", key).query("uploadId", &id).body(format!(
            "<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>"
        ))
    };
    let backwards = complete("/demo/k", part(2, &etags[1]) + &part(1, &etags[0]));
    assert_eq!(backwards.send(&server).await.code(), "InvalidPartOrder");
    let twice = complete("/demo/k", part(1, &etags[0]) + &part(1, &etags[0]));
    assert_eq!(twice.send(&server).await.code(), "InvalidPartOrder");
    let swapped = complete("/demo/k", part(1, &etags[1]));
    assert_eq!(swapped.send(&server).await.code(), "InvalidPart");
    let elsewhere = complete("/demo/other", part(1, &etags[0]));
    assert_eq!(elsewhere.send(&server).await.code(), "NoSuchUpload");
    assert_eq!(server.uploads_open(), 1);
    let right = complete("/demo/k", part(1, &etags[0]) + &part(2, &etags[1]))
        .send(&server)
        .await;
    assert_eq!(right.status, 200, "{right:?}");
    assert_eq!(server.object_bytes("k").as_deref(), Some(&b"12"[..]));
    assert_eq!(server.uploads_open(), 0);
}

#[tokio::test]
async fn faults_hit_as_ordered() {
    let server = server().await;
    put(&server, "/demo/a", "0123456789").await;
    server.fail_next(
        Fault::status(503, "ServiceUnavailable")
            .times(2)
            .on_operation("GetObject"),
    );
    for expected in [503, 503, 200] {
        assert_eq!(Call::new("GET", "/demo/a").send(&server).await.status, expected);
    }
    server.fail_next(Fault::cut_download(4));
    let cut = Call::new("GET", "/demo/a").send(&server).await;
    assert_eq!(
        (cut.status, &cut.body[..], cut.header("content-length")),
        (200, &b"0123"[..], Some("10"))
    );
    server.fail_next(Fault::wrong_crc());
    let wrong = Call::new("GET", "/demo/a").send(&server).await;
    assert_eq!(wrong.header("x-oss-hash-crc64ecma"), Some("1"));
    server.fail_next(Fault::cut_upload(3).on_key("b"));
    assert_eq!(
        Call::new("PUT", "/demo/b")
            .body("too bad")
            .send(&server)
            .await
            .status,
        0
    );
    assert_eq!(server.object_bytes("b"), None);
    server.fail_next(Fault::lose_answer());
    assert_eq!(
        Call::new("PUT", "/demo/b")
            .body("done")
            .send(&server)
            .await
            .status,
        0
    );
    assert_eq!(server.object_bytes("b").as_deref(), Some(&b"done"[..]));
    server.fail_next(Fault::status_after_effect(203, "CallbackFailed"));
    let callback = Call::new("PUT", "/demo/c").body("c").send(&server).await;
    assert_eq!(
        (callback.status, callback.code().as_str()),
        (203, "CallbackFailed")
    );
    assert_eq!(server.object_bytes("c").as_deref(), Some(&b"c"[..]));
    server.fail_next(Fault::delay(Duration::from_millis(200)));
    let began = std::time::Instant::now();
    assert_eq!(Call::new("HEAD", "/demo/a").send(&server).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.faults_pending(), 0);
}

#[tokio::test]
async fn credentials_can_be_added_and_run_out() {
    let server = server().await;
    server.add_credentials(OssCredentials {
        access_key_id: "STS.second".to_owned(),
        access_key_secret: "second-secret".to_owned(),
        security_token: Some("t".to_owned()),
    });
    put(&server, "/demo/a", "x").await;
    server.expire_credentials(server.access_key_id());
    let answer = Call::new("GET", "/demo/a").send(&server).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "SecurityTokenExpired")
    );
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_the_log_tells() {
    let server = server().await;
    let mut two = String::from_utf8(Call::new("PUT", "/demo/a").body("x").bytes(&server)).expect("ASCII");
    two = two.replace("Connection: close\r\n", "");
    two += &String::from_utf8(Call::new("GET", "/demo/a").bytes(&server)).expect("ASCII");
    raw(&server, two.as_bytes()).await;
    let log = server.requests();
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].connection, log[1].connection);
    assert_eq!(
        (log[0].operation.as_str(), log[0].key.as_str(), log[0].bytes_in),
        ("PutObject", "a", 1)
    );
    assert_eq!(
        (log[1].operation.as_str(), log[1].status, log[1].bytes_out),
        ("GetObject", 200, 1)
    );
    assert_eq!(server.connections(), 1);
    assert!(
        !format!("{log:?}").contains("Signature="),
        "the log keeps a signature"
    );
}

#[tokio::test]
async fn a_data_directory_keeps_everything_across_restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = OssServerOptions {
        data_dir: Some(dir.path().to_owned()),
        ..OssServerOptions::default()
    };
    let server = OssServer::start(options.clone()).await.expect("a free port");
    put(&server, "/demo/empty", "").await;
    put(&server, "/demo/a%20%E4%B8%AD", "first").await;
    put(&server, "/demo/a%20%E4%B8%AD", "second").await;
    put(&server, "/demo/gone", "x").await;
    assert_eq!(Call::new("DELETE", "/demo/gone").send(&server).await.status, 204);
    let meta = Call::new("PUT", "/demo/m")
        .header("x-oss-meta-k", "v")
        .header("Content-Type", "text/plain")
        .body("m");
    assert_eq!(meta.send(&server).await.status, 200);
    let cors = "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
                </CORSRule></CORSConfiguration>";
    assert_eq!(
        Call::new("PUT", "/demo/")
            .query("cors", "")
            .body(cors)
            .send(&server)
            .await
            .status,
        200
    );
    let before = server.objects();
    server.stop().await;
    // What a kill leaves behind does not stop the next start.
    std::fs::write(dir.path().join("demo/objects/torn.tmp"), b"half").expect("written");

    let again = OssServer::start(options).await.expect("a free port");
    assert_eq!(format!("{:?}", again.objects()), format!("{before:?}"));
    assert_eq!(again.objects().len(), 3);
    assert_eq!(again.object_bytes("a \u{4e2d}").as_deref(), Some(&b"second"[..]));
    assert_eq!(again.object_bytes("empty").as_deref(), Some(&b""[..]));
    let kept = Call::new("GET", "/demo/").query("cors", "").send(&again).await;
    assert_eq!(kept.body, cors.as_bytes());
    let files = std::fs::read_dir(dir.path().join("demo/objects"))
        .expect("it is there")
        .count();
    assert_eq!(
        files, 6,
        "one description and one data file per object, nothing else"
    );
    again.stop().await;
    std::fs::write(dir.path().join("demo/bucket.json"), b"{").expect("written");
    let error = OssServer::start(OssServerOptions {
        data_dir: Some(dir.path().to_owned()),
        ..OssServerOptions::default()
    })
    .await
    .expect_err("a broken file is no empty bucket");
    assert!(error.to_string().contains("bucket.json"), "{error}");
}

#[tokio::test]
async fn it_stops_when_dropped_and_prints_what_a_shell_needs() {
    let server = server().await;
    let lines = server.export_lines();
    for name in [
        "OSS_REGION=cn-hangzhou",
        "OSS_ENDPOINT=http://127.0.0.1:",
        "OSS_BUCKET=demo",
        "OSS_ACCESS_KEY_SECRET=",
    ] {
        assert!(lines.contains(&format!("export {name}")), "{lines}");
    }
    let address = server.address();
    drop(server);
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("it no longer listens");
}
