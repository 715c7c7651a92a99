use zhuji_storage::{ErrorKind, ListOptions};

use super::{Case, kind};

/// Legal keys that break clients which don't encode, encode twice, trim, or decode.
pub(super) const WEIRD: &[&str] = &[
    "plain.txt",
    "with space.txt",
    " leading and trailing ",
    "plus+plus.txt",
    "100%.txt",
    "a%2Fb.txt",
    "%",
    "q?x=1&y#z.txt",
    "semi;colon:at@=,$.txt",
    "~!*'()[]{}|^`<>\".txt",
    "back\\slash",
    "心脏病/文献 2025.pdf",
    "emoji 😀/👩‍⚕️.png",
    "e\u{301} and é",
    "...",
    "a/.hidden/..b/c..",
    ".zhuji-like",
    "ends#1",
    "CON",
    "a&amp;b<Key>",
];

pub(super) async fn weird(case: Case) {
    let longest = format!("{}/{}", "s".repeat(255), "文".repeat(85));
    let keys = || WEIRD.iter().copied().chain([longest.as_str()]);
    for (index, key) in keys().enumerate() {
        let stored = case.storage.upload(key, format!("content {index}")).await;
        assert_eq!(stored.unwrap_or_else(|error| panic!("{key:?}: {error}")).key, key);
    }
    for (index, key) in keys().enumerate() {
        assert_eq!(
            case.storage.download(key).await.unwrap(),
            format!("content {index}"),
            "{key:?}"
        );
        assert_eq!(case.storage.metadata(key).await.unwrap().key, key);
        let listed = case.storage.list(key, ListOptions::new()).await.unwrap();
        assert!(
            listed.entries.iter().any(|entry| entry.key == key),
            "{key:?} is not listed: {listed:?}"
        );
    }
    let listed = case.storage.list("", ListOptions::new()).await.unwrap();
    let mut expected: Vec<&str> = keys().collect();
    expected.sort_unstable();
    assert_eq!(
        listed
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        expected
    );
    for key in keys() {
        let url = case.storage.signed_url(key, Default::default()).await.unwrap();
        let answer = case.http.get(url.as_str()).send().await.unwrap();
        assert!(answer.status().is_success(), "{key:?}: {}", answer.status());
        case.storage.copy(key, "copied").await.unwrap();
        case.storage.delete(key).await.unwrap();
        assert!(!case.storage.exists(key).await.unwrap(), "{key:?}");
    }
}

pub(super) async fn invalid(case: Case) {
    let long_segment = "s".repeat(256);
    let long_key = "d/".repeat(600);
    for key in [
        "",
        "/",
        "/absolute",
        "\\absolute",
        "../up",
        "a/../../b",
        "a/..",
        ".",
        "./a",
        "a//b",
        "a/",
        "nul\0",
        "line\nfeed",
        "return\r",
        "tab\t",
        &long_segment,
        &long_key,
    ] {
        assert_eq!(
            kind(case.storage.upload(key, "x").await),
            ErrorKind::InvalidKey,
            "{key:?}"
        );
        assert_eq!(
            kind(case.storage.download(key).await),
            ErrorKind::InvalidKey,
            "{key:?}"
        );
        assert_eq!(
            kind(case.storage.delete(key).await),
            ErrorKind::InvalidKey,
            "{key:?}"
        );
        assert_eq!(
            kind(case.storage.signed_url(key, Default::default()).await),
            ErrorKind::InvalidKey,
            "{key:?}"
        );
    }
    assert!(
        case.storage
            .list("", ListOptions::new())
            .await
            .unwrap()
            .entries
            .is_empty()
    );
}

pub(super) async fn key_and_deeper_key(case: Case) {
    case.storage.upload("a", "one").await.unwrap();
    case.storage.upload("a/b", "two").await.unwrap();
    assert_eq!(case.storage.download("a").await.unwrap(), "one");
    assert_eq!(case.storage.download("a/b").await.unwrap(), "two");
}

pub(super) async fn scoped(case: Case) {
    let (one, two) = (case.storage.scoped("one"), case.storage.scoped("two"));
    one.upload("k", "1").await.unwrap();
    two.upload("k", "2").await.unwrap();
    one.scoped("deep").upload("k", "3").await.unwrap();
    assert_eq!(one.download("k").await.unwrap(), "1");
    assert_eq!(two.download("k").await.unwrap(), "2");
    assert_eq!(case.storage.download("one/deep/k").await.unwrap(), "3");
    let listed = one.list("", ListOptions::new()).await.unwrap();
    assert_eq!(
        listed
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["deep/k", "k"]
    );
    assert_eq!(kind(one.download("../two/k").await), ErrorKind::InvalidKey);
    let error = one.download("missing").await.unwrap_err();
    assert_eq!(
        error.subject(),
        "missing",
        "an error names the key as the caller does"
    );
    assert_eq!(
        kind(case.storage.scoped("../up").download("k").await),
        ErrorKind::InvalidKey
    );
    assert_eq!(
        kind(case.storage.scoped("../up").list("", ListOptions::new()).await),
        ErrorKind::InvalidKey
    );
    let page = one.list("", ListOptions::new().limit(1)).await.unwrap();
    let next = one
        .list("", ListOptions::new().after(page.next.unwrap()))
        .await
        .unwrap();
    assert_eq!(next.entries.len(), 1);
}
