//! `/admin/jobs` over HTTP: who gets in, what is shown, what can be done.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::Service;

pub(super) const TOKEN: &str = "open-sesame-and-close-again";
const HOSTILE: &str = "%3Cscript%3Ealert(%221%22)%3C%2Fscript%3E";
const FORM: &str = "application/x-www-form-urlencoded";

/// A browser: a cookie, pages, and forms of pages.
pub(super) struct Browser<'a> {
    service: &'a Service,
    cookie: String,
}

impl Browser<'_> {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = self
            .service
            .client
            .get(self.service.url(path))
            .header(COOKIE, &self.cookie);
        let answer = request
            .header(ACCEPT, "text/html,*/*")
            .send()
            .await
            .expect("an answer");
        (answer.status(), answer.text().await.expect("a page"))
    }

    pub(super) async fn page(&self, path: &str) -> String {
        let (status, page) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        page
    }

    /// The hidden token of a page's forms.
    async fn form_token(&self) -> String {
        let page = self.page("/admin/jobs").await;
        let (_, rest) = page.split_once("name=\"form\" value=\"").expect("a form");
        rest.split_once('"').expect("an end").0.to_owned()
    }

    async fn post_from(&self, origin: &str, path: &str, body: &str) -> Response {
        let request = self
            .service
            .client
            .post(self.service.url(path))
            .header(COOKIE, &self.cookie);
        let request = request
            .header(ACCEPT, "text/html")
            .header("content-type", FORM)
            .header(ORIGIN, origin);
        request.body(body.to_owned()).send().await.expect("an answer")
    }

    /// Follows the redirect of a form that was accepted, and answers the page.
    pub(super) async fn submit(&self, path: &str, fields: &str) -> String {
        let body = format!("form={}&{fields}", self.form_token().await);
        let answer = self.post_from(&self.service.url(""), path, &body).await;
        let (status, next) = (answer.status(), answer.headers().get(LOCATION).cloned());
        assert_eq!(
            status,
            StatusCode::SEE_OTHER,
            "{path}: {}",
            answer.text().await.unwrap_or_default()
        );
        self.page(next.expect("a place to go").to_str().expect("text"))
            .await
    }
}

impl Service {
    pub(super) async fn login(&self, origin: &str, token: &str, next: &str) -> Response {
        let request = self
            .client
            .post(self.url("/admin/login"))
            .header(ORIGIN, origin)
            .header("content-type", FORM);
        request
            .body(format!("token={token}&next={next}"))
            .send()
            .await
            .expect("an answer")
    }

    pub(super) async fn browser(&self) -> Browser<'_> {
        let answer = self.login(&self.url(""), TOKEN, "/admin/jobs").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()[LOCATION], "/admin/jobs");
        let cookie = answer.headers()[SET_COOKIE].to_str().expect("text");
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/admin", "Max-Age=3600"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "this is plain http: {cookie}");
        assert!(!cookie.contains(TOKEN), "{cookie}");
        Browser {
            service: self,
            cookie: cookie.split(';').next().expect("a pair").to_owned(),
        }
    }

    /// As a machine.
    pub(super) async fn json(&self, path: &str) -> Value {
        let answer = self
            .client
            .get(self.url(path))
            .bearer_auth(TOKEN)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer_json(answer).await
    }

    async fn change(&self, path: &str, body: &'static str) -> (StatusCode, Value) {
        let request = self
            .client
            .post(self.url(path))
            .bearer_auth(TOKEN)
            .header("content-type", FORM);
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status(), answer_json(answer).await)
    }

    async fn enqueue(&self, method: reqwest::Method, name: &str) -> String {
        let request = self
            .client
            .request(method, self.url(&format!("/api/v1/notes/{name}")));
        answer_json(request.body("x").send().await.expect("an answer"))
            .await
            .as_str()
            .expect("text")
            .to_owned()
    }

    async fn forget(&self, name: &str) -> String {
        self.enqueue(reqwest::Method::DELETE, name).await
    }

    async fn reaches(&self, id: &str, state: &str) -> Value {
        let start = Instant::now();
        loop {
            let job = self.json(&format!("/admin/jobs/{id}")).await;
            if job["record"]["state"] == state {
                return job;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "not {state}: {job}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn answer_json(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
}

#[tokio::test]
async fn without_a_token_there_is_nothing_and_with_a_wrong_one_nobody_gets_in() {
    let closed = Service::start(&[]);
    for path in [
        "/admin",
        "/admin/jobs",
        "/admin/jobs/list",
        "/admin/login",
        "/admin/style.css",
    ] {
        assert_eq!(closed.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }

    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    let get = |path: &str| service.client.get(service.url(path));
    for path in ["/admin", "/admin/jobs", "/admin/jobs/list", "/admin/jobs/x"] {
        for request in [
            get(path),
            get(path).bearer_auth("wrong"),
            get(path).header(COOKIE, "zhuji_admin=1.2.3"),
        ] {
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
        let page = get(path)
            .header(ACCEPT, "text/html")
            .send()
            .await
            .expect("an answer");
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED, "{path}");
        let headers = page.headers().clone();
        assert!(
            page.text().await.expect("a page").contains("type=\"password\""),
            "{path}"
        );
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }
    let here = service.url("");
    assert_eq!(
        service.login(&here, "wrong", "/admin").await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        service
            .login("http://evil.example", TOKEN, "/admin")
            .await
            .status(),
        StatusCode::FORBIDDEN
    );
    let elsewhere = service.login(&here, TOKEN, "//evil.example/admin").await;
    assert_eq!(elsewhere.headers()[LOCATION], "/admin");
    let post = service
        .client
        .post(service.url("/admin/jobs/pause"))
        .body("queue=notes");
    assert_eq!(
        post.send().await.expect("an answer").status(),
        StatusCode::UNAUTHORIZED
    );

    let browser = service.browser().await;
    let logged_out = service
        .client
        .post(service.url("/admin/logout"))
        .header(COOKIE, &browser.cookie);
    let form = format!("form={}", browser.form_token().await);
    let answer = logged_out
        .header(ORIGIN, &here)
        .body(form)
        .send()
        .await
        .expect("an answer");
    assert!(
        answer.headers()[SET_COOKIE]
            .to_str()
            .expect("text")
            .contains("Max-Age=0")
    );

    let https = Service::start(&[("ADMIN_TOKEN", TOKEN), ("BASE_URL", "https://screening.example")]);
    let answer = https.login("https://screening.example", TOKEN, "/admin").await;
    assert!(
        answer.headers()[SET_COOKIE]
            .to_str()
            .expect("text")
            .contains("; Secure")
    );
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    let browser = service.browser().await;
    let (here, token) = (service.url(""), browser.form_token().await);
    let good = format!("form={token}&queue=notes");
    let other = service.browser().await.form_token().await;
    for (origin, body) in [
        ("http://evil.example", good.as_str()),
        ("null", &good),
        (&here, "queue=notes"),
        (&here, "form=&queue=notes"),
        (&here, "form=00&queue=notes"),
        (&here, &format!("form={other}&queue=notes")),
    ] {
        let refused = browser.post_from(origin, "/admin/jobs/pause", body).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{origin} {body}");
        assert!(
            refused
                .text()
                .await
                .expect("a page")
                .contains("data-testid=\"problem\"")
        );
    }
    let site = |site: &'static str| {
        let request = service
            .client
            .post(service.url("/admin/jobs/pause"))
            .header(COOKIE, &browser.cookie);
        request.header("sec-fetch-site", site).body(good.clone()).send()
    };
    for cross in ["cross-site", "same-site", "none"] {
        assert_eq!(
            site(cross).await.expect("an answer").status(),
            StatusCode::FORBIDDEN,
            "{cross}"
        );
    }
    assert_eq!(
        service.json("/admin/jobs").await["queues"],
        json!([]),
        "nothing was paused"
    );
    assert_eq!(
        site("same-origin").await.expect("an answer").status(),
        StatusCode::OK
    );
    assert_eq!(service.json("/admin/jobs").await["queues"][0]["paused"], true);
}

#[tokio::test]
async fn an_operator_pauses_cancels_retries_and_replays() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN)]);
    let browser = service.browser().await;

    let doomed = service.forget(HOSTILE).await;
    let job = service.reaches(&doomed, "dead").await;
    assert_eq!(job["history"][0]["outcome"], "failed");
    let page = browser.page(&format!("/admin/jobs/{doomed}")).await;
    for path in [
        "/admin/jobs/list?state=dead&queue=notes",
        &format!("/admin/jobs/list?queue={HOSTILE}&kind={HOSTILE}"),
    ] {
        assert!(!browser.page(path).await.contains("<script"), "{path}");
    }
    assert!(
        !page.contains("<script") && page.contains("&lt;script&gt;alert("),
        "{page}"
    );

    let page = browser.submit("/admin/jobs/pause", "queue=notes").await;
    assert!(
        page.contains("The queue is paused.") && page.contains("badge paused"),
        "{page}"
    );
    let page = browser.submit(&format!("/admin/jobs/{doomed}/retry"), "").await;
    assert!(
        page.contains("as soon as a worker is free") && page.contains("badge ready"),
        "{page}"
    );
    let page = browser.submit(&format!("/admin/jobs/{doomed}/cancel"), "").await;
    assert!(page.contains("The job is cancelled."), "{page}");
    // What can't be done is told on a page of its own.
    let body = format!("form={}", browser.form_token().await);
    let refused = browser
        .post_from(&service.url(""), &format!("/admin/jobs/{doomed}/cancel"), &body)
        .await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert!(refused.text().await.expect("a page").contains("it is cancelled"));
    browser.submit(&format!("/admin/jobs/{doomed}/retry"), "").await;
    let page = browser.submit("/admin/jobs/resume", "queue=notes").await;
    assert!(page.contains("The queue runs again."), "{page}");
    service.reaches(&doomed, "dead").await;

    // The note is there now: the replayed job finds it.
    let page = browser.page("/admin/jobs/list?state=dead").await;
    assert!(page.contains("Replay all of them"), "{page}");
    service.enqueue(reqwest::Method::PUT, HOSTILE).await;
    let page = browser
        .submit("/admin/jobs/dead/replay", "queue=notes&kind=forget")
        .await;
    assert!(page.contains("1 dead jobs are back"), "{page}");
    service.reaches(&doomed, "done").await;
    // A notice says what we wrote, and nothing that an address brings.
    let page = browser.page("/admin/jobs?done=%3Cb%3Esend+money").await;
    assert!(!page.contains("send money"), "{page}");

    for (path, status) in [
        ("/admin/jobs/no-uuid", StatusCode::NOT_FOUND),
        (
            "/admin/jobs/01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c",
            StatusCode::NOT_FOUND,
        ),
        ("/admin/jobs/list?state=asleep", StatusCode::BAD_REQUEST),
        ("/admin/jobs/list?after=x", StatusCode::BAD_REQUEST),
    ] {
        let (answered, page) = browser.get(path).await;
        assert_eq!(answered, status, "{path}");
        assert!(page.contains("data-testid=\"problem\""), "{path}: {page}");
    }
}

#[tokio::test]
async fn machines_get_json() {
    let service = Service::start(&[("ADMIN_TOKEN", TOKEN), ("ROLE", "web")]);
    for n in 0..5 {
        service.forget(&n.to_string()).await;
    }
    let first = service
        .json("/admin/jobs/list?queue=notes&state=ready&limit=3")
        .await;
    assert_eq!(first["jobs"].as_array().expect("a list").len(), 3);
    let next = first["next"].as_str().expect("there are more");
    let second = service
        .json(&format!("/admin/jobs/list?queue=notes&after={next}"))
        .await;
    assert_eq!(
        (second["jobs"].as_array().expect("a list").len(), &second["next"]),
        (2, &Value::Null)
    );
    let id = first["jobs"][0]["id"].as_str().expect("an id");

    let overview = service.json("/admin/jobs").await;
    assert_eq!(overview["queues"][0]["counts"]["ready"], 5, "{overview}");
    assert!(
        overview["queues"][0]["counts"]["oldest_ready_seconds"].is_number(),
        "{overview}"
    );
    let cancelled = json!({ "id": id, "cancellation": "cancelled" });
    assert_eq!(
        service.change(&format!("/admin/jobs/{id}/cancel"), "").await,
        (StatusCode::OK, cancelled)
    );
    let retried = json!({ "id": id, "retried": true });
    assert_eq!(
        service.change(&format!("/admin/jobs/{id}/retry"), "").await,
        (StatusCode::OK, retried)
    );
    let (status, problem) = service.change(&format!("/admin/jobs/{id}/retry"), "").await;
    assert_eq!((status, &problem["status"]), (StatusCode::CONFLICT, &json!(409)));
    let paused = json!({ "queue": "notes", "paused": true });
    assert_eq!(
        service.change("/admin/jobs/pause", "queue=notes").await,
        (StatusCode::OK, paused)
    );
    assert_eq!(
        service.change("/admin/jobs/pause", "").await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        service.change("/admin/jobs/dead/replay", "").await.1,
        json!({ "replayed": 0 })
    );
}
