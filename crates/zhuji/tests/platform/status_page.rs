//! `/admin` and `/admin/log-filter` over HTTP: who gets in, what is shown, and what guessing costs.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_SECURITY_POLICY, RETRY_AFTER, SET_COOKIE};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use super::Service;
use super::jobs_pages::TOKEN;

impl Service {
    async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: &'static str) -> Response {
        let mut request = self.client.request(method, self.url(path)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request
            .header("content-type", "application/json")
            .send()
            .await
            .expect("an answer")
    }
}

#[tokio::test]
async fn without_a_token_of_the_service_there_is_no_page_and_no_filter() {
    let closed = Service::start(&[]);
    for (method, path) in [
        (Method::GET, "/admin"),
        (Method::GET, "/admin/status.js"),
        (Method::GET, "/admin/log-filter"),
        (Method::PUT, "/admin/log-filter"),
        (Method::POST, "/admin/log-filter"),
        (Method::DELETE, "/admin/log-filter"),
    ] {
        let answer = closed.ask(method.clone(), path, Some(TOKEN), "").await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {path}");
    }
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
        let answer = service.ask(method.clone(), "/admin/log-filter", None, "").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method}");
    }
    assert_eq!(
        service.ask(Method::GET, "/admin", None, "").await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn the_page_tells_what_the_process_knows() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    service
        .ask(Method::PUT, "/api/v1/notes/a.txt", None, "x")
        .await
        .error_for_status()
        .expect("it is written");
    let nothing = service
        .ask(Method::POST, "/api/v1/notes/isolated/fine", None, "")
        .await;
    assert_eq!(nothing.status(), StatusCode::OK);
    let start = Instant::now();
    let status = loop {
        let status = service.json("/admin").await;
        if status["requests"]["total"] == 2 && status["requests"]["p99_seconds"].is_number() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&status["status"], &status["service"]),
        (&"ok".into(), &"tiny".into())
    );
    assert_eq!(status["facts"]["modules"], "notes, ping");
    assert_eq!(status["facts"]["mode"], "standalone");
    assert!(status["requests"]["per_second"].as_f64() > Some(0.0), "{status}");
    let checks: Vec<_> = status["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|check| &check["name"])
        .collect();
    assert_eq!(checks, ["storage", "cache", "jobs"]);
    let operations = status["storage"]["operations"].as_array().expect("a list");
    let upload = operations
        .iter()
        .find(|operation| operation["operation"] == "upload")
        .expect("it is there");
    assert_eq!((&upload["count"], &upload["errors"]), (&1.into(), &0.into()));
    assert_eq!(
        (&status["cache"]["breaker_open"], &status["pool"]),
        (&false.into(), &Value::Null)
    );
    assert!(status["jobs"]["queues"].is_array(), "{status}");
    assert_eq!(status["log"]["filter"], "info");

    let browser = service.browser().await;
    let page = browser.page("/admin").await;
    for part in [
        "data-testid=\"chart-requests\"",
        "<svg",
        "notes, ping",
        "upload",
        "/admin/status.js",
        "2 requests",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains(TOKEN) && !page.contains(" style="), "{page}");
    let answer = service
        .client
        .get(service.url("/admin"))
        .header(ACCEPT, "text/html")
        .bearer_auth(TOKEN);
    let answer = answer.send().await.expect("an answer");
    let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text");
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        answer.headers().get(SET_COOKIE).is_none(),
        "a machine gets no session"
    );
}

#[tokio::test]
async fn what_went_wrong_is_listed_without_secrets() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    let request = service
        .client
        .post(service.url("/api/v1/notes/isolated/nonsense"));
    let answer = request
        .header("x-request-id", "the-bad-one")
        .send()
        .await
        .expect("an answer");
    // Jobs that die for good are errors, too.
    service
        .ask(Method::DELETE, "/api/v1/notes/password=hush-hush", None, "")
        .await;
    let start = Instant::now();
    let errors = loop {
        let errors = service.json("/admin").await["errors"].clone();
        if errors
            .as_array()
            .is_some_and(|errors| errors.iter().any(|error| error["module"] == "notes"))
        {
            break errors;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{errors} after {}",
            answer.status()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        errors[0]["time"].is_string() && errors[0]["kind"].is_string(),
        "{errors}"
    );
    assert!(!errors.to_string().contains("hush-hush"), "{errors}");
}

#[tokio::test]
async fn the_filter_changes_for_a_while_and_says_when_it_returns() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN), ("LOG_LEVEL", "info,hyper=error")]);
    let filter = async || service.json("/admin/log-filter").await;
    let first = filter().await;
    assert_eq!(
        (&first["filter"], &first["returns_in_seconds"]),
        (&"info,hyper=error".into(), &Value::Null)
    );

    let bad = service
        .ask(
            Method::PUT,
            "/admin/log-filter",
            Some(TOKEN),
            r#"{"filter":"shout"}"#,
        )
        .await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    let problem: Value = serde_json::from_str(&bad.text().await.expect("a body")).expect("JSON");
    assert!(
        problem["detail"].as_str().expect("text").contains("no level"),
        "{problem}"
    );
    assert_eq!(filter().await, first, "nothing changed");

    let body = r#"{"filter":"debug","for":"1h"}"#;
    let changed = service
        .ask(Method::PUT, "/admin/log-filter", Some(TOKEN), body)
        .await;
    assert_eq!(changed.status(), StatusCode::OK);
    let now = filter().await;
    assert_eq!(
        (&now["filter"], &now["configured"]),
        (&"debug".into(), &first["filter"])
    );
    assert!(
        (3500..=3600).contains(&now["returns_in_seconds"].as_u64().expect("a number")),
        "{now}"
    );
    let back = service
        .ask(Method::DELETE, "/admin/log-filter", Some(TOKEN), "")
        .await;
    assert_eq!((back.status(), filter().await), (StatusCode::OK, first.clone()));

    let body = r#"{"filter":"debug","for":"300ms"}"#;
    service
        .ask(Method::PUT, "/admin/log-filter", Some(TOKEN), body)
        .await;
    let start = Instant::now();
    while filter().await != first {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not return");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let browser = service.browser().await;
    let page = browser
        .submit("/admin/log-filter", "filter=info%2Cnotes%3Dtrace&for=10m")
        .await;
    assert!(
        page.contains("info,notes=trace") && page.contains("log-reset"),
        "{page}"
    );
    let page = browser.submit("/admin/log-filter", "").await;
    assert!(
        page.contains("<code>info,hyper=error</code>.") && !page.contains("log-reset"),
        "{page}"
    );
}

#[tokio::test]
async fn guessing_the_token_is_slow_and_a_session_goes_on() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    let browser = service.browser().await;
    let here = service.url("");
    for guess in 0..10 {
        let status = match guess % 3 {
            0 => service.login(&here, "wrong", "/admin").await.status(),
            1 => service
                .ask(Method::GET, "/admin/log-filter", Some("wrong"), "")
                .await
                .status(),
            _ => {
                // Told nothing, but counted.
                let health = service.ask(Method::GET, "/health", Some("wrong"), "").await;
                assert!(!health.text().await.expect("a body").contains("checks"));
                StatusCode::UNAUTHORIZED
            }
        };
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{guess}");
    }
    for token in ["wrong", TOKEN] {
        let login = service.login(&here, token, "/admin").await;
        let machine = service.ask(Method::GET, "/admin", Some(token), "").await;
        for answer in [login, machine] {
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{token}");
            let after = answer.headers()[RETRY_AFTER]
                .to_str()
                .expect("text")
                .parse::<u64>();
            assert!((1..=61).contains(&after.expect("seconds")));
        }
        let health = service.ask(Method::GET, "/health", Some(token), "").await;
        assert_eq!(
            health.status(),
            StatusCode::OK,
            "a probe is answered whatever it carries"
        );
        assert!(!health.text().await.expect("a body").contains("checks"));
    }
    browser.page("/admin").await;
}
