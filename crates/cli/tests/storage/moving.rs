//! A store moves to another place and back, in several tries, and is checked there.

use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::*;
use zhuji_testkit::oss::Fault;

const MIB: usize = 1024 * 1024;

/// Bytes that differ everywhere.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    while bytes.len() < size {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend(word.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_copies_only_what_is_missing_or_different() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("s")).await;
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let variables = variables(&server);
    let bucket = format!("oss://{}", server.bucket());
    let run = async |arguments: &[&str]| zhuji(dir.path(), &variables, arguments).await;

    let first = run(&["storage", "sync", "local:s", &bucket, "--verify", "--json"])
        .await
        .ok();
    assert!(
        first.contains(r#""copied":5"#) && first.contains(r#""failed":0"#),
        "{first}"
    );
    let again = run(&["storage", "sync", "local:s", &bucket]).await.ok();
    assert_eq!(again, "0 objects copied (0B), 5 are already there\n");

    // Other bytes of the same length, other metadata of the same bytes, and one that is gone here.
    store.upload("temp/1", "TEMP/1").await.unwrap();
    let typed = PutOptions::new().content_type("text/x-changed");
    store.upload_with("temp.txt", "temp.txt", typed).await.unwrap();
    store.delete("templates/a").await.unwrap();
    let before = server.requests().len();
    let would = run(&["storage", "sync", "local:s", &bucket, "--delete", "--dry-run"])
        .await
        .ok();
    for line in [
        "would copy temp.txt",
        "would copy temp/1",
        "would delete templates/a",
        "2 would be copied",
    ] {
        assert!(would.contains(line), "{line}: {would}");
    }
    let changes = server.requests()[before..]
        .iter()
        .filter(|request| ["PUT", "POST", "DELETE"].contains(&request.method.as_str()))
        .count();
    assert_eq!(changes, 0, "a dry run changes nothing");
    run(&["storage", "sync", "local:s", &bucket]).await.ok();
    let oss = connected(&server).await;
    assert!(
        oss.exists("templates/a").await.unwrap(),
        "nothing goes without --delete"
    );
    let said = run(&["storage", "sync", "local:s", &bucket, "--delete"])
        .await
        .ok();
    assert_eq!(said, "0 objects copied (0B), 4 are already there, 1 deleted\n");
    assert_eq!(keys(&oss).await, keys(&store).await);
    assert_eq!(oss.download("temp/1").await.unwrap(), "TEMP/1");
    assert_eq!(
        oss.metadata("temp.txt").await.unwrap().content_type,
        "text/x-changed"
    );

    // And back, where the same holds.
    run(&["storage", "sync", &bucket, "local:back"]).await.ok();
    let said = run(&["storage", "sync", &bucket, "local:back"]).await.ok();
    assert_eq!(said, "0 objects copied (0B), 4 are already there\n");
    is_special(&local(&dir.path().join("back")).await, "asl/文 献.bin").await;
    let same = run(&["storage", "verify", "local:back", "--against", "local:s"])
        .await
        .ok();
    assert!(same.starts_with("4 objects intact"), "{same}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_empties_no_target() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("s")).await;
    local(&dir.path().join("empty")).await;
    let run = async |arguments: &[&str]| zhuji(dir.path(), &[], arguments).await;
    for source in ["local:empty", "local:typo"] {
        let said = run(&["storage", "sync", source, "local:s", "--delete"]).await;
        said.failed(1, source);
    }
    assert_eq!(keys(&store).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_named_and_nothing_is_deleted_then() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir.path().join("s")).await;
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let oss = connected(&server).await;
    oss.upload("extra", "x").await.unwrap();
    server.fail_next(Fault::status(403, "AccessDenied").on_operation("PutObject"));
    let bucket = format!("oss://{}", server.bucket());
    let said = zhuji(
        dir.path(),
        &variables(&server),
        &["storage", "sync", "local:s", &bucket, "--delete"],
    )
    .await;
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("AccessDenied") && said.err.contains("run the command again"),
        "{}",
        said.err
    );
    assert!(said.out.starts_with("4 objects copied"), "{}", said.out);
    assert!(oss.exists("extra").await.unwrap());
}

fn spawn(dir: &Path, variables: &[(String, String)], arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_zhuji"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .envs(variables.iter().cloned())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the command as soon as the server has answered some requests of this kind, and runs it again to its end.
async fn killed_in_the_middle(
    server: &OssServer,
    operation: &str,
    dir: &Path,
    variables: &[(String, String)],
    arguments: &[&str],
) -> usize {
    let answered = || {
        let requests = server.requests();
        requests
            .iter()
            .filter(|request| request.operation == operation)
            .count()
    };
    server.clear_requests();
    server.fail_next(
        Fault::delay(Duration::from_millis(150))
            .on_operation(operation)
            .times(12),
    );
    let mut child = spawn(dir, variables, arguments);
    while answered() < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
    }
    // SIGKILL, to exactly the process that was started.
    child.kill().unwrap();
    child.wait().unwrap();
    server.clear_faults();
    let before = answered();
    zhuji(dir, variables, arguments).await.ok();
    answered() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_move_of_a_large_object_goes_on_in_its_middle() {
    let dir = tempfile::tempdir().unwrap();
    let store = local(&dir.path().join("s")).await;
    // Twelve parts.
    let bytes = content(96 * MIB);
    let typed = PutOptions::new().content_type("application/x-special");
    store.upload_with("big.bin", bytes.clone(), typed).await.unwrap();
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let variables = variables(&server);
    let bucket = format!("oss://{}", server.bucket());

    let up = ["storage", "cp", "local:s", &bucket, "-r", "--state", "notes"];
    let parts = killed_in_the_middle(&server, "UploadPart", dir.path(), &variables, &up).await;
    assert!((1..12).contains(&parts), "{parts} parts were sent again");
    assert!(server.object_bytes("big.bin").unwrap() == bytes);
    assert_eq!(server.uploads_open(), 0);

    let down = ["storage", "cp", &bucket, "local:back", "-r", "--state", "notes"];
    let ranges = killed_in_the_middle(&server, "GetObject", dir.path(), &variables, &down).await;
    assert!((1..12).contains(&ranges), "{ranges} ranges were loaded again");
    let back = local(&dir.path().join("back")).await;
    assert!(back.download("big.bin").await.unwrap() == bytes);
    assert_eq!(
        back.metadata("big.bin").await.unwrap().content_type,
        "application/x-special"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("notes")).unwrap().count(),
        0,
        "no notes stay behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir.path().join("s")).await;
    let run = async |arguments: &[&str]| zhuji(dir.path(), &[], arguments).await;
    run(&["storage", "sync", "local:s", "local:copy"]).await.ok();
    std::fs::write(dir.path().join("s/by-hand.txt"), "no checksum").unwrap();
    let said = run(&["storage", "verify", "local:s"]).await.ok();
    assert_eq!(
        said,
        "5 objects intact, 1 without a checksum, 0 damaged, missing or different\n"
    );

    // One bit, with size, times and attributes as they were.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join("copy/temp/1"));
    file.unwrap().write_all_at(b"T", 0).unwrap();
    let said = run(&["storage", "verify", "local:copy"]).await;
    assert!(said.err.contains("temp/1: "), "{}", said.err);
    said.failed_with_report(1, "1 objects are not");
    let lines = run(&[
        "storage",
        "verify",
        "local:s",
        "--against",
        "local:copy",
        "--json",
    ])
    .await;
    let json: Vec<serde_json::Value> = lines
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let bad: Vec<&str> = json
        .iter()
        .filter(|line| line["state"] == "bad")
        .map(|line| line["key"].as_str().unwrap())
        .collect();
    assert!(
        bad.contains(&"temp/1") && bad.contains(&"by-hand.txt") && bad.len() == 2,
        "{}",
        lines.out
    );
    assert_eq!(json.last().unwrap()["intact"], 4);
    lines.failed(1, "2 objects");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_shown_applied_and_applied_again_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let rules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/literature/deploy/storage-rules.json"
    );
    local(&dir.path().join("s")).await;
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let variables = variables(&server);
    let bucket = format!("oss://{}", server.bucket());
    let run = async |arguments: &[&str]| zhuji(dir.path(), &variables, arguments).await;
    for place in ["local:s", bucket.as_str()] {
        for _ in 0..2 {
            let shown = run(&["storage", "apply", rules, place, "--dry-run"]).await.ok();
            assert!(
                shown.contains("temp/") && shown.contains("nothing was changed"),
                "{shown}"
            );
        }
        let applied = run(&["storage", "apply", rules, place]).await.ok();
        assert!(applied.ends_with("applied\n"), "{applied}");
        let again = run(&["storage", "apply", rules, place, "--json"]).await.ok();
        let again: serde_json::Value = serde_json::from_str(&again).unwrap();
        assert_eq!(again["changes"].as_array().unwrap().len(), 0, "{again}");
        let again = run(&["storage", "apply", rules, place]).await.ok();
        assert!(again.ends_with("the store has these rules already\n"), "{again}");
    }
    assert_eq!(
        connected(&server)
            .await
            .rules()
            .await
            .unwrap()
            .lifecycle
            .unwrap()
            .len(),
        3
    );
    run(&["storage", "apply", rules, "local:s/temp"])
        .await
        .failed(2, "whole store");
    std::fs::write(dir.path().join("bad.json"), r#"{"lifecycel": []}"#).unwrap();
    run(&["storage", "apply", "bad.json", "local:s"])
        .await
        .failed(2, "lifecycle");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_within_one_another_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("s")).await;
    let before = keys(&store).await;
    std::os::unix::fs::symlink(dir.path().join("s"), dir.path().join("link")).unwrap();
    let (sync, copy): (&[_], &[_]) = (&["storage", "sync", "--delete"], &["storage", "cp", "-r"]);
    for (command, from, to) in [
        (sync, "local:s", "local:s/temp"),
        (sync, "local:s/temp", "local:s"),
        (sync, "local:s/temp", "local:./s/../link/temp/"),
        (sync, "oss://b/asl", "oss://b"),
        (copy, "local:s", "local:s/new"),
        (copy, "oss://b/asl/", "oss://b/asl/old"),
    ] {
        let said = zhuji(dir.path(), &[], &[command, &[from, to]].concat()).await;
        assert_eq!(said.code, 2, "{from} {to}: {}", said.err);
        assert!(said.err.contains("within one another"), "{}", said.err);
    }
    assert_eq!(keys(&store).await, before);
}
