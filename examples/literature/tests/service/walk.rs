//! What a new user does first.

use crate::support::{LITERATURES, Service, Setup, fixture, pdf, protected_pdf, workbook};
use reqwest::Method;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};

/// Import, upload, watch, open, search, stop, start again.
pub(crate) async fn walk(setup: &Setup) {
    let service = setup.start().await;
    let made = workbook(&[
        &[
            "title", "authors", "year", "journal", "doi", "abstract", "included",
        ],
        &[
            "Blood lead and childhood",
            "A. One; B. Two",
            "2020",
            "Lancet",
            "10.1000/one",
            "Lead in blood.",
            "1",
        ],
        &[
            "Lead of the pack",
            "C. Three",
            "2019",
            "Nature",
            "",
            "Nothing of the other word.",
            "0",
        ],
        &[
            "肺癌筛查的系统综述",
            "王芳",
            "2021",
            "中华医学杂志",
            "10.1000/three",
            "目的",
            "",
        ],
    ]);
    let real = fixture("menon_2022.xlsx");
    let (file, records) = real.as_deref().map_or((made.as_slice(), 3), |real| (real, 975));

    let imported = service.import(file).await;
    assert_eq!(imported["success"], true);
    assert_eq!(imported["count"], records);
    assert_eq!(imported["inserted"], records);
    assert_eq!(imported["refused"], serde_json::json!([]));
    let again = service.import(file).await;
    assert_eq!(
        (&again["count"], &again["inserted"], &again["duplicates"]),
        (&records.into(), &0.into(), &records.into())
    );

    let page = service
        .json(&format!("{LITERATURES}?query=blood%20lead&page=1&per_page=20"))
        .await;
    assert!(
        page["total"]
            .as_u64()
            .is_some_and(|total| (1..20).contains(&total)),
        "{page}"
    );
    for record in page["items"].as_array().expect("a list") {
        let text = record.to_string().to_lowercase();
        assert!(text.contains("blood") && text.contains("lead"), "{record}");
    }
    let first = &page["items"][0];
    assert!(
        first["title"]
            .as_str()
            .is_some_and(|title| title.to_lowercase().contains("blood lead")),
        "{first}"
    );
    let id = first["id"].as_str().expect("an id").to_owned();

    let real = fixture("geotopo.pdf");
    let made = pdf(7);
    let (content, pages) = real.as_deref().map_or((made.as_slice(), 7), |real| (real, 117));
    let uploaded = service.upload(&id, "geotopo.pdf", content).await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    assert_eq!(uploaded.body["success"], true);
    assert_eq!(uploaded.body["size"], content.len());
    assert!(
        uploaded.body["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("http")),
        "{uploaded:?}"
    );

    let record = service.extracted(&id).await;
    assert_eq!(
        record["extraction"],
        serde_json::json!({"state": "done", "pages": pages, "error": null})
    );
    assert_eq!(record["pdf_file_size"], content.len());
    let key = record["pdf_oss_key"].as_str().expect("a key");
    assert!(key.starts_with("asl/pdfs/"), "{key}");
    check_download(&service, &id, content).await;

    let content_of_other = protected_pdf();
    let other = service.json(&format!("{LITERATURES}?page=2&per_page=1")).await["items"][0]["id"].clone();
    let other = other.as_str().expect("an id");
    assert_eq!(
        service
            .upload(other, "secret.pdf", &content_of_other)
            .await
            .status,
        200
    );
    let record = service.extracted(other).await;
    assert_eq!(record["extraction"]["state"], "failed");
    assert!(
        record["extraction"]["error"]
            .as_str()
            .is_some_and(|why| why.contains("password")),
        "{record}"
    );
    check_download(&service, other, &content_of_other).await;
    let gone = service
        .call(Method::DELETE, &format!("{LITERATURES}/{other}"))
        .await;
    assert_eq!((gone.status, &gone.body["success"]), (200, &true.into()));
    service
        .call(Method::GET, &format!("{LITERATURES}/{other}"))
        .await
        .is_problem(404, "no record");
    let total = service.json(LITERATURES).await["total"].clone();

    assert!(service.terminate().await.success());
    let service = setup.start().await;
    assert_eq!(service.json(LITERATURES).await["total"], total);
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    assert_eq!(record["extraction"]["pages"], pages);
    check_download(&service, &id, content).await;
    assert!(service.terminate().await.success());
}

/// The redirect leads to the same bytes, without any credential of ours.
pub(crate) async fn check_download(service: &Service, id: &str, content: &[u8]) {
    let redirect = service
        .get(&format!("{LITERATURES}/{id}/pdf"))
        .await
        .expect("an answer");
    assert!([302, 307].contains(&redirect.status().as_u16()), "{redirect:?}");
    let address = redirect.headers()[LOCATION]
        .to_str()
        .expect("an address")
        .to_owned();
    let pdf = service.client.get(&address).send().await.expect("an answer");
    assert_eq!(pdf.status(), 200, "{:?}", pdf.text().await);
    assert_eq!(pdf.headers()[CONTENT_TYPE], "application/pdf");
    let disposition = pdf.headers()[CONTENT_DISPOSITION]
        .to_str()
        .expect("plain letters");
    assert!(disposition.starts_with("inline"), "{disposition}");
    assert!(
        pdf.bytes().await.expect("a whole body") == content,
        "the bytes differ"
    );
    // The address without its signature is worth nothing.
    let bare = address.split('?').next().expect("an address");
    assert!(
        service
            .client
            .get(bare)
            .send()
            .await
            .expect("an answer")
            .status()
            .is_client_error()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_on_one_machine() {
    let setup = Setup::new().await;
    walk(&setup).await;
    assert_eq!(setup.stored_pdfs().len(), 1, "{:?}", setup.stored_pdfs());
}

#[tokio::test(flavor = "multi_thread")]
async fn searching_and_paging() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    service
        .import(&workbook(&[
            &["title", "authors", "journal", "abstract", "doi"],
            &["100% safe_method", "Müller", "J", "", ""],
            &["100 of safeXmethod", "Mueller", "J", "", ""],
            &["Back\\slash", "", "", "lead is in the blood", "10.5555/ABC"],
            &["Blood lead", "", "", "", ""],
        ]))
        .await;
    for (query, titles) in [
        (
            "",
            vec![
                "100% safe_method",
                "100 of safeXmethod",
                "Back\\slash",
                "Blood lead",
            ],
        ),
        ("100%25", vec!["100% safe_method"]),
        ("safe_", vec!["100% safe_method"]),
        ("%5C", vec!["Back\\slash"]),
        ("M%C3%9CLLER", vec!["100% safe_method"]),
        ("blood+lead", vec!["Blood lead", "Back\\slash"]),
        ("%22blood+lead%22", vec!["Blood lead"]),
        ("10.5555/abc", vec!["Back\\slash"]),
        (
            "%00",
            vec![
                "100% safe_method",
                "100 of safeXmethod",
                "Back\\slash",
                "Blood lead",
            ],
        ),
        ("';drop+table+literatures;--", vec![]),
    ] {
        let page = service.json(&format!("{LITERATURES}?query={query}")).await;
        let found: Vec<&str> = page["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|r| r["title"].as_str())
            .collect();
        assert_eq!(found, titles, "{query}");
        assert_eq!(page["total"], titles.len());
    }
    let page = service.json(&format!("{LITERATURES}?page=2&per_page=3")).await;
    assert_eq!(
        (&page["total"], &page["page"], &page["per_page"]),
        (&4.into(), &2.into(), &3.into())
    );
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    let page = service
        .json(&format!("{LITERATURES}?page=1000000&per_page=200"))
        .await;
    assert_eq!(page["items"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_pdf_and_a_deleted_record_leave_no_object() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    assert_eq!(service.upload(&id, "one.pdf", &pdf(2)).await.status, 200);
    assert_eq!(service.upload(&id, "two.pdf", &pdf(3)).await.status, 200);
    let record = service.extracted(&id).await;
    assert_eq!(record["extraction"]["pages"], 3);
    assert_eq!(setup.stored_pdfs().len(), 1);
    assert_eq!(
        service
            .call(Method::DELETE, &format!("{LITERATURES}/{id}"))
            .await
            .status,
        200
    );
    assert_eq!(setup.stored_pdfs(), Vec::<String>::new());
    service
        .call(Method::DELETE, &format!("{LITERATURES}/{id}"))
        .await
        .is_problem(404, "no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_operators_routes_answer() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let page = service.get(path).await.expect("an answer");
        assert_eq!(
            (page.status().as_u16(), &page.headers()[CONTENT_TYPE]),
            (200, &content_type.parse().expect("a header"))
        );
        assert!(page.headers().contains_key("content-security-policy"), "{page:?}");
        let tag = page.headers()["etag"].clone();
        let known = service
            .client
            .get(service.url(path))
            .header("if-none-match", tag)
            .send()
            .await
            .expect("an answer");
        assert_eq!(known.status(), 304);
    }
    let health = service
        .get("/health")
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    assert!(
        health.starts_with(r#"{"status":"ok","database":"connected","timestamp":""#),
        "{health}"
    );
    for path in [
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/api/v1/health",
        "/metrics",
    ] {
        assert_eq!(
            service.get(path).await.expect("an answer").status(),
            200,
            "{path}"
        );
    }
    service
        .call(Method::GET, "/api/v1/asl/nothing")
        .await
        .is_problem(404, "");
    service.call(Method::PUT, LITERATURES).await.is_problem(405, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_uploads_at_once_to_one_record_one_stays() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    let files: Vec<Vec<u8>> = (1..=8).map(pdf).collect();
    let uploads = files.iter().map(|file| service.upload(&id, "a.pdf", file));
    for answer in futures_util::future::join_all(uploads).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let record = service.extracted(&id).await;
    let stored = setup.stored_pdfs();
    assert_eq!(stored.len(), 1, "{stored:?}");
    let key = record["pdf_oss_key"].as_str().expect("a key");
    assert!(
        key.ends_with(&stored[0]) || stored[0].ends_with(key),
        "{key} is not {stored:?}"
    );
    assert_eq!(record["extraction"]["state"], "done");
    let pages = record["extraction"]["pages"].as_u64().expect("pages") as usize;
    assert_eq!(record["pdf_file_size"], files[pages - 1].len());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_memory_find_the_row_that_asked_for_them() {
    let setup = Setup::new().await.set("JOBS_TYPE", "memory");
    let service = setup.start().await;
    let id = service.one_record().await;
    for pages in 1..=5 {
        service.upload(&id, "a.pdf", &pdf(pages)).await;
        let record = service.extracted(&id).await;
        assert_eq!(record["extraction"]["pages"], pages, "{record}");
    }
}
