//! The OSS server against the official Python clients.
//!
//! They are installed once into a virtual environment under `target/`, at pinned versions.
#![allow(
    clippy::print_stdout,
    reason = "the clients' lines belong into the test's output"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use zhuji_testkit::oss::{AuthScheme, OssCredentials, OssServer, OssServerOptions};

#[path = "oss2/hostile.rs"]
mod hostile;
#[path = "oss2/proxy.rs"]
mod proxy;
#[path = "oss2/sts.rs"]
mod sts;
#[path = "oss2/wire.rs"]
mod wire;

const REQUIREMENTS: &str = include_str!("oss2/requirements.txt");
const MEND: &str = "install Python with its venv module: `apt-get install -y python3 python3-venv`";

/// A virtual environment with the clients in it, made by the first test that needs it.
fn python() -> PathBuf {
    let system = Command::new("python3")
        .args(["-c", "import sys, venv, ensurepip; print(sys.version)"])
        .output()
        .unwrap_or_else(|error| panic!("python3 can't be started ({error}): {MEND}"));
    assert!(
        system.status.success(),
        "python3 lacks a part ({}): {MEND}",
        told(&system)
    );

    let mut digest = Sha256::new();
    digest.update(REQUIREMENTS);
    digest.update(&system.stdout);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..").join("testkit");
    std::fs::create_dir_all(&home).expect("target/ can be written to");
    let home = home.canonicalize().expect("it was just made");
    let name = format!("venv-{}", &hex::encode(digest.finalize())[..16]);
    let (venv, ready) = (home.join(&name), home.join(&name).join("ready"));

    // Tests run in processes of their own, side by side.
    let lock = File::create(home.join(format!("{name}.lock"))).expect("target/ can be written to");
    lock.lock().expect("the file system knows locks");
    if !ready.is_file() {
        if venv.exists() {
            std::fs::remove_dir_all(&venv).expect("the half-made environment can be removed");
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv), MEND);
        let requirements = home.join(format!("{name}.txt"));
        std::fs::write(&requirements, REQUIREMENTS).expect("target/ can be written to");
        run(
            Command::new(venv.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&requirements),
            "the Python package index has to be reachable (or PIP_INDEX_URL set to a mirror)",
        );
        File::create(&ready).expect("target/ can be written to");
    }
    venv.join("bin/python")
}

fn run(command: &mut Command, mend: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; {mend}"));
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{mend}",
        told(&output)
    );
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&text))
}

/// Runs one script to its end and holds its lines to the number of checks it must have passed.
async fn run_script(name: &str, checks: usize) -> OssServer {
    let options = OssServerOptions::default();
    let token = "sts-token-of-the-test";
    let server = OssServer::start(options.clone()).await.expect("a free port");
    let skewed = OssServer::start(options.clone()).await.expect("a free port");
    skewed.set_clock_offset(SignedDuration::from_mins(20));
    let sts = OssServer::start(OssServerOptions {
        security_token: Some(token.to_owned()),
        ..options
    })
    .await
    .expect("a free port");
    for (id, seconds) in [("STS.good", 3600), ("STS.expired", -1)] {
        let credentials = OssCredentials {
            access_key_id: id.to_owned(),
            access_key_secret: sts.access_key_secret().to_owned(),
            security_token: Some(token.to_owned()),
        };
        let end = Timestamp::now() + SignedDuration::from_secs(seconds);
        sts.add_temporary_credentials(credentials, end);
    }

    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/oss2")
        .join(name);
    let mut command = Command::new(python());
    command
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore")
        .env("NO_PROXY", "*")
        .env("OSS_PORT", server.address().port().to_string())
        .env("OSS_SKEWED_PORT", skewed.address().port().to_string())
        .env("OSS_STS_PORT", sts.address().port().to_string())
        .env("OSS_REGION", server.region())
        .env("OSS_BUCKET", server.bucket())
        .env("OSS_ACCESS_KEY_ID", server.access_key_id())
        .env("OSS_ACCESS_KEY_SECRET", server.access_key_secret())
        .env("OSS_STS_TOKEN", token);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("nothing panics there")
        .expect("the environment's python starts");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{lines}");
    assert!(output.status.success(), "{name} failed: {}", told(&output));
    assert_eq!(
        lines.lines().filter(|line| line.starts_with("ok ")).count(),
        checks,
        "checks passed"
    );
    assert_eq!(
        lines.lines().last(),
        Some(format!("checks: {checks} passed, 0 failed").as_str())
    );
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn oss2_works_and_is_refused_where_it_should_be() {
    let server = run_script("check_oss2.py", 6 * 20 + 15).await;
    // The script may be green for the wrong reason; the server saw which signatures really came.
    let requests = server.requests();
    for scheme in [
        AuthScheme::V4Header,
        AuthScheme::V4Url,
        AuthScheme::V1Header,
        AuthScheme::V1Url,
    ] {
        let good = requests
            .iter()
            .filter(|r| r.auth == scheme && r.status == 200)
            .count();
        assert!(good > 20, "{scheme:?}: {good} good requests");
    }
    let broken: Vec<_> = requests.iter().filter(|r| r.status >= 500).collect();
    assert!(broken.is_empty(), "the server itself failed: {broken:?}");
    assert_eq!(
        server.uploads_open(),
        0,
        "every multipart upload was completed or aborted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_official_client_works_too() {
    let server = run_script("check_oss_v2.py", 5 * 7 + 4).await;
    assert_eq!(server.uploads_open(), 0);
}
