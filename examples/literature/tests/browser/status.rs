//! The status page: numbers that change by themselves, on a desk and on a phone.

use std::time::{Duration, Instant};

use thirtyfour::prelude::*;

use super::Browser;
use super::operator::TOKEN;
use super::support::{LITERATURES, Service, Setup, pdf};

const NOBODY: &str = "01980b9c-6d8e-7c3a-9f10-6a1f5d1f2b3c";

/// Something for every part of the page: a record with its PDF and its job, and a request that fails.
async fn traffic(service: &Service) {
    // No language model is set up.
    let question = service
        .client
        .post(service.url(&format!("/api/v1/aia/conversations/{NOBODY}/messages")));
    let question = question
        .header("content-type", "application/json")
        .body(r#"{"content":"Why?"}"#);
    assert_eq!(question.send().await.expect("an answer").status(), 503);
    let pause = service
        .client
        .post(service.url("/admin/jobs/pause"))
        .bearer_auth(TOKEN);
    let pause = pause
        .header("content-type", "application/x-www-form-urlencoded")
        .body("queue=aia");
    assert_eq!(pause.send().await.expect("an answer").status(), 200);
    let id = service.one_record().await;
    service.upload(&id, "a.pdf", &pdf(2)).await;
    service.extracted(&id).await;
    for _ in 0..40 {
        service.json(LITERATURES).await;
    }
}

impl Browser {
    async fn figure(&self, test_id: &str) -> String {
        let selector = format!("[data-testid='{test_id}']");
        let start = Instant::now();
        loop {
            // The script may just be replacing it.
            if let Ok(element) = self.driver.find(By::Css(selector.clone())).await
                && let Ok(text) = element.text().await
            {
                return text;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no {selector}");
        }
    }

    /// Waits until it says something else, without loading the page again.
    async fn changes(&self, test_id: &str, from: &str) -> String {
        let start = Instant::now();
        loop {
            let now = self.figure(test_id).await;
            if now != from {
                return now;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{test_id} still says {from}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A command of Chromium's own protocol, which its driver passes on.
    async fn pretend(&self, command: &str, parameters: serde_json::Value) {
        let session = self.driver.handle().session_id().to_string();
        let path = format!(
            "http://127.0.0.1:{}/session/{session}/goog/cdp/execute",
            self.port
        );
        let body = serde_json::json!({"cmd": command, "params": parameters});
        let request = zhuji_testkit::http_client().post(path).body(body.to_string());
        let answer = request.send().await.expect("the driver answers");
        assert!(
            answer.status().is_success(),
            "{command}: {}",
            answer.text().await.unwrap_or_default()
        );
    }

    async fn in_the_dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = serde_json::json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.pretend("Emulation.setEmulatedMedia", features).await;
    }

    /// A picture of all of it, not only of what fits the window.
    async fn whole_page(&self, width: u32, name: &str) {
        let height = self.run("return document.documentElement.scrollHeight").await;
        let (scale, phone) = if width < 500 { (2, true) } else { (1, false) };
        let metrics = serde_json::json!({
            "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone,
        });
        self.pretend("Emulation.setDeviceMetricsOverride", metrics).await;
        self.shot(name).await;
        self.pretend("Emulation.clearDeviceMetricsOverride", serde_json::json!({}))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_follows_the_service_without_being_moved() {
    let Some(browser) = Browser::start(None).await else {
        return;
    };
    let setup = Setup::new().await.set("ADMIN_TOKEN", TOKEN);
    let service = setup.start().await;
    browser.log_in_to(&service, "/admin", TOKEN).await;
    browser.says("status", "ok").await;
    browser.says("health", "database").await;
    let (quiet, totals) = (
        browser.figure("chart-requests").await,
        browser.figure("totals").await,
    );
    browser.run("scrollTo(0, 200)").await;
    browser.run("window.untouched = true").await;

    traffic(&service).await;
    browser.changes("totals", &totals).await;
    browser.changes("chart-requests", &quiet).await;
    browser.changes("chart-latency", "–").await;
    browser.says("storage", "upload").await;
    browser.says("pool", "in use").await;
    browser.says("jobs", "paused").await;
    browser.says("errors", "/messages").await;
    let kept = browser.run("return [scrollY, window.untouched]").await;
    assert_eq!(
        kept,
        serde_json::json!([200, true]),
        "neither moved nor loaded again"
    );
    browser.fits().await;
    browser.whole_page(1280, "status-1-desk").await;
    browser.in_the_dark(true).await;
    browser.whole_page(1280, "status-2-desk-dark").await;
    browser.in_the_dark(false).await;

    browser
        .find("log-input")
        .await
        .send_keys("info,asl=trace")
        .await
        .expect("it can be typed into");
    browser.click("log-change").await;
    browser.says("log-filter", "info,asl=trace").await;
    browser.says("log-filter", "is info,asl=debug again").await;
    browser.click("log-reset").await;
    browser.says("log-filter", "In force: info,asl=debug.").await;

    // A service that is gone is not a page that looks well.
    drop(service);
    browser.stale().await;
    browser.shot("status-3-stale").await;
    browser.driver.clone().quit().await.expect("it ends");
}

impl Browser {
    async fn stale(&self) {
        let start = Instant::now();
        while self
            .run("return document.querySelector('[data-stale]').hidden")
            .await
            == true
        {
            assert!(start.elapsed() < Duration::from_secs(60), "it looks well");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_fits_a_phone() {
    let Some(browser) = Browser::start(Some(360)).await else {
        return;
    };
    let setup = Setup::new().await.set("ADMIN_TOKEN", TOKEN);
    let service = setup.start().await;
    traffic(&service).await;
    browser.log_in_to(&service, "/admin", TOKEN).await;
    browser.says("status", "ok").await;
    browser.changes("chart-latency", "–").await;
    browser.fits().await;
    browser.shot("status-phone-1").await;
    browser.in_the_dark(true).await;
    browser.whole_page(360, "status-phone-2-whole-dark").await;
    browser.complained_only_of(&["/admin"]).await;
    browser.driver.clone().quit().await.expect("it ends");
}
