//! Something answers, and it isn't OSS.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use zhuji_storage::{ErrorKind, ListOptions, Storage, StorageFactory};

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
