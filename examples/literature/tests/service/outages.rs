//! Dependencies that go away, and shutdowns under load.

use crate::support::{LITERATURES, Setup, pdf, workbook};
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use zhuji_testkit::TestPostgres;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_away_and_comes_back_while_requests_run() {
    // What was committed must be there after the crash, as on a real server.
    let postgres = TestPostgres::options()
        .setting("synchronous_commit", "on")
        .start()
        .await;
    let database = postgres.database().await;
    let setup = Setup::with_database_url(&database.url()).set("ADMIN_TOKEN", "of-the-operator");
    let service = Arc::new(setup.start().await);
    let id = service.one_record().await;

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (service, stop) = (service.clone(), stop.clone());
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = service.call(Method::GET, LITERATURES).await;
                    if answer.status == 503 {
                        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                    }
                    statuses.push(answer.status);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                statuses
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    postgres.stop_immediate().await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let begin = Instant::now();
    let answer = service.call(Method::GET, &format!("{LITERATURES}/{id}")).await;
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    answer.is_problem(503, "database");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let answer = service.upload(&id, "x.pdf", &pdf(1)).await;
    answer.is_problem(503, "database");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let excel = workbook(&[&["title"], &["Another record"]]);
    let import = format!("{LITERATURES}/import");
    for answer in [
        service.send_file(&import, "x.xlsx", &excel).await,
        service.call(Method::DELETE, &format!("{LITERATURES}/{id}")).await,
        service
            .call(Method::GET, &format!("{LITERATURES}/{id}/pdf"))
            .await,
    ] {
        answer.is_problem(503, "database");
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    }
    assert_eq!(setup.stored_pdfs(), Vec::<String>::new());
    assert_eq!(
        service.get("/health/live").await.expect("an answer").status(),
        200
    );
    wait_for_health(&service, 503, "\"disconnected\"").await;

    // Now somebody wants to know what is going on.
    let begin = Instant::now();
    let page = service
        .client
        .get(service.url("/admin"))
        .bearer_auth("of-the-operator");
    let page = page.send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    let page = page.text().await.expect("a body");
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    assert!(!page.contains("postgres://"), "{page}");
    let status: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(status["status"], "error", "{status}");
    assert!(status["jobs"]["unknown"].is_string(), "{status}");
    assert!(
        !status["errors"].as_array().expect("a list").is_empty(),
        "{status}"
    );

    postgres.restart().await;
    wait_for_health(&service, 200, "\"connected\"").await;
    let answer = service.upload(&id, "x.pdf", &pdf(2)).await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", service.log().join("\n"));
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 2);
    stop.store(true, Ordering::Relaxed);
    for load in load {
        let statuses = load.await.expect("the load runs");
        assert!(
            statuses.iter().all(|status| [200, 503].contains(status)),
            "{statuses:?}"
        );
        assert!(
            statuses.contains(&503) && statuses.last() == Some(&200),
            "{statuses:?}"
        );
    }
}

async fn wait_for_health(service: &crate::support::Service, status: u16, word: &str) {
    let start = Instant::now();
    loop {
        let answer = service.get("/health").await.expect("an answer");
        let found = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        if found == status && text.contains(word) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{found} {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_request() {
    let setup = Setup::new().await.set("DRAIN_DELAY", "500ms");
    let service = setup.start().await;
    let id = service.one_record().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..8)
        .map(|worker| {
            let client = service.client.clone();
            let (list, upload) = (
                service.url(LITERATURES),
                service.url(&format!("{LITERATURES}/{id}/pdf")),
            );
            let answered = answered.clone();
            tokio::spawn(async move {
                loop {
                    let request = if worker == 0 {
                        let body = crate::support::multipart("file", "x.pdf", &pdf(1));
                        let content_type =
                            format!("multipart/form-data; boundary={}", crate::support::BOUNDARY);
                        client
                            .post(&upload)
                            .header("content-type", content_type)
                            .body(body)
                    } else {
                        client.get(&list)
                    };
                    match request.send().await {
                        Ok(response) => {
                            assert_eq!(response.status(), 200);
                            response.bytes().await.expect("a whole body");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        // Nobody listens any more: the request was never accepted, so it is not lost.
                        Err(error) if error.is_connect() => return,
                        Err(error) => panic!("a request was lost: {error:?}"),
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = service.terminate().await;
    assert!(status.success(), "{status}");
    for load in load {
        load.await.expect("no request was lost");
    }
    assert!(answered.load(Ordering::Relaxed) > 20, "there was no load");
    // The one that was stored last is the one that is named, and its job runs at the next start.
    let service = setup.start().await;
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 1);
    assert_eq!(setup.stored_pdfs().len(), 1);
}
