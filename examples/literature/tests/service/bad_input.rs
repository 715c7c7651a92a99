//! What careless, broken and hostile clients send, and what a killed process leaves.

use crate::support::{BOUNDARY, LITERATURES, Service, Setup, large_pdf, multipart, part_head, pdf};
use reqwest::header::LOCATION;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Writes the head of an upload by hand, so that the rest can go wrong by hand.
async fn begin_upload(service: &Service, id: &str, length: &str) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", service.port))
        .await
        .expect("it listens");
    let head = format!(
        "POST {LITERATURES}/{id}/pdf HTTP/1.1\r\nhost: test\r\n{length}\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("it reads");
    socket
}

/// What the service still says, up to the end of the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut text));
    let _reset = read.await.expect("the service ends the connection");
    String::from_utf8_lossy(&text).into_owned()
}

async fn has_no_pdf(setup: &Setup, service: &Service, id: &str) {
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    assert_eq!(
        (&record["pdf_url"], &record["extraction"]["state"]),
        (&serde_json::Value::Null, &"none".into())
    );
    let start = Instant::now();
    while !setup.stored_pdfs().is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "left behind: {:?}",
            setup.stored_pdfs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_end_properly_leaves_nothing() {
    let setup = Setup::new()
        .await
        .set("HTTP_BODY_IDLE_TIMEOUT", "1s")
        .set("ASL_MAX_PDF_BYTES", "4MiB");
    let service = setup.start().await;
    let id = service.one_record().await;
    let content = large_pdf(1 << 20);

    // The form ends without its last line.
    let mut body = multipart("file", "x.pdf", &content);
    body.truncate(body.len() - BOUNDARY.len() - 8);
    service
        .post_body(&format!("{LITERATURES}/{id}/pdf"), body)
        .await
        .is_problem(400, "cut off");
    has_no_pdf(&setup, &service, &id).await;

    // The client falls silent.
    let mut socket = begin_upload(&service, &id, "content-length: 99999999").await;
    socket
        .write_all(&part_head("file", "x.pdf"))
        .await
        .expect("it reads");
    socket.write_all(&content).await.expect("it reads");
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    has_no_pdf(&setup, &service, &id).await;

    // The client goes away.
    let mut socket = begin_upload(&service, &id, "content-length: 99999999").await;
    socket
        .write_all(&part_head("file", "x.pdf"))
        .await
        .expect("it reads");
    socket.write_all(&content).await.expect("it reads");
    drop(socket);
    tokio::time::sleep(Duration::from_millis(300)).await;
    has_no_pdf(&setup, &service, &id).await;

    // The client sends for ever.
    let mut socket = begin_upload(&service, &id, "transfer-encoding: chunked").await;
    let head = part_head("file", "x.pdf");
    let first = [format!("{:x}\r\n", head.len()).as_bytes(), &head, b"\r\n"].concat();
    socket.write_all(&first).await.expect("it reads");
    let chunk = [format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n"].concat();
    let mut sent = 0;
    while sent < 1 << 30 && socket.write_all(&chunk).await.is_ok() {
        sent += content.len();
    }
    assert!(sent < 1 << 30, "the service reads without end");
    has_no_pdf(&setup, &service, &id).await;

    assert_eq!(service.upload(&id, "good.pdf", &pdf(1)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_names_are_only_names() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    let long = format!("{}.pdf", "n".repeat(4_000));
    let long_chinese = format!("{}.pdf", "文".repeat(4_000));
    for name in [
        "../../../../etc/passwd",
        "..\\..\\windows\\system32.pdf",
        "/etc/passwd",
        ".",
        "..",
        "",
        " ",
        "%2e%2e%2fescape.pdf",
        "肺癌 筛查.pdf",
        "\u{202e}fdp.exe",
        "a'b;c&d=e?f#g.pdf",
        &long,
        &long_chinese,
    ] {
        let answer = service.upload(&id, name, &pdf(1)).await;
        assert_eq!(answer.status, 200, "{name:?}: {answer:?}");
        let keys = setup.stored_pdfs();
        assert_eq!(keys.len(), 1, "{name:?}: {keys:?}");
        assert!(
            keys[0].starts_with(&format!("asl/pdfs/{id}-")),
            "{name:?}: {keys:?}"
        );
        assert!(
            keys[0].ends_with(".pdf") && !keys[0].contains(".."),
            "{name:?}: {keys:?}"
        );
        let redirect = service
            .get(&format!("{LITERATURES}/{id}/pdf"))
            .await
            .expect("an answer");
        let address = redirect.headers()[LOCATION]
            .to_str()
            .expect("an address")
            .to_owned();
        assert_eq!(
            service
                .client
                .get(address)
                .send()
                .await
                .expect("an answer")
                .status(),
            200,
            "{name:?}"
        );
    }
    // No name holds this byte, and no header may.
    let nul = service.upload(&id, "a\0b.pdf", &pdf(1)).await;
    nul.is_problem(400, "multipart");
    assert_eq!(setup.stored_pdfs().len(), 1);
    let escaped = setup.dir.path().join("escape.pdf");
    assert!(!escaped.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stops_in_its_headers_is_dropped() {
    let setup = Setup::new().await.set("HTTP_HEADER_TIMEOUT", "1s");
    let service = setup.start().await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(("127.0.0.1", service.port))
            .await
            .expect("it listens");
        socket
            .write_all(b"GET /health HTTP/1.1\r\nhost: te")
            .await
            .expect("it reads");
        stuck.push(socket);
    }
    assert_eq!(service.get("/health").await.expect("an answer").status(), 200);
    let start = Instant::now();
    for socket in &mut stuck {
        let answer = rest(socket).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(service.get("/health").await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_during_uploads_leaves_no_half_object_and_no_row_without_one() {
    let setup = Setup::new()
        .await
        .set("ASL_SWEEP_INTERVAL", "1s")
        .set("JOBS_LEASE", "5s");
    let mut service = setup.start().await;
    let id = service.one_record().await;

    // Killed with half of the file received.
    let mut socket = begin_upload(&service, &id, "content-length: 8000000").await;
    socket
        .write_all(&part_head("file", "x.pdf"))
        .await
        .expect("it reads");
    socket.write_all(&large_pdf(4 << 20)).await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.kill();
    service = setup.start().await;
    has_no_pdf(&setup, &service, &id).await;

    // Killed at any moment of uploads that replace one another.
    let content = large_pdf(256 << 10);
    for round in 0..6 {
        let client = service.client.clone();
        let url = service.url(&format!("{LITERATURES}/{id}/pdf"));
        let body = multipart("file", "x.pdf", &content);
        let uploads = tokio::spawn(async move {
            loop {
                let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
                let request = client
                    .post(&url)
                    .header("content-type", content_type)
                    .body(body.clone());
                if request.send().await.is_err() {
                    return;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(60 + 37 * round)).await;
        service.kill();
        uploads.await.expect("it ends");
        service = setup.start().await;
        let record = service.json(&format!("{LITERATURES}/{id}")).await;
        if record["pdf_oss_key"].is_string() {
            let redirect = service
                .get(&format!("{LITERATURES}/{id}/pdf"))
                .await
                .expect("an answer");
            let address = redirect.headers()[LOCATION]
                .to_str()
                .expect("an address")
                .to_owned();
            let pdf = service.client.get(address).send().await.expect("an answer");
            assert_eq!(pdf.status(), 200, "a row points at nothing: {record}");
            assert!(
                pdf.bytes().await.expect("a whole body") == content,
                "half an object"
            );
        }
    }
    // What no row names is swept once it is old.
    let start = Instant::now();
    loop {
        setup.age_stored_pdfs();
        let record = service.json(&format!("{LITERATURES}/{id}")).await;
        let named: Vec<String> = record["pdf_oss_key"]
            .as_str()
            .map(str::to_owned)
            .into_iter()
            .collect();
        if setup.stored_pdfs() == named {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?} but named {named:?}",
            setup.stored_pdfs()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A job that was running when its process was killed is taken up again.
    service.extracted(&id).await;
}
