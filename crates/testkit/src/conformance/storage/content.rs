use std::collections::BTreeMap;

use zhuji_storage::{ErrorKind, PutOptions, SignOptions};

use super::{Case, kind};

pub(super) async fn types(case: Case) {
    for (key, expected) in [
        ("a.pdf", "application/pdf"),
        ("a.png", "image/png"),
        ("文献.html", "text/html"),
        ("noextension", "application/octet-stream"),
    ] {
        case.storage.upload(key, "x").await.unwrap();
        assert_eq!(
            case.storage.metadata(key).await.unwrap().content_type,
            expected,
            "{key}"
        );
    }
    let options = PutOptions::new().content_type("text/plain; charset=gbk");
    case.storage.upload_with("a.pdf", "x", options).await.unwrap();
    assert_eq!(
        case.storage.metadata("a.pdf").await.unwrap().content_type,
        "text/plain; charset=gbk"
    );
    // A later write starts afresh.
    case.storage.upload("a.pdf", "x").await.unwrap();
    assert_eq!(
        case.storage.metadata("a.pdf").await.unwrap().content_type,
        "application/pdf"
    );
}

pub(super) async fn disposition(case: Case) {
    let options = PutOptions::new().download_name("心脏 病+\"50%\".pdf");
    let expected = options.content_disposition.clone();
    case.storage.upload_with("a.pdf", "x", options).await.unwrap();
    assert_eq!(
        case.storage.metadata("a.pdf").await.unwrap().content_disposition,
        expected
    );
    let url = case
        .storage
        .signed_url("a.pdf", SignOptions::get())
        .await
        .unwrap();
    let answer = case.http.get(url.as_str()).send().await.unwrap();
    let header = answer.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(Some(header), expected.as_deref());
    assert!(header.contains("filename*=UTF-8''%E5%BF%83"), "{header}");
    assert_eq!(answer.headers()["content-type"], "application/pdf");
}

pub(super) async fn metadata(case: Case) {
    let values = [
        ("source", "zhuji"),
        ("title", "心脏病 100% +😀"),
        ("edges", " a "),
        ("empty-ish", "-"),
    ];
    let mut options = PutOptions::new();
    for (name, value) in values {
        options = options.metadata(name, value);
    }
    case.storage.upload_with("a", "x", options).await.unwrap();
    let expected: BTreeMap<String, String> = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(case.storage.metadata("a").await.unwrap().user, expected);
    assert_eq!(
        case.storage.download_stream("a", ()).await.unwrap().metadata.user,
        expected
    );
    case.storage.upload("a", "x").await.unwrap();
    assert!(case.storage.metadata("a").await.unwrap().user.is_empty());
    // As much as is allowed.
    let options = PutOptions::new().metadata("m", "v".repeat(2047));
    case.storage.upload_with("b", "x", options).await.unwrap();
    assert_eq!(case.storage.metadata("b").await.unwrap().user["m"].len(), 2047);
}

pub(super) async fn survive_copy(case: Case) {
    let options = PutOptions::new()
        .content_type("text/csv")
        .download_name("表.csv")
        .metadata("n", "值");
    case.storage.upload_with("a", "1,2", options).await.unwrap();
    case.storage.copy("a", "b.pdf").await.unwrap();
    let (a, b) = (
        case.storage.metadata("a").await.unwrap(),
        case.storage.metadata("b.pdf").await.unwrap(),
    );
    assert_eq!(
        (a.content_type, a.content_disposition, a.user),
        (b.content_type, b.content_disposition, b.user)
    );
}

pub(super) async fn refused(case: Case) {
    for options in [
        PutOptions::new().content_type("text/plain\r\nx: y"),
        PutOptions::new().content_type("文"),
        PutOptions::new().content_type(""),
        PutOptions::new().metadata("Upper", "x"),
        PutOptions::new().metadata("", "x"),
        PutOptions::new().metadata("a", "line\nfeed"),
        PutOptions::new().metadata("a", "x".repeat(2048)),
        PutOptions {
            content_disposition: Some("attachment; filename=文.pdf".to_owned()),
            ..PutOptions::new()
        },
    ] {
        assert_eq!(
            kind(case.storage.upload_with("a", "x", options.clone()).await),
            ErrorKind::InvalidInput,
            "{options:?}"
        );
    }
    assert!(!case.storage.exists("a").await.unwrap());
}
