use futures_util::TryStreamExt;
use zhuji_storage::{Entry, ErrorKind, ListOptions, ListPage};

use super::{Case, kind};

fn keys(page: &ListPage) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.key.as_str()).collect()
}

/// Byte order of the whole key, which is neither that of a directory walk nor that of a locale.
pub(super) async fn order(case: Case) {
    let mut all = [
        "a/b", "a-b", "a.b", "a0", "a/", "B", "b", "ä", "a/c/d", "a/b-", "中", "a b", "~",
    ]
    .map(str::to_owned);
    all[4] = "a/a".to_owned();
    for key in &all {
        case.storage.upload(key, key.clone()).await.unwrap();
    }
    all.sort_unstable();
    let page = case.storage.list("", ListOptions::new()).await.unwrap();
    assert_eq!(keys(&page), all.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(page.folders.is_empty() && page.next.is_none());
    for Entry {
        key,
        size,
        last_modified,
        ..
    } in page.entries
    {
        assert_eq!(size, key.len() as u64);
        assert!(
            jiff::Timestamp::now()
                .duration_since(last_modified)
                .as_secs()
                .abs()
                < 60
        );
    }
}

pub(super) async fn paging(case: Case) {
    let mut all: Vec<String> = (0..25)
        .map(|index| format!("p/{}/{index:03}", index % 3))
        .collect();
    for key in &all {
        case.storage.upload(key, "x").await.unwrap();
    }
    all.sort_unstable();
    for limit in [1, 7, 25, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = case
                .storage
                .list(
                    "p/",
                    ListOptions {
                        after,
                        limit,
                        delimiter: None,
                    },
                )
                .await
                .unwrap();
            assert!(page.entries.len() <= limit);
            seen.extend(page.entries.into_iter().map(|entry| entry.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
    let streamed: Vec<Entry> = case.storage.list_all("p/").try_collect().await.unwrap();
    assert_eq!(
        streamed.into_iter().map(|entry| entry.key).collect::<Vec<_>>(),
        all
    );
    // Any key can be the start, also one that isn't there.
    let page = case
        .storage
        .list("p/", ListOptions::new().after("p/1/~"))
        .await
        .unwrap();
    assert_eq!(
        keys(&page),
        all.iter()
            .filter(|key| key.starts_with("p/2"))
            .collect::<Vec<_>>()
    );
    for limit in [0, 1001] {
        assert_eq!(
            kind(case.storage.list("", ListOptions::new().limit(limit)).await),
            ErrorKind::InvalidInput
        );
    }
}

pub(super) async fn prefixes(case: Case) {
    for key in [
        "asl/pdfs/1",
        "asl/pdfs/2",
        "asl/pd",
        "aslx",
        "as",
        "other/asl/pdfs",
    ] {
        case.storage.upload(key, "x").await.unwrap();
    }
    for (prefix, expected) in [
        ("asl/pdfs/", &["asl/pdfs/1", "asl/pdfs/2"][..]),
        ("asl/pd", &["asl/pd", "asl/pdfs/1", "asl/pdfs/2"]),
        ("asl", &["asl/pd", "asl/pdfs/1", "asl/pdfs/2", "aslx"]),
        ("asl/pdfs/1", &["asl/pdfs/1"]),
        ("nothing/", &[]),
        ("asl/pd/", &[]),
    ] {
        let page = case.storage.list(prefix, ListOptions::new()).await.unwrap();
        assert_eq!(keys(&page), expected, "{prefix:?}");
    }
    assert_eq!(
        kind(case.storage.list("../", ListOptions::new()).await),
        ErrorKind::InvalidKey
    );
}

pub(super) async fn folders(case: Case) {
    for key in ["a/1", "a/2", "a/deep/3", "b", "c/4", "a-file", "文 献/5"] {
        case.storage.upload(key, "x").await.unwrap();
    }
    let page = case
        .storage
        .list("", ListOptions::new().one_level())
        .await
        .unwrap();
    assert_eq!(keys(&page), ["a-file", "b"]);
    assert_eq!(page.folders, ["a/", "c/", "文 献/"]);
    let page = case
        .storage
        .list("a/", ListOptions::new().one_level())
        .await
        .unwrap();
    assert_eq!(keys(&page), ["a/1", "a/2"]);
    assert_eq!(page.folders, ["a/deep/"]);
    let page = case
        .storage
        .list("a", ListOptions::new().one_level())
        .await
        .unwrap();
    assert_eq!(
        (keys(&page), page.folders.clone()),
        (vec!["a-file"], vec!["a/".to_owned()])
    );
    // Emptied folders are gone.
    case.storage.delete("c/4").await.unwrap();
    let page = case
        .storage
        .list("", ListOptions::new().one_level())
        .await
        .unwrap();
    assert_eq!(page.folders, ["a/", "文 献/"]);
}

pub(super) async fn folder_paging(case: Case) {
    for key in ["a/1", "a/2", "b", "c/1", "c/2", "d", "e/1"] {
        case.storage.upload(key, "x").await.unwrap();
    }
    for limit in [1, 2, 3] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let options = ListOptions {
                after,
                limit,
                delimiter: Some('/'),
            };
            let page = case.storage.list("", options).await.unwrap();
            assert!(page.entries.len() + page.folders.len() <= limit);
            seen.extend(page.entries.into_iter().map(|entry| entry.key));
            seen.extend(page.folders);
            after = page.next;
            if after.is_none() {
                break;
            }
            assert!(seen.len() < 20, "the pages don't end: {seen:?}");
        }
        seen.sort_unstable();
        assert_eq!(seen, ["a/", "b", "c/", "d", "e/"], "pages of {limit}");
    }
}
