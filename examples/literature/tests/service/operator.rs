//! The service's own commands and its settings, as an operator meets them.

use crate::support::{BOUNDARY, LITERATURES, Setup, part_head, pdf};
use reqwest::Method;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zhuji::config::load_from_pairs;
use zhuji::storage::{SignOptions, StorageConfig, StorageFactory};
use zhuji_testkit::{TestDatabase, free_port};

fn literature(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Command::new(env!("CARGO_BIN_EXE_literature"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir.path())
        .output()
        .expect("the binary runs")
}

/// To write it anew: `literature config template > examples/literature/.env.example`.
#[test]
fn the_committed_template_equals_the_types() {
    let output = literature(&["config", "template"], &[]);
    assert!(output.status.success(), "{output:?}");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let committed = std::fs::read_to_string(committed).expect("it is committed");
    let generated = String::from_utf8(output.stdout).expect("it is text");
    for (number, (committed, generated)) in (1..).zip(committed.lines().zip(generated.lines())) {
        assert_eq!(
            committed, generated,
            ".env.example differs in line {number}; write it anew"
        );
    }
    assert_eq!(
        committed, generated,
        ".env.example has another length; write it anew"
    );
}

#[test]
fn all_wrong_settings_are_named_at_once_and_no_secret_is_shown() {
    let output = literature(
        &["serve"],
        &[
            ("DATABASE_URL", "postgres://asl:hush-hush@127.0.0.1:1/asl"),
            ("ASL_MAX_PDF_BYTES", "plenty"),
            ("ASL_PDF_URL_EXPIRE", "5m"),
            ("STORAGE_TYPE", "locl"),
            ("PORT", "70000"),
        ],
    );
    assert_eq!(output.status.code(), Some(78));
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for words in [
        "ASL_MAX_PDF_BYTES",
        "ASL_PDF_URL_EXPIRE (environment) is not a variable of this program. Did you mean ASL_PDF_URL_EXPIRES?",
        "STORAGE_TYPE",
        "`locl`. Did you mean `local`?",
        "PORT (environment)",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
    assert!(!text.contains("hush-hush"), "{text}");
}

#[test]
fn the_program_knows_its_modules() {
    let output = literature(&["modules"], &[("DATABASE_URL", "postgres://127.0.0.1:1/asl")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("asl"), "{output:?}");
}

#[test]
fn a_module_that_is_not_there_is_refused() {
    let variables = [
        ("DATABASE_URL", "postgres://asl@127.0.0.1:1/asl"),
        ("MODULES", "als"),
    ];
    let output = literature(&["serve"], &variables);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in ["MODULES", "`als`", "asl"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

/// What the settings can't tell, the server does: its own limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_too_few_connections_for_all_instances_is_refused() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let output = literature(
        &["migrate"],
        &[
            ("APP_ENV", "production"),
            ("DEPLOYMENT_MODE", "private"),
            ("DATABASE_URL", &url),
            ("BASE_URL", "http://localhost"),
            ("STORAGE_SIGNING_KEY", "0123456789abcdef"),
            ("STORAGE_LOCAL_SHARED", "true"),
            ("DB_MAX_INSTANCES", "1000"),
        ],
    );
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in [
        "IMPOSSIBLE",
        "1000 instances and 1000 more",
        "max_connections of at least",
        "DATABASE_POOLED_URL",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_how_it_went() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let port = free_port().to_string();
    let good = [
        ("DATABASE_URL", url.as_str()),
        ("PORT", &port),
        ("STARTUP_TIMEOUT", "1s"),
    ];
    let bad = [
        ("DATABASE_URL", "postgres://asl@127.0.0.1:1/asl"),
        ("PORT", &port),
        ("STARTUP_TIMEOUT", "1s"),
    ];
    for (arguments, variables, code, words) in [
        (["migrate"], &good, 0, "asl: 2 migrations applied"),
        (["migrate"], &good, 0, "asl: up to date"),
        (["migrate"], &bad, 69, "database"),
        (["doctor"], &good, 0, "database"),
        (["doctor"], &bad, 2, "DATABASE_URL"),
        (["healthcheck"], &good, 1, &port),
    ] {
        let output = literature(&arguments, variables);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {output:?}");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(words), "{arguments:?}: {words:?} is not in\n{text}");
    }
    let setup = Setup::with_database_url(&url);
    let service = setup.start().await;
    let port = service.port.to_string();
    let running = [("DATABASE_URL", url.as_str()), ("PORT", &port)];
    let output = literature(&["healthcheck"], &running);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = literature(&["healthcheck", "--path", "/nothing"], &running);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn web_and_worker_share_the_work() {
    let web = Setup::new().await.set("ROLE", "web");
    let url = web.database.as_ref().expect("it has one").url();
    let worker = Setup::with_database_url(&url)
        .set("STORAGE_LOCAL_DIR", web.uploads())
        .set("ROLE", "worker");
    let service = web.start().await;
    let id = service.one_record().await;
    assert_eq!(service.upload(&id, "x.pdf", &pdf(2)).await.status, 200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let record = service.json(&format!("{LITERATURES}/{id}")).await;
    assert_eq!(
        record["extraction"]["state"], "pending",
        "ROLE=web does not run jobs"
    );

    let worker = worker.start().await;
    assert_eq!(service.extracted(&id).await["extraction"]["pages"], 2);
    for (path, status) in [("/health", 200), (LITERATURES, 404)] {
        let answer = worker.get(path).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_filter_is_the_administrators() {
    let setup = Setup::new().await.set("LOG_LEVEL", "error");
    let service = setup.start().await;
    let answer = change_filter(&service, Some("of-nobody")).await;
    assert_eq!(answer, 404, "without ADMIN_TOKEN there is no such route");
    assert!(service.terminate().await.success());

    let setup = setup.set("ADMIN_TOKEN", "token-of-the-test");
    let service = setup.start().await;
    assert_eq!(change_filter(&service, None).await, 401);
    assert_eq!(change_filter(&service, Some("token-of-the-tes")).await, 401);
    service.get("/health/live").await.expect("an answer");
    service.json(LITERATURES).await;
    let log = service.log().join("\n");
    assert!(!log.contains("\"request\""), "{log}");
    assert_eq!(change_filter(&service, Some("token-of-the-test")).await, 200);
    service.json(LITERATURES).await;
    service.logged("\"message\":\"request\"").await;
    let log = service.log().join("\n");
    assert!(!log.contains("token-of-the-test"), "{log}");
}

async fn change_filter(service: &crate::support::Service, token: Option<&str>) -> u16 {
    let mut request = service
        .client
        .put(service.url("/admin/log-filter"))
        .header("content-type", "application/json")
        .body(r#"{"filter":"info,asl=debug","for":"1m"}"#);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_have_a_port_of_their_own() {
    let port = free_port();
    let setup = Setup::new()
        .await
        .set("METRICS_LISTEN", format!("127.0.0.1:{port}"));
    let service = setup.start().await;
    service.call(Method::GET, "/metrics").await.is_problem(404, "");
    let url = format!("http://127.0.0.1:{port}/metrics");
    let answer = service.client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("a body");
    assert!(text.contains("zhuji_build_info"), "{text}");
    let url = format!("http://127.0.0.1:{port}{LITERATURES}");
    let answer = service.client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "only what operators need is on that port");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_shutdown_that_hangs() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    let mut socket = TcpStream::connect(("127.0.0.1", service.port))
        .await
        .expect("it listens");
    let head = format!(
        "POST {LITERATURES}/{id}/pdf HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("it reads");
    socket
        .write_all(&part_head("file", "x.pdf"))
        .await
        .expect("it reads");
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.signal(rustix::process::Signal::TERM);
    service.logged("shutting down").await;
    // It would wait for the request for many seconds.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let begin = Instant::now();
    let status = service.terminate().await;
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_address_takes_an_upload_and_no_other() {
    const KEY: &str = "a signing key of this test alone";
    let setup = Setup::new().await.set("STORAGE_SIGNING_KEY", KEY);
    let service = setup.start().await;
    // The same store, opened by another program that knows the key.
    let dir = setup.uploads();
    let base = service.url("");
    let config = load_from_pairs::<StorageConfig>([
        ("STORAGE_LOCAL_DIR", dir.to_str().expect("plain letters")),
        ("STORAGE_SIGNING_KEY", KEY),
        ("BASE_URL", &base),
    ])
    .expect("good settings");
    let storage = StorageFactory::new().build(&config).await.expect("a directory");
    let put = |url: String, content_type: &str| {
        let request = service.client.put(url).header("content-type", content_type);
        async { request.body(pdf(1)).send().await.expect("an answer").status() }
    };
    let options = SignOptions::put("application/pdf").expires(Duration::from_secs(60));
    let signed = storage
        .signed_url("direct/one.pdf", options)
        .await
        .expect("it signs");
    let url = signed.as_str().to_owned();
    assert!(url.starts_with(&format!("{base}/uploads/direct/one.pdf?")));
    for (tampered, content_type) in [
        (url.replace("one.pdf", "two.pdf"), "application/pdf"),
        (url.clone(), "text/html"),
        (
            url.split('?').next().expect("an address").to_owned(),
            "application/pdf",
        ),
        (with_another_signature(&url), "application/pdf"),
    ] {
        assert_eq!(put(tampered, content_type).await, 403);
    }
    assert!(!dir.join("direct").exists(), "something was stored");
    assert!(put(url, "application/pdf").await.is_success());
    assert_eq!(
        storage.download("direct/one.pdf").await.expect("it is stored"),
        pdf(1)
    );
}

/// The address with another letter in its signature.
fn with_another_signature(url: &str) -> String {
    let (before, signature) = url.split_once("x-zhuji-signature=").expect("it is signed");
    let (first, rest) = signature.split_at(1);
    // Digits: hexadecimal letters mean the same in either case.
    let other = if first == "0" { "1" } else { "0" };
    format!("{before}x-zhuji-signature={other}{rest}")
}
