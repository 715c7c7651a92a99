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
    skip: Option<(&'static str, &'static str)>,
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
        self.skip.filter(|(name, _)| *name == case).map(|(_, why)| why)
    }

    fn leftovers(&self) -> Result<(), String> {
        (self.leftovers)()
    }
}

/// A skipped case fails the run too, unless it is one that is known here.
async fn examine(harness: Harness) {
    let expected = usize::from(harness.skip.is_some());
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
        skip: None,
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
        skip: Some(FILES_AND_FOLDERS),
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
        skip: Some(FILES_AND_FOLDERS),
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
        skip: None,
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
