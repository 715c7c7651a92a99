//! A process that dies while it acknowledges.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use zhuji_storage::{PutOptions, StorageFactory};

use super::{Site, files};
use crate::{full, support, support::noise, until};

const VARIABLES: &str = "ZHUJI_TEST_OUTBOX";

/// Not a test: the process that is killed. It says which uploads were acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let Ok(variables) = std::env::var(VARIABLES) else {
        return;
    };
    let pairs: Vec<(&str, &str)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let storage = StorageFactory::new()
        .build(&support::storage_config(&pairs))
        .await
        .unwrap();
    let (_, round) = pairs
        .iter()
        .find(|(name, _)| *name == "STORAGE_CONCURRENCY")
        .unwrap();
    for n in 0..10_000_usize {
        let key = format!("r{round}/{n}");
        let options = PutOptions::new().metadata("n", n.to_string());
        storage
            .upload_with(&key, noise(100 + n * 97 % 9000), options)
            .await
            .unwrap();
        // One call: a line is there whole or not at all.
        std::io::stdout()
            .write_all(format!("ACK {n}\n").as_bytes())
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_acknowledged_arrives() {
    let rounds = if full() { 50 } else { 3 };
    println!("{rounds} processes (50 with ZHUJI_TEST_FULL=1)");
    let site = Site::new().await;
    site.proxy.refuse().await;
    let (endpoint, dir) = (site.proxy.url(), site.dir.path().to_str().unwrap().to_owned());
    let mut acknowledged = Vec::new();
    for round in 1..=rounds {
        let round_text = round.to_string();
        let variables = [
            ("STORAGE_TYPE", "oss"),
            ("OSS_REGION", site.server.region()),
            ("OSS_BUCKET", site.server.bucket()),
            ("OSS_ACCESS_KEY_ID", site.server.access_key_id()),
            ("OSS_ACCESS_KEY_SECRET", site.server.access_key_secret()),
            ("OSS_ENDPOINT", &endpoint),
            ("STORAGE_LOCAL_DIR", &dir),
            ("STORAGE_OUTBOX_DIR", "auto"),
            ("STORAGE_CONCURRENCY", &round_text),
        ];
        let lines: String = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hybrid::killed::writer", "--nocapture"])
            .env(VARIABLES, lines)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let acks = lines.filter_map(|line| Some(line.split_once("ACK ")?.1.parse().unwrap()));
            acks.collect::<Vec<usize>>()
        });
        let wrote = || files(&site.outbox().join("queue")) > acknowledged.len() + 2;
        until("the process has written", wrote).await;
        tokio::time::sleep(Duration::from_millis(round * 37 % 300)).await;
        // SIGKILL, to exactly the process that was started.
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap().into_iter().map(|n| (round, n)));
    }
    assert!(acknowledged.len() as u64 > rounds, "{}", acknowledged.len());
    let storage = site.open().await;
    site.proxy.accept_again().await;
    let (waited, began) = (site.waiting(), std::time::Instant::now());
    site.all_carried_out().await;
    println!("{waited} operations carried out in {:?}", began.elapsed());
    let there = site.there().await;
    for (round, n) in &acknowledged {
        let key = format!("r{round}/{n}");
        assert!(
            there.download(&key).await.unwrap() == noise(100 + n * 97 % 9000),
            "{key}"
        );
        assert_eq!(there.metadata(&key).await.unwrap().user["n"], n.to_string());
    }
    drop(storage);
    println!(
        "{rounds} processes killed, {} acknowledged uploads arrived",
        acknowledged.len()
    );
}
