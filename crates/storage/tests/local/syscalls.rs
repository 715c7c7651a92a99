//! What an operation asks of the kernel: no call that doesn't serve a promise.

use std::{collections::BTreeMap, process::Command};

use zhuji_storage::{Durability, LocalAdapter, LocalOptions, Storage};

const DIR: &str = "ZHUJI_TEST_CALLS_DIR";
const WHAT: &str = "ZHUJI_TEST_CALLS_WHAT";
const TIMES: &str = "ZHUJI_TEST_CALLS_TIMES";

/// Not a test: the process whose system calls are counted.
#[tokio::test]
async fn worker() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let what = std::env::var(WHAT).unwrap();
    let times: usize = std::env::var(TIMES).unwrap().parse().unwrap();
    let options = LocalOptions {
        durability: Durability::Fsync,
        ..LocalOptions::default()
    };
    let storage = Storage::new(LocalAdapter::open(dir, options).await.unwrap());
    storage.upload("folder/a", vec![7_u8; 4096]).await.unwrap();
    for round in 0..times {
        match what.as_str() {
            "new" => drop(
                storage
                    .upload(&format!("folder/{round}"), vec![7_u8; 4096])
                    .await
                    .unwrap(),
            ),
            "put" => drop(storage.upload("folder/a", vec![7_u8; 4096]).await.unwrap()),
            "get" => drop(storage.download("folder/a").await.unwrap()),
            "head" => drop(storage.metadata("folder/a").await.unwrap()),
            "copy" => drop(storage.copy("folder/a", "folder/b").await.unwrap()),
            other => panic!("{other}"),
        }
    }
}

/// How often each system call on a file is made by so many operations; `None` where nobody may look.
fn count(what: &str, times: usize) -> Option<BTreeMap<String, i64>> {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let root = dir.path().join("root");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=%desc,%file", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "syscalls::worker", "--nocapture"])
        .env(DIR, &root)
        .env(WHAT, what)
        .env(TIMES, times.to_string())
        .output()
        .ok()?
        .status;
    if !status.success() {
        return None;
    }
    let mut calls = BTreeMap::new();
    let root = root.to_str().unwrap();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        // `<pid> name(…`; only what is about the store, not the runtime's own.
        let (Some(call), true) = (line.split_whitespace().nth(1), line.contains(root)) else {
            continue;
        };
        // Builds with debug assertions ask with `fcntl` before each close.
        if let Some((name, _)) = call.split_once('(').filter(|(name, _)| *name != "fcntl") {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    Some(calls)
}

#[test]
fn operations_make_few_system_calls() {
    for (what, most) in [("new", 10), ("put", 12), ("get", 5), ("head", 4), ("copy", 17)] {
        let (Some(few), Some(many)) = (count(what, 20), count(what, 120)) else {
            println!("SKIPPED: no strace, or no right to use it");
            return;
        };
        let mut each = BTreeMap::new();
        for (name, calls) in &many {
            let more = calls - few.get(name).copied().unwrap_or_default();
            if more >= 50 {
                each.insert(name, more / 100);
            }
        }
        let total: i64 = each.values().sum();
        println!("{what}: {total} system calls: {each:?}");
        assert!(
            total <= most,
            "{what}: {total} system calls, at most {most} are expected: {each:?}"
        );
    }
}
