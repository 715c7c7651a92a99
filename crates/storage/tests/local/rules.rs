//! A directory keeps the rules that a bucket would.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use zhuji_storage::{
    BoxError, Durability, ErrorKind, LocalAdapter, LocalOptions, Storage, StorageRules, Verified,
    serve::ObjectServer,
};

const DAY: u64 = 24 * 3600;

fn rules(text: &str) -> StorageRules {
    StorageRules::from_json(text).unwrap()
}

/// As if the object had been stored so many days ago.
fn age(root: &Path, key: &str, days: u64) {
    let file = fs::OpenOptions::new().write(true).open(root.join(key)).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * DAY + 60);
    file.set_modified(then).unwrap();
}

#[tokio::test]
async fn rules_are_applied_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/literature/deploy/storage-rules.json"
    );
    let rules = rules(&fs::read_to_string(sample).unwrap());
    let dry = storage.apply_rules(&rules, true).await.unwrap();
    assert_eq!((dry.changes.len(), dry.applied), (4, false), "{dry}");
    assert!(
        dry.to_string()
            .contains("asl/pdfs/: this adapter has one class of storage"),
        "{dry}"
    );
    assert!(
        !dir.path().join(".zhuji/rules.json").exists(),
        "a dry run changes nothing"
    );
    let done = storage.apply_rules(&rules, false).await.unwrap();
    assert_eq!((&done.changes, done.applied), (&dry.changes, true));
    assert_eq!(storage.rules().await.unwrap(), rules);
    let again = storage.apply_rules(&rules, false).await.unwrap();
    assert!(
        again.is_empty() && again.to_string().starts_with("nothing to change"),
        "{again}"
    );
    // They belong to the directory, not to the process.
    let other = crate::open(dir.path()).await;
    assert_eq!(other.rules().await.unwrap(), rules);
    // And not to a part of it.
    let part = storage.scoped("asl");
    assert_eq!(part.rules().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(
        part.apply_rules(&rules, true).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        part.sweep(false).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[tokio::test]
async fn sections_are_replaced_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let both = rules(
        r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1}],
            "cors": [{"origins": ["*"], "methods": ["GET"]}], "versioning": "enabled"}"#,
    );
    let diff = storage.apply_rules(&both, false).await.unwrap();
    assert!(
        diff.to_string()
            .contains("versioning: this adapter keeps no old versions"),
        "{diff}"
    );
    assert_eq!(diff.changes.len(), 2);
    assert!(storage.apply_rules(&both, false).await.unwrap().is_empty());
    let other = rules(r#"{"lifecycle": [{"prefix": "tmp/", "expire_after_days": 2}]}"#);
    let diff = storage.apply_rules(&other, false).await.unwrap();
    assert_eq!(
        diff.to_string(),
        "lifecycle\n  + tmp/: deleted after 2 days\n  - temp/: deleted after 1 day"
    );
    let now = storage.rules().await.unwrap();
    assert_eq!((&now.lifecycle, &now.cors), (&other.lifecycle, &both.cors));
    // A file that somebody broke is told, and mended by applying again.
    fs::write(dir.path().join(".zhuji/rules.json"), "{\"lifecycl\": []}").unwrap();
    let error = storage.rules().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.to_string().contains("lifecycle"),
        "{error}"
    );
}

#[tokio::test]
async fn expired_objects_go_and_nothing_else() {
    for sidecars in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = LocalOptions {
            durability: Durability::Rename,
            sidecars,
            ..LocalOptions::default()
        };
        let storage = Storage::new(LocalAdapter::open(dir.path(), options).await.unwrap());
        for key in [
            "temp/old",
            "temp/deep/er/old",
            "temp/new",
            "temporary",
            "kept/old",
            "temp-file",
        ] {
            storage.upload(key, "12345").await.unwrap();
        }
        for key in [
            "temp/old",
            "temp/deep/er/old",
            "temporary",
            "kept/old",
            "temp-file",
        ] {
            age(dir.path(), key, 3);
        }
        let rules = rules(
            r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1},
                {"prefix": "kept/", "expire_after_days": 1, "enabled": false},
                {"prefix": "temp-", "expire_before": "2020-01-01"}]}"#,
        );
        storage.apply_rules(&rules, false).await.unwrap();
        let dry = storage.sweep(true).await.unwrap();
        assert_eq!((dry.objects, dry.bytes, dry.dry_run), (2, 10, true));
        assert!(storage.exists("temp/old").await.unwrap());
        let mut swept = storage.sweep(false).await.unwrap();
        swept.keys.sort();
        assert_eq!(swept.keys, ["temp/deep/er/old", "temp/old"]);
        for (key, left) in [
            ("temp/old", false),
            ("temp/deep/er/old", false),
            ("temp/new", true),
            ("temporary", true),
            ("kept/old", true),
            ("temp-file", true),
        ] {
            assert_eq!(storage.exists(key).await.unwrap(), left, "{key}");
        }
        assert!(!dir.path().join("temp/deep").exists(), "empty folders go too");
        assert_eq!(storage.sweep(false).await.unwrap().objects, 0);
    }
}

#[tokio::test]
async fn an_open_store_sweeps_by_itself_and_a_closed_one_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let open = async |every| {
        let options = LocalOptions {
            durability: Durability::Rename,
            sweep_every: every,
            ..LocalOptions::default()
        };
        Storage::new(LocalAdapter::open(dir.path(), options).await.unwrap())
    };
    let gone = async |key: &str| {
        for _ in 0..1000 {
            if !dir.path().join(key).exists() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    let storage = open(Duration::from_secs(3600)).await;
    let rules = rules(r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1}]}"#);
    storage.apply_rules(&rules, false).await.unwrap();
    storage.upload("temp/a", "x").await.unwrap();
    age(dir.path(), "temp/a", 2);
    // At the start of the next one.
    let next = open(Duration::from_millis(30)).await;
    assert!(gone("temp/a").await);
    // And again while it lives.
    next.upload("temp/b", "x").await.unwrap();
    age(dir.path(), "temp/b", 2);
    assert!(gone("temp/b").await);
    drop(next);
    drop(storage);
    // The last sweep may still be under way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    fs::create_dir_all(dir.path().join("temp")).unwrap();
    fs::write(dir.path().join("temp/c"), "x").unwrap();
    age(dir.path(), "temp/c", 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(dir.path().join("temp/c").exists());
}

/// An object that is written again while the sweep looks at the old one is not the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_again_in_time_stays() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let rules = rules(r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1}]}"#);
    storage.apply_rules(&rules, false).await.unwrap();
    for round in 0..200 {
        let key = format!("temp/{round}");
        storage.upload(&key, "old").await.unwrap();
        age(dir.path(), &key, 2);
        let (swept, stored) = tokio::join!(storage.sweep(false), storage.upload(&key, "new"));
        swept.unwrap();
        stored.unwrap();
        assert_eq!(storage.download(&key).await.unwrap(), "new", "round {round}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_by_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    let server = ObjectServer::new(&storage).unwrap();
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri("/uploads/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let body = stream::empty::<Result<Bytes, BoxError>>();
        match server.serve("a", &parts, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    };
    let origin = ("origin", "https://app.example.com");
    let put = ("access-control-request-method", "PUT");
    let content_type = ("access-control-request-headers", "content-type");
    let refused = ask("OPTIONS", &[origin, put]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    let rules = rules(
        r#"{"cors": [{"origins": ["https://*.example.com"], "methods": ["GET", "PUT"],
            "allowed_headers": ["content-type"], "expose_headers": ["ETag"], "max_age": 600}]}"#,
    );
    storage.apply_rules(&rules, false).await.unwrap();
    let allowed = ask("OPTIONS", &[origin, put, content_type]).await;
    assert_eq!(allowed.status(), StatusCode::OK);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(allowed.headers()[name], value, "{name}");
    }
    let other = ask("OPTIONS", &[("origin", "https://elsewhere.com"), put]).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    let delete = ("access-control-request-method", "DELETE");
    assert_eq!(
        ask("OPTIONS", &[origin, delete]).await.status(),
        StatusCode::FORBIDDEN
    );
    // The page learns why it was refused; who isn't a page of another origin gets no such headers.
    let unsigned = ask("GET", &[origin]).await;
    assert_eq!(unsigned.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        unsigned.headers()["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(unsigned.headers()["vary"], "origin");
    let plain = ask("GET", &[]).await;
    assert!(!plain.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn every_object_can_be_verified() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let storage = crate::open(dir.path()).await;
    for size in [0_usize, 1000, 3_000_000] {
        let stored = storage.upload("a", vec![7_u8; size]).await.unwrap();
        let crc64 = stored.crc64.unwrap();
        let size = size as u64;
        assert_eq!(
            storage.verify("a").await.unwrap(),
            Verified::Intact { size, crc64 }
        );
        fs::write(dir.path().join("by-hand"), vec![7_u8; size as usize]).unwrap();
        assert_eq!(
            storage.verify("by-hand").await.unwrap(),
            Verified::Unknown { size, crc64 }
        );
        if size == 0 {
            continue;
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("a"))
            .unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_at(&[8], 5).unwrap();
        file.set_modified(modified).unwrap();
        let found = storage.verify("a").await.unwrap();
        assert!(
            matches!(&found, Verified::Damaged { why } if why.contains("CRC-64")),
            "{found:?}"
        );
    }
    assert_eq!(
        storage.verify("none").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let memory = Storage::memory();
    memory.upload("a", "x").await.unwrap();
    assert!(matches!(
        memory.verify("a").await.unwrap(),
        Verified::Intact { size: 1, .. }
    ));
}

#[tokio::test]
async fn memory_keeps_rules_too() {
    let storage = Storage::memory();
    for key in ["temp/a", "kept/a"] {
        storage.upload(key, "123").await.unwrap();
    }
    let rules = rules(r#"{"lifecycle": [{"prefix": "temp/", "expire_before": "2999-01-01"}]}"#);
    assert!(storage.apply_rules(&rules, false).await.unwrap().applied);
    assert!(storage.apply_rules(&rules, false).await.unwrap().is_empty());
    assert_eq!(storage.sweep(true).await.unwrap().keys, ["temp/a"]);
    assert!(storage.exists("temp/a").await.unwrap());
    assert_eq!(storage.sweep(false).await.unwrap().bytes, 3);
    assert!(!storage.exists("temp/a").await.unwrap() && storage.exists("kept/a").await.unwrap());
}
