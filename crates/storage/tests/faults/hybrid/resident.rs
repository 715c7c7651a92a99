//! Resident data never leaves.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures_util::{TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use zhuji_health::Outcome;
use zhuji_storage::{
    ErrorKind, ListOptions, PutOptions, SignOptions, Storage, StorageFactory, StorageRules, Verified,
};
use zhuji_testkit::conformance::storage::ObjectHttp;

use super::{Site, files};
use crate::support;

/// What every resident key and every resident object contains, and nothing else.
const NAME: &str = "patient-4711";
const CONTENT: &str = "HIV-positive";

/// Passes everything on and keeps what goes out.
async fn listen_in(upstream: SocketAddr) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // While the link is down nobody is there to connect to.
            let Ok(server) = TcpStream::connect(upstream).await else {
                continue;
            };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..count]);
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_names_nor_bytes_of_resident_objects_leave() {
    let site = Site::new().await;
    let (endpoint, heard) = listen_in(site.proxy.address()).await;
    let mut http = ObjectHttp::bind().await.unwrap();
    let base = http.base_url().trim_end_matches("/uploads").to_owned();
    let settings = [
        ("STORAGE_RESIDENT_PREFIXES", "asl/resident/,asl/resident/twice/"),
        ("BASE_URL", &base),
    ];
    let root = super::open(&site.server, &endpoint, site.dir.path(), &settings).await;
    http.serve(&root).unwrap();
    let client = zhuji_testkit::http_client();
    let asl = root.scoped("asl");
    let key = |n: usize| format!("resident/{NAME}/{n}.txt");

    for up in [true, false, true] {
        if !up {
            site.proxy.refuse().await;
        }
        asl.upload(&format!("shared/{up}.txt"), "shared").await.unwrap();
        everything(&asl, &key).await;
        // Over HTTP, both ways.
        let address = asl.signed_url(&key(0), SignOptions::get()).await.unwrap();
        assert!(
            address.as_str().starts_with(http.base_url()) && asl.url(&key(0)).starts_with(http.base_url())
        );
        let fetched = client
            .get(address.as_str())
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert_eq!(fetched, CONTENT);
        let upload = asl
            .signed_url(&key(7), SignOptions::put("text/plain"))
            .await
            .unwrap();
        let sent = client
            .put(upload.as_str())
            .header("content-type", "text/plain")
            .body(CONTENT);
        assert_eq!(sent.send().await.unwrap().status(), 200);
        let many = [key(7), "shared/never".to_owned(), key(8)];
        assert!(asl.delete_many(&many).await.iter().all(Result::is_ok));
        assert!(!asl.exists(&key(7)).await.unwrap());
        for target in ["stolen.txt", &format!("resident-{NAME}"), "resident"] {
            let error = asl.copy(&key(0), target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("STORAGE_RESIDENT_PREFIXES"), "{error}");
        }
        if up {
            asl.copy("shared/true.txt", &key(9)).await.unwrap();
            assert_eq!(asl.download(&key(9)).await.unwrap(), "shared");
            asl.delete(&key(9)).await.unwrap();
            listings(&root, &asl, &key).await;
            let rules = format!(
                r#"{{"lifecycle": [{{"prefix": "asl/resident/{NAME}/old/", "expire_after_days": 1}},
                    {{"prefix": "", "abort_unfinished_uploads_after_days": 3}}], "cors": []}}"#
            );
            let rules = StorageRules::from_json(&rules).unwrap();
            root.apply_rules(&rules, false).await.unwrap();
            assert!(root.apply_rules(&rules, false).await.unwrap().is_empty());
            assert_eq!(root.rules().await.unwrap().lifecycle.unwrap().len(), 2);
            root.sweep(false).await.unwrap();
            root.check().await.unwrap();
        } else {
            assert_eq!(root.health_check().run().await, Outcome::degraded("link down"));
            site.proxy.accept_again().await;
            site.all_carried_out().await;
        }
    }

    let heard = heard.lock().unwrap();
    let says = |what: &str| {
        heard
            .windows(what.len())
            .filter(|window| *window == what.as_bytes())
            .count()
    };
    assert!(says("asl/shared/true.txt") > 3, "something was heard");
    assert_eq!((says(NAME), says(CONTENT)), (0, 0));
    for request in site.server.requests() {
        let text = format!("{request:?}");
        assert!(!text.contains(NAME), "{text}");
    }
    assert!(
        site.server
            .objects()
            .iter()
            .all(|object| object.key.starts_with("asl/shared/"))
    );
    assert!(files(&site.dir.path().join("asl/resident").join(NAME)) >= 3);
    println!("{} bytes went out, none of them resident", heard.len());
}

/// Every operation, on resident keys.
async fn everything(asl: &Storage, key: &dyn Fn(usize) -> String) {
    let options = PutOptions::new().download_name(NAME).metadata("name", NAME);
    asl.upload_with(&key(0), CONTENT, options.clone()).await.unwrap();
    let pieces: Vec<_> = (0..20_000)
        .map(|_| Ok::<_, std::io::Error>(CONTENT.into()))
        .collect();
    asl.upload_stream(&key(1), stream::iter(pieces), options)
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, CONTENT).unwrap();
    asl.upload_file(&key(2), &file, ()).await.unwrap();
    assert!(
        asl.upload_many([(key(8), CONTENT)])
            .await
            .iter()
            .all(Result::is_ok)
    );
    let create = PutOptions::new().create_only();
    let error = asl.upload_with(&key(0), "x", create.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    asl.upload_with(&key(3), CONTENT, create).await.unwrap();
    asl.copy(&key(3), &format!("resident/twice/{NAME}"))
        .await
        .unwrap();
    asl.delete(&key(3)).await.unwrap();
    assert_eq!(asl.download(&key(2)).await.unwrap(), CONTENT);
    assert_eq!(
        asl.download_file(&key(1), &file, ()).await.unwrap().size,
        20_000 * CONTENT.len() as u64
    );
    assert_eq!(asl.metadata(&key(0)).await.unwrap().user["name"], NAME);
    assert!(!asl.exists(&key(6)).await.unwrap());
    assert!(matches!(
        asl.verify(&key(1)).await.unwrap(),
        Verified::Intact { .. }
    ));
    let page = asl.list("resident/", ListOptions::new()).await.unwrap();
    assert_eq!(page.entries.len(), 5);
    assert_eq!(
        asl.list(&format!("resident/{NAME}"), ListOptions::new().limit(1))
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
}

/// Pages that end with resident keys, and go on behind them.
async fn listings(root: &Storage, asl: &Storage, key: &dyn Fn(usize) -> String) {
    for limit in [1, 2, 3, 1000] {
        for prefix in ["", "r", "resident", "s"] {
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let options = ListOptions {
                    after: after.take(),
                    limit,
                    delimiter: None,
                };
                let page = asl.list(prefix, options).await.unwrap();
                seen.extend(page.entries.into_iter().map(|entry| entry.key));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert!(seen.is_sorted(), "{seen:?}");
            let all: Vec<_> = asl.list_all(prefix).try_collect().await.unwrap();
            assert_eq!(seen, all.into_iter().map(|entry| entry.key).collect::<Vec<_>>());
            assert_eq!(seen.contains(&key(0)), prefix != "s");
        }
    }
    let level = asl.list("", ListOptions::new().one_level()).await.unwrap();
    assert_eq!(level.folders, ["resident/", "shared/"]);
    let level = root.list("", ListOptions::new().one_level()).await.unwrap();
    assert_eq!(level.folders, ["asl/"]);
}

/// Listings of two stores are those of one.
#[tokio::test(flavor = "multi_thread")]
async fn listings_are_those_of_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let config = support::storage_config(&[
        ("STORAGE_TYPE", "memory"),
        ("STORAGE_LOCAL_DIR", dir.path().to_str().unwrap()),
        ("STORAGE_DURABILITY", "rename"),
        ("STORAGE_RESIDENT_PREFIXES", "a/b/,b/,c/c/c/"),
    ]);
    let (two, one) = (
        StorageFactory::new().build(&config).await.unwrap(),
        Storage::memory(),
    );
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..120 {
        let folders = random.usize(0..4);
        let mut key: String = (0..folders)
            .map(|_| format!("{}/", random.choice(["a", "b", "c", "b-"]).unwrap()))
            .collect();
        key.push_str(&format!("f{}", random.u8(..)));
        for storage in [&two, &one] {
            storage.upload(&key, key.clone()).await.unwrap();
        }
    }
    // What lies in the directory and is not resident is no object.
    std::fs::write(dir.path().join("stranger"), "x").unwrap();
    let mut compared = 0;
    for prefix in [
        "", "a", "a/", "a/b", "a/b/", "a/b/c", "b", "b/", "c/", "c/c", "c/c/c/", "f", "zz",
    ] {
        for limit in [1, 2, 3, 7, 1000] {
            for delimiter in [None, Some('/')] {
                let mut after = None;
                loop {
                    let options = ListOptions {
                        after: after.take(),
                        limit,
                        delimiter,
                    };
                    let (ours, theirs) = (
                        two.list(prefix, options.clone()).await.unwrap(),
                        one.list(prefix, options).await.unwrap(),
                    );
                    let keys = |page: &zhuji_storage::ListPage| {
                        let entries = page.entries.iter().map(|entry| (entry.key.clone(), entry.size));
                        (entries.collect::<BTreeMap<_, _>>(), page.folders.clone())
                    };
                    assert_eq!(keys(&ours), keys(&theirs), "{prefix:?} {limit} {delimiter:?}");
                    compared += 1;
                    match ours.next {
                        Some(next) => after = Some(next),
                        None => break,
                    }
                }
            }
        }
    }
    println!("{compared} pages compared");
}
