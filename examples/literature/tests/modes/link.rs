//! A hybrid site whose line to the cloud is cut and mended.

use super::record::Record;
use super::scenario::{ids, records};
use super::site::Site;
use super::{KILLED, LINK_BACK, LINK_CUT, NEVER_LEAVES, RESIDENT, full};
use crate::support::{LITERATURES, Service, Setup, pdf};
use crate::walk::check_download;
use std::time::{Duration, Instant};
use zhuji_testkit::FaultProxy;
use zhuji_testkit::oss::OssServer;

/// Files that are meant for OSS: acknowledged while the link is down, and sent in their order when it is back.
pub(super) async fn shared_files(site: &Site, record: &mut Record) {
    let (oss, link) = ends(site);
    let mut service = site.setups[0].start().await;
    let ids = ids(&service, 30).await;
    let count = if full() { 9 } else { 4 };
    let before = site.stored_pdfs();

    link.refuse().await;
    let mut sent = Vec::new();
    // The first of them have a PDF already.
    for (turn, id) in ids[ids.len() - count..].iter().enumerate() {
        let content = pdf(turn + 1);
        sent.push((id.clone(), upload(&service, id, &content).await, content));
    }
    assert_eq!(
        site.stored_pdfs(),
        before,
        "something went through a link that was cut"
    );
    record.passed(LINK_CUT);

    service.kill();
    let service = site.setups[0].start().await;
    for (id, key, _) in &sent {
        assert_eq!(
            service.json(&format!("{LITERATURES}/{id}")).await["pdf_oss_key"],
            **key
        );
    }
    assert_eq!(site.stored_pdfs(), before);
    record.passed(KILLED);

    oss.clear_requests();
    link.accept_again().await;
    let begin = Instant::now();
    while sent.iter().any(|(_, key, _)| oss.object_bytes(key).is_none()) {
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "{}",
            service.log().join("\n")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let keys: Vec<&String> = sent.iter().map(|(_, key, _)| key).collect();
    let arrived: Vec<String> = oss
        .requests()
        .into_iter()
        .filter(|request| request.status == 200 && request.method == "PUT" && keys.contains(&&request.key))
        .map(|request| request.key)
        .collect();
    assert_eq!(
        arrived.iter().collect::<Vec<_>>(),
        keys,
        "each once, and in order"
    );
    for (id, key, content) in &sent {
        assert!(
            oss.object_bytes(key).is_some_and(|bytes| bytes == content),
            "{key} differs"
        );
        check_download(&service, id, content).await;
    }
    assert!(service.terminate().await.success());
    record.passed(LINK_BACK);
}

/// Files that must stay on site: the link makes no difference to them, and nothing of them is ever sent.
pub(super) async fn resident_files(site: &Site, record: &mut Record) {
    let (oss, link) = ends(site);
    let before = site.stored_pdfs();
    oss.clear_requests();
    let setup: Setup = site
        .another_hybrid()
        .await
        .set("STORAGE_RESIDENT_PREFIXES", "asl/pdfs/");
    let service = setup.start().await;
    service.import(&records().0).await;
    let ids = ids(&service, 2).await;
    upload(&service, &ids[0], &pdf(1)).await;

    link.refuse().await;
    check_download(&service, &ids[0], &pdf(1)).await;
    upload(&service, &ids[1], &pdf(2)).await;
    for (id, pages) in ids.iter().zip(1..) {
        assert_eq!(service.extracted(id).await["extraction"]["pages"], pages);
        check_download(&service, id, &pdf(pages)).await;
    }
    link.accept_again().await;
    record.passed(RESIDENT);

    assert!(service.terminate().await.success());
    assert_eq!(setup.stored_pdfs().len(), 2, "{:?}", setup.stored_pdfs());
    assert_eq!(site.stored_pdfs(), before);
    // Not even asked for by name. What is not resident, such as the sweep's mark, may be.
    let named: Vec<String> = oss
        .requests()
        .into_iter()
        .filter(|request| request.key.starts_with("asl/pdfs/"))
        .map(|request| format!("{} {}", request.method, request.key))
        .collect();
    assert_eq!(named, Vec::<String>::new());
    record.passed(NEVER_LEAVES);
}

fn ends(site: &Site) -> (&OssServer, &FaultProxy) {
    let oss = site.oss.as_ref().expect("hybrid sites have it");
    (oss, site.link.as_ref().expect("hybrid sites have it"))
}

/// Uploads, and answers with the key it is kept under.
async fn upload(service: &Service, id: &str, content: &[u8]) -> String {
    let answer = service.upload(id, "a file.pdf", content).await;
    assert_eq!(
        (answer.status, &answer.body["size"]),
        (200, &content.len().into()),
        "{answer:?}"
    );
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    record["pdf_oss_key"].as_str().expect("a key").to_owned()
}
