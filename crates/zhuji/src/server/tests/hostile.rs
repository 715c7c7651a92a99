use std::time::Duration;

use axum::Router;
use axum::routing::post;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{TestServer, raw};
use crate::http::{FilePart, HttpResult, Problem};

fn routes() -> Router {
    Router::new().route("/file", post(take)).route(
        "/refuse",
        post(|| async { Problem::not_found("There is no such record.") }),
    )
}

async fn take(file: FilePart) -> HttpResult<String> {
    let name = file.file_name.clone();
    let bytes = file.stream.bytes(1 << 20).await?;
    Ok(format!("{name}: {}", bytes.len()))
}

const HEAD: &str = "POST /file HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=XX\r\n";

fn form(file_name: &str, content: &str, end: &str) -> String {
    format!(
        "--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\r\n{content}{end}"
    )
}

fn request(body: &str) -> Vec<u8> {
    format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_whole_file_arrives_under_a_harmless_name() {
    let server = TestServer::start(routes()).await;
    let answer = raw(
        server.address(),
        &request(&form("../../etc/passwd", "hello", "\r\n--XX--\r\n")),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("passwd: 5"), "{answer}");
}

#[tokio::test]
async fn a_body_without_its_end_is_refused() {
    let server = TestServer::start(routes()).await;
    for end in ["", "\r\n--XX", "\r\n--YY--\r\n"] {
        let answer = raw(server.address(), &request(&form("a.pdf", "hello", end))).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{end:?}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn a_form_without_a_file_and_a_body_that_is_no_form_are_refused() {
    let server = TestServer::start(routes()).await;
    let other = "--XX\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\nx\r\n--XX--\r\n";
    assert!(
        raw(server.address(), &request(other))
            .await
            .starts_with("HTTP/1.1 400")
    );
    let plain = b"POST /file HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    assert!(raw(server.address(), plain).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_file_over_its_limit_is_refused_with_413() {
    let server = TestServer::start(routes()).await;
    let large = form("a.pdf", &"x".repeat((1 << 20) + 1), "\r\n--XX--\r\n");
    assert!(
        raw(server.address(), &request(&large))
            .await
            .starts_with("HTTP/1.1 413")
    );
}

#[tokio::test]
async fn headers_that_never_end_are_cut_off() {
    let server = TestServer::start(routes()).await;
    let answer = raw(server.address(), b"POST /file HTTP/1.1\r\nhost: x\r\nx-half").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let server = TestServer::start(routes()).await;
    let half = format!("{HEAD}content-length: 5000\r\n\r\n{}", form("a.pdf", "hello", ""));
    let answer = raw(server.address(), half.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_client_that_is_still_sending_gets_to_read_the_refusal() {
    let server = TestServer::start(routes()).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let size = 8 << 20;
    let head =
        format!("POST /refuse HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![0; 64 << 10];
    for _ in 0..size / piece.len() {
        stream.write_all(&piece).await.expect("the server reads on");
    }
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("There is no such record."), "{answer}");
}

#[tokio::test]
async fn an_address_of_ten_thousand_characters_is_just_not_there() {
    let server = TestServer::start(routes()).await;
    let request = format!(
        "GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "9".repeat(10_000)
    );
    assert!(
        raw(server.address(), request.as_bytes())
            .await
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn an_endless_header_of_a_part_does_not_fill_the_memory() {
    let server = TestServer::start(routes()).await;
    for body in [
        format!("--XX\r\ncontent-disposition: {}", "x".repeat(4 << 20)),
        "x".repeat(4 << 20),
        format!(
            "{}{}",
            form("a.pdf", "hello", "\r\n--XX\r\nx-long: "),
            "y".repeat(4 << 20)
        ),
        format!(
            "--XX\r\ncontent-disposition: form-data; name=\"text\"\r\n\r\n{}",
            "z".repeat(4 << 20)
        ),
    ] {
        let answer = raw(server.address(), &request(&body)).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{:.60}: {answer}", body);
        assert!(answer.contains("beside the file"), "{answer}");
    }
}
