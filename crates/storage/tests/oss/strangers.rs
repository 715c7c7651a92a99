//! Something answers, and it isn't OSS.

use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use zhuji_storage::{ErrorKind, ListOptions, PutOptions, Storage, StorageFactory};

use crate::support::storage_config;

/// A server that reads a request and answers each with these bytes.
async fn stranger(answer: &'static str) -> Storage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    store(&format!("http://{address}")).await
}

/// A server whose object comes in so many pieces of 1,000 bytes, with a pause after each.
pub(crate) async fn drip(pieces: usize, pause: Duration) -> Storage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_request(&mut socket).await?;
                let length = pieces * 1000;
                let head = format!("HTTP/1.1 200 OK\r\netag: \"A\"\r\ncontent-length: {length}\r\n\r\n");
                socket.write_all(head.as_bytes()).await.ok()?;
                for _ in 0..pieces {
                    socket.write_all(&[7; 1000]).await.ok()?;
                    tokio::time::sleep(pause).await;
                }
                Some(())
            });
        }
    });
    store(&format!("http://{address}")).await
}

async fn store(endpoint: &str) -> Storage {
    let config = storage_config(&[
        ("STORAGE_TYPE", "oss"),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_BUCKET", "demo"),
        ("OSS_ACCESS_KEY_ID", "id"),
        ("OSS_ACCESS_KEY_SECRET", "secret"),
        ("OSS_ENDPOINT", endpoint),
    ]);
    StorageFactory::new().build(&config).await.unwrap()
}

#[tokio::test]
async fn an_error_page_of_a_gateway() {
    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 26\r\nconnection: close\r\n\r\n\
                <html><h1>502</h1></html>\n";
    let storage = stranger(page).await;
    let error = storage.upload("a", "x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Unavailable, Some(502))
    );
    assert!(error.to_string().contains("did not come from OSS"), "{error}");
}

#[tokio::test]
async fn a_login_page_with_status_200() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n<html></html>";
    let storage = stranger(page).await;
    let error = storage.list("", ListOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
    let copied = storage.copy("a", "b").await.unwrap_err();
    assert_eq!(copied.kind(), ErrorKind::Unexpected, "{copied}");
}

#[tokio::test]
async fn an_error_document_that_ends_early() {
    for (answer, kind) in [
        (
            "HTTP/1.1 404 Not Found\r\nx-oss-request-id: 5F\r\nconnection: close\r\n\r\n<Error><Code>NoSuchK",
            ErrorKind::NotFound,
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 900\r\n\r\n<Error><Code>AccessDenied</Code>",
            ErrorKind::Denied,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n<ListBucketResult><Contents><Key>a</Key>",
            ErrorKind::Unavailable,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\n<ListBucketResult><Co",
            ErrorKind::Unexpected,
        ),
        ("HTTP/1.1 20", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
        ("SSH-2.0-OpenSSH_9.2\r\n", ErrorKind::Unavailable),
    ] {
        let error = stranger(answer)
            .await
            .list("", ListOptions::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let error = stranger(answer).await.upload("a", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("OSS_ENDPOINT"), "{error}");
}

/// A stand-in for OSS without checksums, whose first answer to the completing request is lost; afterwards there is an
/// object of this size and with this ETag.
async fn without_checksums(size: usize, etag: String) -> Storage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut completions = 0;
        while let Ok((mut socket, _)) = listener.accept().await {
            let Some((head, body)) = read_request(&mut socket).await else {
                continue;
            };
            let document = |status: &str, text: &str| {
                format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                )
            };
            let answer = if head.starts_with("POST") && head.contains("uploads") {
                let text =
                    "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
                document("200 OK", text)
            } else if head.starts_with("PUT") {
                let etag = hex_md5(&body);
                format!(
                    "HTTP/1.1 200 OK\r\netag: \"{etag}\"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
            } else if head.starts_with("POST") && completions == 0 {
                completions += 1;
                String::new()
            } else if head.starts_with("HEAD") {
                format!(
                    "HTTP/1.1 200 OK\r\netag: \"{etag}\"\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
                )
            } else {
                document("404 Not Found", "<Error><Code>NoSuchUpload</Code></Error>")
            };
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    store(&format!("http://{address}")).await
}

async fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap_or("0");
            let length: usize = length.split("\r\n").next()?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                let first = String::from_utf8_lossy(&bytes[..end]).into_owned();
                return Some((first, bytes.split_off(end + 4)));
            }
        }
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn hex_md5(bytes: &[u8]) -> String {
    hex::encode_upper(Md5::digest(bytes))
}

#[tokio::test]
async fn without_checksums_a_lost_completion_is_recognised_by_the_etag_or_not_at_all() {
    const MIB: usize = 1024 * 1024;
    let parts = [vec![7_u8; 4 * MIB], vec![7_u8; MIB]];
    let mut joint = Md5::new();
    parts.iter().for_each(|part| joint.update(Md5::digest(part)));
    let joint = format!("{}-2", hex::encode(joint.finalize()));
    for (size, etag, known) in [
        (5 * MIB, joint.clone(), true),
        (5 * MIB, "0123456789ABCDEF0123456789ABCDEF-2".to_owned(), false),
        (4 * MIB, joint, false),
    ] {
        let storage = without_checksums(size, etag.clone()).await;
        let chunks = (0..5).map(|_| std::io::Result::Ok(bytes::Bytes::from(vec![7_u8; MIB])));
        let stored = storage
            .upload_stream("a", futures_util::stream::iter(chunks), PutOptions::new())
            .await;
        match stored {
            Ok(stored) => assert!(known && stored.etag == etag),
            Err(error) => assert!(
                !known && error.kind() == ErrorKind::Unavailable && error.to_string().contains("not known"),
                "{size} {etag}: {error}"
            ),
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let started = Instant::now();
    let free = zhuji_testkit::free_port();
    let storage = store(&format!("http://127.0.0.1:{free}")).await;
    let error = storage.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("OSS_ENDPOINT"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
    let check = storage.health_check();
    assert_eq!(check.name(), "storage");
    assert_eq!(check.run().await, zhuji_health::Outcome::down("unavailable"));
}
