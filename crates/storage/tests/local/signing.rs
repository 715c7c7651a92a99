//! The key of signed URLs.

use std::{fs, os::unix::fs::PermissionsExt};

use futures_util::future::join_all;
use zhuji_storage::{ErrorKind, Key, LocalAdapter, LocalOptions, SignOptions, Storage};

fn query(url: &str) -> &str {
    url.split_once('?').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_share_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let opened = join_all((0..8).map(|_| {
        let path = dir.path().to_owned();
        tokio::spawn(async move { LocalAdapter::open(path, LocalOptions::default()).await.unwrap() })
    }));
    let stores: Vec<Storage> = opened
        .await
        .into_iter()
        .map(|adapter| Storage::new(adapter.unwrap()))
        .collect();
    let key = Key::new("a").unwrap();
    for one in &stores {
        let url = one.signed_url("a", SignOptions::get()).await.unwrap();
        for other in &stores {
            other
                .url_signer()
                .unwrap()
                .verify("GET", &key, query(url.as_str()), None)
                .unwrap();
        }
    }
    let file = dir.path().join(".zhuji/signing.key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.len() == 64 && !format!("{:?}", stores[0]).contains(&text));
    // And after a restart it is the same.
    let url = stores[0].signed_url("a", SignOptions::get()).await.unwrap();
    drop(stores);
    let again = crate::open(dir.path()).await;
    again
        .url_signer()
        .unwrap()
        .verify("GET", &key, query(url.as_str()), None)
        .unwrap();
}

#[tokio::test]
async fn a_readable_key_is_made_private_and_a_damaged_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(crate::open(dir.path()).await);
    let file = dir.path().join(".zhuji/signing.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    drop(crate::open(dir.path()).await);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, "short").unwrap();
    let error = LocalAdapter::open(dir.path(), LocalOptions::default())
        .await
        .unwrap_err();
    assert!(!format!("{error:?}").contains("short"), "{error:?}");
}

#[tokio::test]
async fn a_configured_key_is_used_and_a_weak_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |key: &str| {
        let options = LocalOptions {
            signing_key: Some(key.to_owned().into()),
            ..LocalOptions::default()
        };
        LocalAdapter::open(dir.path().to_owned(), options)
    };
    assert_eq!(open("too short").await.unwrap_err().kind(), ErrorKind::Config);
    let (one, two) = (
        open("0123456789abcdef").await.unwrap(),
        open("fedcba9876543210").await.unwrap(),
    );
    let url = Storage::new(one)
        .signed_url("a", SignOptions::get())
        .await
        .unwrap();
    let other = Storage::new(two).url_signer().unwrap();
    assert!(
        other
            .verify("GET", &Key::new("a").unwrap(), query(url.as_str()), None)
            .is_err()
    );
    assert!(!dir.path().join(".zhuji/signing.key").exists());
}
