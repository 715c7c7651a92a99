use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::TestServer;
use super::answers::reqwest_client;

fn routes() -> Router {
    Router::new()
        .route("/slow", get(slow))
        .route("/endless", get(endless))
        .route("/quick", get(|| async { "quick" }))
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(700)).await;
    "done"
}

async fn endless() -> Body {
    Body::from_stream(futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"tick\n")), ()))
    }))
}

#[tokio::test]
async fn a_request_in_flight_is_finished() {
    let server = TestServer::start(routes()).await;
    let request = tokio::spawn(reqwest_client().get(server.url("/slow")).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.app.drain();
    let outcome = server
        .listener
        .stop(Instant::now() + Duration::from_secs(10))
        .await;
    assert_eq!(outcome.cut, 0);
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(answer.text().await.unwrap(), "done");
}

#[tokio::test]
async fn a_stream_without_end_is_cut_at_the_deadline() {
    let server = TestServer::start(routes()).await;
    let mut answer = reqwest_client().get(server.url("/endless")).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    let started = Instant::now();
    let outcome = server
        .listener
        .stop(Instant::now() + Duration::from_millis(800))
        .await;
    assert_eq!(outcome.cut, 1);
    assert!(started.elapsed() >= Duration::from_millis(800));
}

#[tokio::test]
async fn silent_and_half_open_connections_hold_nothing_up() {
    let server = TestServer::start(routes()).await;
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    let mut half = TcpStream::connect(server.address()).await.unwrap();
    half.write_all(b"GET /quick HTT").await.unwrap();
    let kept_alive = reqwest_client();
    kept_alive
        .get(server.url("/quick"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let outcome = server
        .listener
        .stop(Instant::now() + Duration::from_secs(20))
        .await;
    assert_eq!(outcome.cut, 0, "they end by themselves, long before the deadline");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let flood = || async {
        Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, Infallible>(CHUNK.clone())
        }))
    };
    let server = TestServer::start(Router::new().route("/flood", get(flood))).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream
        .write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let outcome = server
        .listener
        .stop(Instant::now() + Duration::from_secs(20))
        .await;
    assert_eq!(outcome.cut, 0, "its connection ended by itself");
}

static CHUNK: Bytes = Bytes::from_static(&[0; 16 << 10]);

#[tokio::test]
async fn stopping_under_load_loses_no_request() {
    let server = TestServer::start(routes()).await;
    let address = server.address();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let client = reqwest_client();
                let mut answered = 0_u32;
                loop {
                    match client.get(format!("http://{address}/quick")).send().await {
                        Ok(answer) => {
                            assert_eq!(answer.status(), 200);
                            assert_eq!(answer.text().await.unwrap(), "quick");
                            answered += 1;
                        }
                        // Refused: nobody listens any more. Everything else is a request that was lost.
                        Err(error) => {
                            assert!(error.is_connect(), "a request was lost: {error:?}");
                            return answered;
                        }
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.app.drain();
    let outcome = server
        .listener
        .stop(Instant::now() + Duration::from_secs(10))
        .await;
    assert_eq!(outcome.cut, 0);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(answered > 100, "{answered}");
}
