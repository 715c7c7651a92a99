//! The command as an operator types it: the real binary, real directories, and an OSS server that checks signatures.
#![allow(clippy::unwrap_used)]

#[path = "storage/moving.rs"]
mod moving;

use std::path::Path;
use std::process::Command;

use zhuji_storage::{LocalAdapter, LocalOptions, PutOptions, Storage, StorageConfig, StorageFactory};
use zhuji_testkit::oss::{OssServer, OssServerOptions};

type Variables = Vec<(String, String)>;

/// What a command said, and its exit code.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// After other lines about single objects.
    #[track_caller]
    fn failed_with_report(self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        let last = self.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("zhuji: ") && last.contains(why), "{}", self.err);
    }

    #[track_caller]
    fn failed(self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(
            self.err.starts_with("zhuji: ") && self.err.contains(why),
            "{}",
            self.err
        );
    }
}

/// Runs `zhuji` in a directory with these variables and no others. No secret among them may be shown.
async fn zhuji(dir: &Path, variables: &[(String, String)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhuji"));
    command.args(arguments).current_dir(dir).env_clear();
    command.envs(variables.iter().cloned());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    for (name, secret) in variables.iter().filter(|(name, _)| name.contains("SECRET")) {
        let shown = said.out.contains(secret.as_str()) || said.err.contains(secret.as_str());
        assert!(!shown, "{name} is shown");
    }
    said
}

async fn local(root: &Path) -> Storage {
    let opened = LocalAdapter::open(root, LocalOptions::default()).await;
    Storage::new(opened.unwrap())
}

/// A store as a service leaves it. `temp` is a folder, and the beginning of other names.
async fn filled(root: &Path) -> Storage {
    let storage = local(root).await;
    for key in ["temp/1", "temp/deep/2", "templates/a", "temp.txt"] {
        storage.upload(key, key.to_owned()).await.unwrap();
    }
    let options = PutOptions::new()
        .content_type("application/x-special")
        .download_name("文献.pdf")
        .metadata("n", "值");
    let stored = storage.upload_with("asl/文 献.bin", "special", options).await;
    stored.unwrap();
    storage
}

async fn keys(storage: &Storage) -> Vec<String> {
    let page = storage.list("", Default::default()).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

async fn is_special(storage: &Storage, key: &str) {
    let metadata = storage.metadata(key).await.unwrap();
    assert_eq!(metadata.content_type, "application/x-special");
    assert_eq!(metadata.user["n"], "值");
    assert!(metadata.content_disposition.unwrap().contains("UTF-8''"));
}

/// Every file and directory below, with sizes.
fn snapshot(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(snapshot(&entry.path()));
        }
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        found.push((entry.path().display().to_string(), size));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_a_whole_name() {
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(&dir.path().join("s")).await;
    let run = async |arguments: &[&str]| zhuji(dir.path(), &[], arguments).await;
    for at in ["local:s/temp", "local:s/temp/"] {
        let listed = run(&["storage", "ls", at]).await.ok();
        assert!(
            listed.contains("temp/1") && listed.contains("temp/deep/2"),
            "{listed}"
        );
        assert!(
            !listed.contains("templates") && !listed.contains("temp.txt"),
            "{listed}"
        );
        assert!(listed.contains("\n2 objects, 17"), "{listed}");
    }
    let would = run(&["storage", "rm", "local:s/temp", "--recursive", "--dry-run"]).await;
    assert_eq!(would.ok(), "would delete temp/1\nwould delete temp/deep/2\n");
    assert_eq!(keys(&storage).await.len(), 5);
    run(&["storage", "rm", "local:s/temp"])
        .await
        .failed(1, "--recursive");
    let removed = run(&["storage", "rm", "local:s/temp", "--recursive"]).await;
    assert_eq!(removed.ok(), "2 objects deleted\n");
    assert_eq!(keys(&storage).await, ["asl/文 献.bin", "temp.txt", "templates/a"]);
    run(&["storage", "rm", "local:s/temp.txt"]).await.ok();
    assert_eq!(keys(&storage).await, ["asl/文 献.bin", "templates/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(&dir.path().join("s")).await);
    std::fs::create_dir(dir.path().join("plain")).unwrap();
    std::fs::write(dir.path().join("plain/by-hand.txt"), "x").unwrap();
    let before = snapshot(dir.path());
    let run = async |arguments: &[&str]| zhuji(dir.path(), &[], arguments).await;
    run(&["storage", "ls", "local:s"]).await.ok();
    run(&["storage", "ls", "local:s/asl"]).await.ok();
    let plain = run(&["storage", "ls", "local:plain", "--json"]).await.ok();
    let line: serde_json::Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(
        (line["key"].as_str(), line["size"].as_u64()),
        (Some("by-hand.txt"), Some(1))
    );
    for (at, why) in [
        ("local:typo", "no such file or directory"),
        ("local:plain/typo/deeper", "no such file or directory"),
        ("local:plain/by-hand.txt/x", "no such file or directory"),
        ("local:s/typo", "no object at"),
    ] {
        run(&["storage", "ls", at]).await.failed(1, why);
        run(&["storage", "rm", at, "-r", "--dry-run"])
            .await
            .failed(1, why);
        run(&["storage", "cp", at, "local:new", "-r"])
            .await
            .failed(1, why);
    }
    run(&["storage", "rm", "local:plain", "-r"])
        .await
        .failed(1, "no store here");
    let would = run(&[
        "storage",
        "cp",
        "local:s/templates",
        "local:new/place",
        "-r",
        "--dry-run",
    ])
    .await;
    assert_eq!(
        would.ok(),
        "would copy templates/a to a\n1 would be copied, 0 are already there\n"
    );
    assert_eq!(snapshot(dir.path()), before);
    let wrong: [&[&str]; 4] = [
        &["storage", "ls", "s3://x"],
        &["storage", "ls"],
        &["storage", "no"],
        &[],
    ];
    for wrong in wrong {
        assert_eq!(run(wrong).await.code, 2, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_directory_to_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir.path().join("s")).await;
    // A service's own settings lie beside it.
    std::fs::write(dir.path().join("zhuji.toml"), "ASL_SOMETHING = \"else\"\n").unwrap();
    let run = async |arguments: &[&str]| zhuji(dir.path(), &[], arguments).await;
    let said = run(&["storage", "cp", "local:s", "local:made/new", "--recursive"]).await;
    assert_eq!(said.ok(), "5 objects copied (43B), 0 are already there\n");
    let copy = local(&dir.path().join("made/new")).await;
    assert_eq!(keys(&copy).await, keys(&store).await);
    is_special(&copy, "asl/文 献.bin").await;
    // One object, into a folder and under another name, in a store that is there.
    run(&["storage", "cp", "local:s/temp/1", "local:made/new/box/"])
        .await
        .ok();
    run(&["storage", "cp", "local:s/temp/1", "local:made/new/other/name"])
        .await
        .ok();
    assert_eq!(copy.download("box/1").await.unwrap(), "temp/1");
    assert_eq!(copy.download("other/name").await.unwrap(), "temp/1");
    assert!(!dir.path().join("made/new/box/.zhuji").exists());
    // A file can't become a store.
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let refused = run(&["storage", "cp", "local:s/temp/1", "local:file/x"]).await;
    refused.failed(1, "local:file/x");
}

fn variables(server: &OssServer) -> Variables {
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        of("OSS_REGION", server.region()),
        of("OSS_ENDPOINT", &server.endpoint()),
        of("OSS_ACCESS_KEY_ID", server.access_key_id()),
        of("OSS_ACCESS_KEY_SECRET", server.access_key_secret()),
    ]
}

async fn connected(server: &OssServer) -> Storage {
    let mut pairs = variables(server);
    pairs.push(("STORAGE_TYPE".to_owned(), "oss".to_owned()));
    pairs.push(("OSS_BUCKET".to_owned(), server.bucket().to_owned()));
    let config: StorageConfig = zhuji_config::load_from_pairs(pairs).unwrap();
    StorageFactory::new().build(&config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn to_oss_and_back() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir.path().join("s")).await;
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let variables = variables(&server);
    let bucket = format!("oss://{}", server.bucket());
    let at = |key: &str| format!("{bucket}/{key}");
    let run = async |arguments: &[&str]| zhuji(dir.path(), &variables, arguments).await;

    run(&["storage", "cp", "local:s", &at("moved/"), "-r"]).await.ok();
    let oss = connected(&server).await;
    is_special(&oss, "moved/asl/文 献.bin").await;
    let listed = run(&["storage", "ls", &at("moved/temp"), "--json"]).await.ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");

    run(&["storage", "cp", &bucket, "local:back", "-r"]).await.ok();
    let back = local(&dir.path().join("back")).await;
    assert_eq!(keys(&back).await, keys(&oss).await);
    is_special(&back, "moved/asl/文 献.bin").await;
    assert_eq!(back.download("moved/temp/1").await.unwrap(), "temp/1");

    let would = run(&["storage", "rm", &at("moved/temp"), "-r", "--dry-run"])
        .await
        .ok();
    assert_eq!(would.lines().count(), 2, "{would}");
    assert_eq!(keys(&oss).await.len(), 5);
    run(&["storage", "rm", &at("moved/temp"), "-r"]).await.ok();
    let left = ["moved/asl/文 献.bin", "moved/temp.txt", "moved/templates/a"];
    assert_eq!(keys(&oss).await, left);
    run(&["storage", "ls", &at("moved/temp")])
        .await
        .failed(1, "no object at");
    run(&["storage", "rm", &at("moved/templates")])
        .await
        .failed(1, "--recursive");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_told_and_secrets_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = OssServer::start(OssServerOptions::default()).await.unwrap();
    let bucket = format!("oss://{}", server.bucket());
    let mut wrong = variables(&server);
    wrong.pop();
    wrong.push(("OSS_ACCESS_KEY_SECRET".to_owned(), "MustNotBeShown".to_owned()));
    let said = zhuji(dir.path(), &wrong, &["storage", "ls", &bucket]).await;
    said.failed(1, "SignatureDoesNotMatch");
    let none = zhuji(dir.path(), &[], &["storage", "ls", &bucket]).await;
    for missing in ["OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"] {
        assert!(none.err.contains(missing), "{}", none.err);
    }
    none.failed(2, "can't be opened");
    wrong.push(("OSS_ENDPIONT".to_owned(), "x".to_owned()));
    let typo = zhuji(dir.path(), &wrong, &["storage", "ls", &bucket]).await;
    typo.failed(2, "OSS_ENDPIONT");
}

#[tokio::test]
async fn plans_and_their_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let plan = async |max: &str, instances: &str, more: &[&str]| {
        let mut arguments = vec!["plan", "--max-connections", max, "--instances", instances];
        arguments.extend_from_slice(more);
        zhuji(dir.path(), &[], &arguments).await
    };
    let json = |said: &Said| serde_json::from_str::<serde_json::Value>(&said.out).unwrap();
    let text = plan("400", "10", &[]).await.ok();
    assert!(text.contains(": a pool of 16 for each instance\n"), "{text}");
    let said = plan("400", "10", &["--json"]).await;
    let (code, plan_of_ten) = (said.code, json(&said));
    assert_eq!(
        (code, plan_of_ten["verdict"].as_str()),
        (0, Some("OK")),
        "{}",
        said.out
    );
    assert_eq!(plan_of_ten["pool_size"], 16);
    // What each instance wants, 500 × 20 ms × 1.5, fits; ten times as much doesn't; and nothing fits into 20.
    for (max, per_second, code, verdict, wanted) in [
        ("400", "500", 0, "OK", 15),
        ("400", "5000", 3, "TIGHT", 150),
        ("20", "500", 4, "IMPOSSIBLE", 15),
    ] {
        let demand = ["--json", "--per-second", per_second, "--hold", "20ms"];
        let said = plan(max, "10", &demand).await;
        let told = json(&said);
        assert_eq!(
            (said.code, told["verdict"].as_str()),
            (code, Some(verdict)),
            "{}",
            said.out
        );
        assert_eq!(told["wanted"], wanted);
        let text = plan(max, "10", &demand[1..]).await;
        assert!(text.code == code && text.out.starts_with(verdict), "{}", text.out);
    }
    assert_eq!(plan("400", "10", &["--per-second", "500"]).await.code, 2);
    assert_eq!(
        plan("400", "10", &["--per-second", "500", "--hold", "20"])
            .await
            .code,
        2
    );
    assert_eq!(plan("many", "10", &[]).await.code, 2);
}
