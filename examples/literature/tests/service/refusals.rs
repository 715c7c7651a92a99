//! Every row of the error list: 400, 404, 413, 415; 503 is in `outages`.

use crate::support::{LITERATURES, Setup, large_pdf, multipart, pdf, workbook};
use reqwest::Method;
use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_understood() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    let import = format!("{LITERATURES}/import");
    let upload = format!("{LITERATURES}/{id}/pdf");
    for path in [&import, &upload] {
        service
            .call(Method::POST, path)
            .await
            .is_problem(400, "multipart");
        service
            .post_body(path, multipart("other", "x.pdf", &pdf(1)))
            .await
            .is_problem(400, "file");
        service
            .post_body(path, b"no multipart at all".to_vec())
            .await
            .is_problem(400, "");
        service.post_body(path, Vec::new()).await.is_problem(400, "");
    }
    for query in [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page=99999999999999999999",
        "per_page=0",
        "per_page=201",
    ] {
        service
            .call(Method::GET, &format!("{LITERATURES}?{query}"))
            .await
            .is_problem(400, "whole number");
    }
    service
        .call(Method::GET, &format!("{LITERATURES}?page=1&page=2"))
        .await
        .is_problem(400, "once");
    let long = "x".repeat(501);
    service
        .call(Method::GET, &format!("{LITERATURES}?query={long}"))
        .await
        .is_problem(400, "500");
    let many = "a+".repeat(21);
    service
        .call(Method::GET, &format!("{LITERATURES}?query={many}"))
        .await
        .is_problem(400, "20 words");
    service
        .send_file(&import, "x.xlsx", &workbook(&[&["name"], &["A"]]))
        .await
        .is_problem(400, "title");
    service
        .send_file(&import, "x.xlsx", &workbook(&[]))
        .await
        .is_problem(400, "headers");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_name_nothing() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let known = service.one_record().await;
    let long = "a".repeat(10_000);
    let upper = known.to_uppercase();
    let braced = format!("%7B{known}%7D");
    for id in [
        "01900000-0000-7000-8000-000000000000",
        "1",
        "-1",
        "x",
        "%00",
        "%FF%FE",
        "..%2F..%2Fetc%2Fpasswd",
        "%E6%96%87",
        "' or 1=1 --",
        &long,
        &upper,
        &braced,
    ] {
        let path = format!("{LITERATURES}/{id}");
        service
            .call(Method::GET, &path)
            .await
            .is_problem(404, "no record");
        service
            .call(Method::DELETE, &path)
            .await
            .is_problem(404, "no record");
        service
            .call(Method::GET, &format!("{path}/pdf"))
            .await
            .is_problem(404, "no record");
        service
            .send_file(&format!("{path}/pdf"), "x.pdf", &pdf(1))
            .await
            .is_problem(404, "no record");
    }
    service
        .call(Method::GET, &format!("{LITERATURES}/{known}/pdf"))
        .await
        .is_problem(404, "no PDF");
    assert_eq!(setup.stored_pdfs(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_wrong_kind_are_known_by_content() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    let upload = format!("{LITERATURES}/{id}/pdf");
    let import = format!("{LITERATURES}/import");
    service
        .send_file(&upload, "really.pdf", b"plain text")
        .await
        .is_problem(415, "not a PDF");
    service
        .send_file(&upload, "really.pdf", &workbook(&[&["title"]]))
        .await
        .is_problem(415, "not a PDF");
    service
        .send_file(&upload, "really.pdf", b"")
        .await
        .is_problem(400, "empty");
    // A name of another kind is no obstacle.
    assert_eq!(service.upload(&id, "photo.jpg", &pdf(1)).await.status, 200);
    service
        .send_file(&import, "records.xlsx", b"title,year\nA,2020\n")
        .await
        .is_problem(415, "CSV");
    service
        .send_file(&import, "records.xlsx", &pdf(1))
        .await
        .is_problem(415, "PDF");
    service
        .send_file(&import, "records.xlsx", b"")
        .await
        .is_problem(415, "empty");
    let old = [&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1][..], &[0; 600]].concat();
    service
        .send_file(&import, "records.xls", &old)
        .await
        .is_problem(415, ".xls");
    service
        .send_file(&import, "letter.docx", &zip(&[("word/document.xml", b"<w/>")]))
        .await
        .is_problem(415, "another kind");
    let cut = workbook(&[&["title"], &["A"]]);
    service
        .send_file(&import, "cut.xlsx", &cut[..cut.len() / 2])
        .await
        .is_problem(400, "damaged");
    assert_eq!(service.json(LITERATURES).await["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_larger_than_the_limit_leave_nothing() {
    let setup = Setup::new()
        .await
        .set("ASL_MAX_PDF_BYTES", "1MiB")
        .set("ASL_MAX_EXCEL_BYTES", "64KiB");
    let service = setup.start().await;
    let id = service.one_record().await;
    let upload = format!("{LITERATURES}/{id}/pdf");
    for size in [(1 << 20) + 1, 3 << 20, 40 << 20] {
        service
            .send_file(&upload, "large.pdf", &large_pdf(size))
            .await
            .is_problem(413, "1MiB");
    }
    let mut exact = large_pdf(1 << 19);
    exact.resize(1 << 20, b'\n');
    assert_eq!(service.upload(&id, "exact.pdf", &exact).await.status, 200);
    assert_eq!(setup.stored_pdfs().len(), 1);
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    assert_eq!(record["pdf_file_size"], 1 << 20);
    let mut excel = workbook(&[&["title"]]);
    excel.resize((64 << 10) + 1, 0);
    service
        .send_file(&format!("{LITERATURES}/import"), "x.xlsx", &excel)
        .await
        .is_problem(413, "64KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_bomb_and_a_billion_letters_end_with_their_request() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let import = format!("{LITERATURES}/import");
    let bomb = bomb();
    let before = service.memory();
    service
        .send_file(&import, "bomb.xlsx", &bomb)
        .await
        .is_problem(413, "unpacks");
    let mut wide = rust_xlsxwriter::Workbook::new();
    let sheet = wide.add_worksheet();
    sheet.write(0, 0, "title").expect("inside the sheet");
    for row in 1..2_200 {
        sheet.write(row, 0, "x".repeat(32_000)).expect("inside the sheet");
    }
    let wide = wide.save_to_buffer().expect("memory is enough");
    service
        .send_file(&import, "wide.xlsx", &wide)
        .await
        .is_problem(413, "text");
    let grown = service.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "the service itself grew by {grown} bytes");
    assert_eq!(service.json(LITERATURES).await["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_pdf_marks_its_record_and_harms_nothing_else() {
    let setup = Setup::new().await.set("ASL_EXTRACTION_TIME_LIMIT", "5s");
    let service = setup.start().await;
    let id = service.one_record().await;
    let nested = [
        &b"%PDF-1.4\n1 0 obj\n"[..],
        &b"[".repeat(2_000_000),
        b"\nendobj\n%%EOF",
    ]
    .concat();
    for (name, content) in [
        ("stub.pdf", b"%PDF-1.4".to_vec()),
        ("noise.pdf", [&b"%PDF-1.7\n"[..], &[0xA5; 100_000]].concat()),
        ("nested.pdf", nested),
        ("cut.pdf", pdf(3)[..700].to_vec()),
    ] {
        assert_eq!(service.upload(&id, name, &content).await.status, 200, "{name}");
        let record = service.extracted(&id).await;
        assert_eq!(record["extraction"]["state"], "failed", "{name}: {record}");
        assert!(
            record["extraction"]["error"]
                .as_str()
                .is_some_and(|why| why.len() > 10),
            "{name}: {record}"
        );
    }
    assert_eq!(service.upload(&id, "good.pdf", &pdf(2)).await.status, 200);
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 2);
}

/// A small file that unpacks to 320 MiB: one part of 16 MiB, twenty times.
fn bomb() -> Vec<u8> {
    let part = zip(&[("blank", &vec![b' '; 16 << 20])]);
    let mut part = zip::ZipArchive::new(Cursor::new(part)).expect("it was just made");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer
        .start_file("xl/workbook.xml", SimpleFileOptions::default())
        .expect("memory is enough");
    for number in 0..20 {
        let entry = part.by_index_raw(0).expect("it has one");
        writer
            .raw_copy_file_rename(entry, format!("xl/worksheets/sheet{number}.xml"))
            .expect("memory is enough");
    }
    writer.finish().expect("memory is enough").into_inner()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("memory is enough");
        writer.write_all(content).expect("memory is enough");
    }
    writer.finish().expect("memory is enough").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdf_too_large_to_be_read_is_kept_and_says_so() {
    let setup = Setup::new().await.set("ASL_EXTRACTION_MEMORY_LIMIT", "256MiB");
    let service = setup.start().await;
    let id = service.one_record().await;
    let uploaded = service.upload(&id, "x.pdf", &large_pdf(64 << 20)).await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    let record = service.extracted(&id).await;
    assert_eq!(record["extraction"]["state"], "failed");
    let why = record["extraction"]["error"].as_str().expect("a sentence");
    assert!(why.contains("too large") && why.contains("64MiB"), "{why}");
    assert_eq!(setup.stored_pdfs().len(), 1);
}
