//! What a site's people do, from the first import to the restart after an upgrade.

use super::drain;
use super::record::Record;
use super::site::Site;
use super::{SCENARIO, full};
use crate::support::{LITERATURES, Service, fixture, large_pdf, pdf, workbook};
use crate::walk::check_download;
use reqwest::Method;
use std::time::{Duration, Instant};

/// A record with its PDF, as it must still be after the restart.
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) content: Vec<u8>,
    pub(super) pages: usize,
}

pub(super) async fn run(site: &Site, record: &mut Record) {
    let [
        health,
        import,
        search,
        upload,
        extraction,
        download,
        deletion,
        sigterm,
        restart,
    ] = SCENARIO;
    let mut fleet = site.start().await;
    let one = || &fleet[0];
    let other = || fleet.last().expect("there is one");

    for service in &fleet {
        let said = service.json("/health").await;
        assert_eq!(
            (&said["status"], &said["database"]),
            (&"ok".into(), &"connected".into())
        );
    }
    record.passed(health);

    let (file, count) = records();
    let imported = one().import(&file).await;
    assert_eq!(
        (&imported["inserted"], &imported["refused"]),
        (&count.into(), &serde_json::json!([]))
    );
    let again = other().import(&file).await;
    assert_eq!(again["duplicates"], count, "{again}");
    record.passed(import);

    let found = other()
        .json(&format!("{LITERATURES}?query=blood%20lead&per_page=5"))
        .await;
    assert!(found["total"].as_u64().is_some_and(|total| total > 0), "{found}");
    let text = found["items"][0].to_string().to_lowercase();
    assert!(text.contains("blood") && text.contains("lead"), "{text}");
    record.passed(search);

    let mut kept = Vec::new();
    let ids = ids(one(), 30).await;
    for (turn, (id, (content, pages))) in ids.iter().zip(files()).enumerate() {
        let answer = fleet[turn % fleet.len()].upload(id, "a file.pdf", &content).await;
        assert_eq!(
            (answer.status, &answer.body["size"]),
            (200, &content.len().into()),
            "{answer:?}"
        );
        let id = id.clone();
        kept.push(Kept { id, content, pages });
    }
    record.passed(upload);

    for file in &kept {
        let extracted = other().extracted(&file.id).await;
        let expected = serde_json::json!({"state": "done", "pages": file.pages, "error": null});
        assert_eq!(extracted["extraction"], expected);
    }
    record.passed(extraction);

    for file in &kept {
        check_download(other(), &file.id, &file.content).await;
    }
    record.passed(download);

    let gone = kept.pop().expect("there are several").id;
    let path = format!("{LITERATURES}/{gone}");
    assert_eq!(one().call(Method::DELETE, &path).await.status, 200);
    other()
        .call(Method::GET, &path)
        .await
        .is_problem(404, "no record");
    assert_eq!(site.stored_pdfs().len(), kept.len(), "{:?}", site.stored_pdfs());
    record.passed(deletion);

    // Those records have no PDF yet.
    let total = one().json(LITERATURES).await["total"].clone();
    kept.extend(drain::run(&mut fleet, &ids[20..]).await);
    record.passed(sigterm);

    let begin = Instant::now();
    let service = site.setups[0].start().await;
    until_healthy(&service).await;
    record.started_in(begin.elapsed());
    assert_eq!(service.json(LITERATURES).await["total"], total);
    for file in &kept {
        // Also those whose extraction the stop has put off.
        assert_eq!(
            service.extracted(&file.id).await["extraction"]["pages"],
            file.pages
        );
        check_download(&service, &file.id, &file.content).await;
    }
    assert!(service.terminate().await.success());
    for service in fleet {
        assert!(service.terminate().await.success());
    }
    record.passed(restart);
}

async fn until_healthy(service: &Service) {
    let begin = Instant::now();
    while !service
        .get("/health")
        .await
        .is_ok_and(|answer| answer.status() == 200)
    {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{}",
            service.log().join("\n")
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The first ids of the list.
pub(super) async fn ids(service: &Service, count: usize) -> Vec<String> {
    let page = service.json(&format!("{LITERATURES}?per_page={count}")).await;
    let items = page["items"].as_array().expect("a list");
    let ids: Vec<String> = items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), count);
    ids
}

/// An Excel file, and how many records it holds.
pub(super) fn records() -> (Vec<u8>, usize) {
    if full()
        && let Some(real) = fixture("menon_2022.xlsx")
    {
        return (real, 975);
    }
    let count = if full() { 975 } else { 40 };
    let titles: Vec<String> = (1..count)
        .map(|number| format!("Record number {number}"))
        .collect();
    let rows: Vec<[&str; 2]> = titles.iter().map(|title| [title.as_str(), "2020"]).collect();
    let mut cells: Vec<&[&str]> = vec![&["title", "year"], &["Blood lead and childhood", "2019"]];
    cells.extend(rows.iter().map(<[&str; 2]>::as_slice));
    (workbook(&cells), count)
}

/// PDFs of several sizes with the number of their pages.
fn files() -> Vec<(Vec<u8>, usize)> {
    let (count, large) = if full() { (10, 16 << 20) } else { (3, 1 << 20) };
    let mut files: Vec<(Vec<u8>, usize)> = (1..=count).map(|pages| (pdf(pages), pages)).collect();
    files.insert(0, (large_pdf(large), 1));
    if full()
        && let Some(real) = fixture("geotopo.pdf")
    {
        files.insert(0, (real, 117));
    }
    files
}
