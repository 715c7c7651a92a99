use axum::Router;
use axum::routing::{get, post};
use serde_json::Value;

use super::TestServer;
use crate::http::Problem;
use crate::server::{current_request, tag_module};

fn routes() -> Router {
    let routes = Router::new()
        .route("/fine", get(|| async { "fine" }))
        .route(
            "/trace",
            get(|| async { current_request().unwrap().trace.to_traceparent() }),
        )
        .route("/panic", get(panics))
        .route(
            "/gone",
            get(|| async { Problem::not_found("No such record.").with("id", 7) }),
        )
        .route("/json", post(|_: axum::Json<Value>| async {}));
    tag_module(routes, "test")
}

async fn panics() -> &'static str {
    panic!("the secret is 42")
}

#[tokio::test]
async fn a_request_id_comes_back_and_a_malformed_one_is_replaced() {
    let server = TestServer::start(routes()).await;
    let client = reqwest_client();
    let answer = client
        .get(server.url("/fine"))
        .header("x-request-id", "abc-1.2_3")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], "abc-1.2_3");
    let answer = client
        .get(server.url("/fine"))
        .header("x-request-id", "no spaces!")
        .send()
        .await
        .unwrap();
    let made = answer.headers()["x-request-id"].to_str().unwrap();
    assert_eq!(made.len(), 36, "a UUID takes its place: {made}");
}

#[tokio::test]
async fn a_trace_is_continued() {
    let server = TestServer::start(routes()).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = reqwest_client()
        .get(server.url("/trace"))
        .header("traceparent", parent)
        .send()
        .await
        .unwrap();
    let inside = answer.text().await.unwrap();
    assert!(
        inside.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{inside}"
    );
    assert_ne!(inside, parent, "with a span of its own");
}

#[tokio::test]
async fn every_error_is_a_problem_and_tells_no_secret() {
    let server = TestServer::start(routes()).await;
    let client = reqwest_client();
    let not_json = client
        .post(server.url("/json"))
        .header("content-type", "application/json")
        .body("{");
    for (request, status) in [
        (client.get(server.url("/nowhere")), 404),
        (client.get(server.url("/gone")), 404),
        (client.delete(server.url("/fine")), 405),
        (client.get(server.url("/panic")), 500),
        (not_json, 400),
    ] {
        let answer = request.header("x-request-id", "r1").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let text = answer.text().await.unwrap();
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], "r1");
        assert!(problem["title"].is_string() && problem["detail"].is_string() && problem["type"].is_string());
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn before_the_modules_are_up_only_liveness_is_well() {
    let server = TestServer::start(Router::new()).await;
    let client = reqwest_client();
    for (path, status) in [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("/health/startup", 503),
        ("/health", 503),
    ] {
        assert_eq!(
            client.get(server.url(path)).send().await.unwrap().status(),
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn health_begins_as_the_guide_shows_it_and_details_need_the_token() {
    let server = TestServer::with_health(routes()).await;
    let client = reqwest_client();
    for path in ["/health", "/api/v1/health"] {
        let text = client
            .get(server.url(path))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(
            text.starts_with(r#"{"status":"ok","database":"disabled","timestamp":""#),
            "{text}"
        );
        assert!(!text.contains("1.2.3"), "{text}");
    }
    let with = |token: &str| client.get(server.url("/health")).bearer_auth(token).send();
    assert!(
        with("the-token")
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("1.2.3")
    );
    assert!(
        !with("the-tokem")
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("1.2.3")
    );
}

pub(super) fn reqwest_client() -> reqwest::Client {
    zhuji_testkit::http_client()
}
