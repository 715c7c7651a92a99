//! The one conformance suite, over every adapter.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::{Path, PathBuf};

use support::{oss_config, storage_config};
use zhuji_storage::{LocalAdapter, LocalOptions, Storage, StorageFactory};
use zhuji_testkit::{
    conformance::storage::{ObjectHttp, StorageHarness, run},
    oss::{OssServer, OssServerOptions},
};

const PUBLIC: &str = "public/";

struct Harness {
    name: &'static str,
    storage: Storage,
    skip: Vec<(&'static str, &'static str)>,
    leftovers: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl StorageHarness for Harness {
    fn name(&self) -> &str {
        self.name
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn public_prefix(&self) -> Option<&str> {
        Some(PUBLIC)
    }

    fn skip(&self, case: &str) -> Option<&str> {
        self.skip
            .iter()
            .find(|(name, _)| *name == case)
            .map(|(_, why)| *why)
    }

    fn leftovers(&self) -> Result<(), String> {
        (self.leftovers)()
    }
}

/// A skipped case fails the run too, unless it is one that is known here.
async fn examine(harness: Harness) {
    let expected = harness.skip.len();
    let report = run(&harness).await;
    println!("{report}");
    report.assert_passed();
    assert_eq!(
        report.skipped(),
        expected,
        "the cases that are skipped have names that exist"
    );
}

const FILES_AND_FOLDERS: (&str, &str) = (
    "keys_key_and_deeper_key",
    "a file system has no directory that is also a file",
);

fn no_temporary_files(root: &Path) -> impl Fn() -> Result<(), String> + Send + Sync + use<> {
    let root = root.to_owned();
    move || {
        let mut found = Vec::new();
        for instance in std::fs::read_dir(root.join(".zhuji/tmp")).unwrap().flatten() {
            let files = std::fs::read_dir(instance.path())
                .unwrap()
                .flatten()
                .map(|file| file.path());
            found.extend(files.filter(|path| !path.ends_with("lock")));
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let mut http = ObjectHttp::bind().await.unwrap();
    let config = storage_config(&[
        ("STORAGE_TYPE", "memory"),
        ("STORAGE_PUBLIC_URL", http.base_url()),
        ("STORAGE_PUBLIC_PREFIXES", PUBLIC),
    ]);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    http.serve(&storage).unwrap();
    examine(Harness {
        name: "memory",
        storage,
        skip: Vec::new(),
        leftovers: Box::new(|| Ok(())),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local() {
    let dir = tempfile::tempdir().unwrap();
    let mut http = ObjectHttp::bind().await.unwrap();
    let config = storage_config(&[
        ("STORAGE_LOCAL_DIR", dir.path().to_str().unwrap()),
        ("STORAGE_PUBLIC_URL", http.base_url()),
        ("STORAGE_PUBLIC_PREFIXES", PUBLIC),
    ]);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    http.serve(&storage).unwrap();
    let leftovers = Box::new(no_temporary_files(dir.path()));
    examine(Harness {
        name: "local",
        storage,
        skip: vec![FILES_AND_FOLDERS],
        leftovers,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_with_sidecars() {
    let dir = tempfile::tempdir().unwrap();
    let mut http = ObjectHttp::bind().await.unwrap();
    let options = LocalOptions {
        sidecars: true,
        base_url: http.base_url().to_owned(),
        ..LocalOptions::default()
    };
    let config = storage_config(&[
        ("STORAGE_TYPE", "sidecars"),
        ("STORAGE_LOCAL_DIR", dir.path().to_str().unwrap()),
        ("STORAGE_PUBLIC_PREFIXES", PUBLIC),
    ]);
    let factory = StorageFactory::new().register("sidecars", move |config| {
        let options = options.clone();
        async move { LocalAdapter::open(&config.local_dir, options).await }
    });
    let storage = factory.build(&config).await.unwrap();
    http.serve(&storage).unwrap();
    let leftovers = Box::new(no_temporary_files(dir.path()));
    examine(Harness {
        name: "local, sidecars",
        storage,
        skip: vec![FILES_AND_FOLDERS],
        leftovers,
    })
    .await;
    assert_eq!(
        sidecars(dir.path()).len(),
        objects(&dir.path().to_owned()),
        "one sidecar for each object"
    );
}

fn sidecars(root: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(root.join(".zhuji/meta"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn objects(dir: &PathBuf) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == ".zhuji" => 0,
            true => objects(&entry.path()),
            false => 1,
        })
        .sum()
}

async fn oss(name: &'static str, virtual_host: bool, more: &[(&str, &str)]) {
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let endpoint = if virtual_host {
        server.virtual_host_endpoint()
    } else {
        server.endpoint()
    };
    let mut more = more.to_vec();
    more.push(("STORAGE_PUBLIC_PREFIXES", PUBLIC));
    let storage = StorageFactory::new()
        .build(&oss_config(&server, &endpoint, &more))
        .await
        .unwrap();
    let server = std::sync::Arc::new(server);
    let watched = std::sync::Arc::clone(&server);
    let leftovers = Box::new(move || match watched.uploads_open() {
        0 => Ok(()),
        open => Err(format!("{open} unfinished uploads")),
    });
    examine(Harness {
        name,
        storage,
        skip: Vec::new(),
        leftovers,
    })
    .await;
    assert!(
        server.connections() < 100,
        "{} connections for {} requests",
        server.connections(),
        server.requests().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn oss_v4() {
    oss("oss, V4", false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oss_v1() {
    oss("oss, V1", false, &[("OSS_SIGNATURE_VERSION", "v1")]).await;
}

/// Keys that are not resident, through a router and an outbox, while the link is up.
#[tokio::test(flavor = "multi_thread")]
async fn hybrid_shared() {
    let dir = tempfile::tempdir().unwrap();
    let more = [
        ("STORAGE_LOCAL_DIR", dir.path().to_str().unwrap()),
        ("STORAGE_OUTBOX_DIR", "auto"),
        ("STORAGE_RESIDENT_PREFIXES", "resident/"),
    ];
    oss("hybrid, shared keys", false, &more).await;
    let outbox = dir.path().join(".zhuji/outbox");
    for waiting in ["queue", "data", "failed"] {
        assert!(!outbox.join(waiting).exists(), "{waiting}");
    }
}

/// Resident keys, beside an OSS that hears nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn hybrid_resident() {
    let dir = tempfile::tempdir().unwrap();
    let mut http = ObjectHttp::bind().await.unwrap();
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let base = http.base_url().trim_end_matches("/uploads").to_owned();
    let more = [
        ("STORAGE_LOCAL_DIR", dir.path().to_str().unwrap()),
        ("STORAGE_DURABILITY", "rename"),
        ("STORAGE_RESIDENT_PREFIXES", "resident/"),
        ("BASE_URL", base.as_str()),
    ];
    let config = oss_config(&server, &server.endpoint(), &more);
    let storage = StorageFactory::new().build(&config).await.unwrap();
    http.serve(&storage).unwrap();
    let no_public = ("http_public", "what is resident is never public");
    examine(Harness {
        name: "hybrid, resident keys",
        storage: storage.scoped("resident"),
        skip: vec![FILES_AND_FOLDERS, no_public],
        leftovers: Box::new(no_temporary_files(dir.path())),
    })
    .await;
    assert_eq!(server.requests().len(), 0);
}

/// What the SDK can do, and that it does not pretend where it can't: such a case ends with the words of the limit.
#[cfg(feature = "oss-sdk")]
mod sdk {
    use futures_util::stream;
    use zhuji_storage::{Body, ErrorKind, OssConfig, PutOptions, StorageConfig};
    use zhuji_testkit::conformance::storage::CaseOutcome;

    use super::*;

    const NO_EMPTY: &str = "can't store an empty object";
    const NO_COPY: &str = "the SDK can't copy";
    const NO_LIST: &str = "the SDK can't list";
    const NO_KEY: &str = "the SDK does not encode keys";
    const NO_METADATA: &str = "the SDK sends no metadata";
    const NO_CREATE_ONLY: &str = "the SDK can't ask OSS to create only";
    const LIMITS: &[(&str, &str)] = &[
        ("basic_empty", NO_EMPTY),
        ("basic_missing", "left: Unsupported"), // it copies
        ("basic_copy", NO_COPY),
        ("basic_etags", NO_LIST),
        ("keys_weird", NO_KEY),
        ("keys_invalid", NO_LIST),
        ("keys_scoped", NO_LIST),
        ("content_disposition", "the SDK sends no content disposition"),
        ("content_metadata", NO_METADATA),
        ("content_survive_copy", NO_METADATA),
        ("streams_unknown_length", NO_EMPTY),
        ("streams_asked_after_its_end", NO_EMPTY),
        ("streams_declared_length", NO_EMPTY),
        ("streams_long", NO_METADATA),
        ("streams_ranges", "the SDK can't ask for a part"),
        ("streams_invalid_ranges", "left: Unsupported"),
        ("writers_create_only", NO_CREATE_ONLY),
        ("writers_create_only_race", NO_CREATE_ONLY),
        ("writers_torn_reads", NO_METADATA),
        ("listing_order", NO_LIST),
        ("listing_paging", NO_LIST),
        ("listing_prefixes", NO_LIST),
        ("listing_folders", NO_LIST),
        ("listing_folder_paging", NO_LIST),
        ("bulk_delete_many", NO_KEY),
    ];

    struct Sdk(Storage);

    impl StorageHarness for Sdk {
        fn name(&self) -> &str {
            "oss, SDK"
        }

        fn storage(&self) -> &Storage {
            &self.0
        }

        fn skip(&self, case: &str) -> Option<&str> {
            (case == "http_public").then_some("the SDK can't store an object as public-read")
        }
    }

    async fn start(server: &OssServer) -> Storage {
        let config = oss_config(server, &server.endpoint(), &[("OSS_CLIENT", "sdk")]);
        StorageFactory::new().build(&config).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn oss_sdk() {
        let server = OssServer::start(OssServerOptions::default()).await.unwrap();
        let report = run(&Sdk(start(&server).await)).await;
        println!("{report}");
        for (case, outcome, _) in &report.cases {
            let limit = LIMITS
                .iter()
                .find(|(name, _)| name == case)
                .map(|(_, words)| *words);
            match (outcome, limit) {
                (CaseOutcome::Failed(how), Some(words)) => assert!(how.contains(words), "{case}: {how}"),
                (CaseOutcome::Failed(how), None) => panic!("{case}: {how}"),
                (CaseOutcome::Passed, Some(words)) => {
                    panic!("{case} passes now: `{words}` is no limit any more")
                }
                (CaseOutcome::Passed | CaseOutcome::Skipped(_), None)
                | (CaseOutcome::Skipped(_), Some(_)) => {}
            }
        }
        assert_eq!(
            report.passed() + report.skipped() + LIMITS.len(),
            report.cases.len()
        );
    }

    #[tokio::test]
    async fn what_it_would_do_wrong_is_not_done() {
        let server = OssServer::start(OssServerOptions::default()).await.unwrap();
        let storage = start(&server).await;
        storage.check().await.unwrap();
        // These would be stored as `q`, `a` and `a/b`.
        for key in ["q?x=1", "a#b", "a%2Fb"] {
            let error = storage.upload(key, "x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(
                storage.delete(key).await.unwrap_err().kind(),
                ErrorKind::Unsupported
            );
        }
        let large = vec![0; 64 * 1024 * 1024 + 1];
        for body in [
            Body::from(large.clone()),
            Body::stream(stream::iter([std::io::Result::Ok(large.into())])),
        ] {
            let error = storage.put("large", body, PutOptions::new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        assert!(server.objects().is_empty());
        let error = {
            let config = oss_config(&server, &server.endpoint(), &[("OSS_CLIENT", "sdk")]);
            let config = StorageConfig {
                oss: OssConfig {
                    access_key_secret: Some("another-secret".into()),
                    ..config.oss.clone()
                },
                ..config
            };
            let storage = StorageFactory::new().build(&config).await.unwrap();
            storage.check().await.unwrap_err()
        };
        assert_eq!(error.kind(), ErrorKind::Signature, "{error}");
        let all = format!("{error} {error:?} {storage:?}");
        assert!(
            !all.contains("another-secret") && !all.contains(server.access_key_secret()),
            "{all}"
        );
    }
}
