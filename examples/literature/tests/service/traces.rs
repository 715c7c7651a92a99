//! One trace from a request through storage, database and the job that it caused, as a real collector understands it.
//!
//! The collector is `rotel` of the Python package index, at a pinned version, installed once under `target/`. Where it can't be
//! had the test says so loudly and passes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zhuji_testkit::free_port;

use crate::support::{BOUNDARY, LITERATURES, Setup, multipart, pdf};

const COLLECTOR: &str = "rotel==0.0.1a15";
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The collector's program out of its wheel.
fn program() -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../testkit");
    std::fs::create_dir_all(&home).expect("target can be written to");
    let home = home.canonicalize().expect("it was just made");
    let name = COLLECTOR.replace("==", "-");
    let (venv, ready) = (home.join(&name), home.join(&name).join("ready"));
    // Tests run in processes of their own, side by side.
    let lock = File::create(home.join(format!("{name}.lock"))).expect("target can be written to");
    lock.lock().expect("the file system knows locks");
    if !ready.is_file() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        run(pip.args(["--only-binary", ":all:", COLLECTOR]))?;
        File::create(&ready).expect("target can be written to");
    }
    let mut python = Command::new(venv.join("bin/python"));
    let found = python
        .args(["-c", "import rotel; print(rotel.__path__[0])"])
        .output();
    let found = found.map_err(|error| error.to_string())?;
    Ok(Path::new(String::from_utf8_lossy(&found.stdout).trim()).join("rotel-agent"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(told)
}

/// A running collector that writes down every span it gets.
struct Collector {
    child: Child,
    port: u16,
    dir: TempDir,
}

#[derive(Debug, Default)]
struct Span {
    trace: String,
    parent: String,
    id: String,
    name: String,
    kind: String,
    attributes: Vec<(String, String)>,
}

impl Span {
    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Collector {
    fn start() -> Option<Self> {
        let program = match program() {
            Ok(program) => program,
            Err(why) => {
                eprintln!(
                    "=================================================================================="
                );
                eprintln!(
                    "SKIPPED the traces against a real collector: {COLLECTOR} can't be installed: {why}"
                );
                eprintln!(
                    "=================================================================================="
                );
                return None;
            }
        };
        let (dir, port) = (tempfile::tempdir().expect("a temporary directory"), free_port());
        let log = File::create(dir.path().join("log")).expect("it is ours");
        let child = Command::new(program)
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", free_port())])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the collector runs");
        Some(Self { child, port, dir })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("it is ours")
    }

    fn spans(&self) -> Vec<Span> {
        let said = self.said();
        let spans = said.split("\nSpan #").skip(1);
        spans
            .map(|text| {
                let mut span = Span::default();
                for line in text.lines() {
                    if let Some((name, value)) =
                        line.split_once("-> ").and_then(|(_, rest)| rest.split_once(": "))
                    {
                        span.attributes.push((name.to_owned(), value.to_owned()));
                        continue;
                    }
                    let Some((name, value)) = line.split_once(':') else {
                        continue;
                    };
                    let value = value.trim().to_owned();
                    match name.trim() {
                        "Trace ID" => span.trace = value,
                        "Parent ID" => span.parent = value,
                        "ID" => span.id = value,
                        "Name" => span.name = value,
                        "Kind" => span.kind = value,
                        _ => {}
                    }
                }
                span
            })
            .collect()
    }

    async fn until(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let start = Instant::now();
        loop {
            let spans = self.spans();
            if enough(&spans) {
                return spans;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "these came only:\n{spans:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_its_storage_its_statements_and_its_job_are_one_trace() {
    let Some(collector) = Collector::start() else {
        return;
    };
    let setup = Setup::new()
        .await
        .set(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{}", collector.port),
        )
        .set("OTEL_BSP_SCHEDULE_DELAY", "200")
        .set("OTEL_SERVICE_NAME", "screening")
        .set("OTEL_RESOURCE_ATTRIBUTES", "site=hospital%20no.%201");
    let service = setup.start().await;
    let id = service.one_record().await;
    let request = service
        .client
        .post(service.url(&format!("{LITERATURES}/{id}/pdf")))
        .header(
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .header("traceparent", CALLER)
        .body(multipart("file", "the-name-of-a-patient.pdf", &pdf(2)));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    service.extracted(&id).await;

    let in_trace = |span: &&Span| span.trace == "4bf92f3577b34da6a3ce929d0e0e4736";
    let spans = collector
        .until(|spans| {
            spans
                .iter()
                .filter(in_trace)
                .any(|span| span.kind.ends_with("CONSUMER"))
        })
        .await;
    let trace: Vec<&Span> = spans.iter().filter(in_trace).collect();
    let only = |kind: &str| {
        let found: Vec<_> = trace.iter().filter(|span| span.kind.ends_with(kind)).collect();
        assert_eq!(found.len(), 1, "{trace:#?}");
        *found[0]
    };
    let (server, job) = (only("SERVER"), only("CONSUMER"));
    assert_eq!(server.parent, "00f067aa0ba902b7", "the caller's span");
    assert_eq!(server.name, "POST /api/v1/asl/literatures/{id}/pdf");
    assert_eq!(server.attribute("http.response.status_code"), Some("Int(200)"));
    assert_eq!(job.parent, server.id, "the request caused the job");
    assert!(job.name.starts_with("job "), "{job:?}");

    // The same ids as in the log, on the request's line and on the job's.
    let line = service.logged("/pdf\"").await;
    assert!(
        line.contains(&server.trace) && line.contains(&server.id),
        "{line}"
    );
    let lines = service.log();
    let of_job = lines
        .iter()
        .filter(|line| line.contains("\"job_id\"") && line.contains(&server.trace));
    assert!(of_job.count() > 0, "{lines:#?}");

    let below = |parent: &Span, name: &str| {
        let children = trace
            .iter()
            .filter(|span| span.parent == parent.id && span.name.starts_with(name));
        children.count()
    };
    assert_eq!(below(server, "storage upload"), 1, "{trace:#?}");
    assert!(below(server, "UPDATE") + below(server, "WITH") > 0, "{trace:#?}");
    assert!(
        below(server, "INSERT") > 0,
        "the job was enqueued with a statement: {trace:#?}"
    );
    assert_eq!(below(job, "storage download"), 1, "{trace:#?}");
    assert!(below(job, "UPDATE") > 0, "{trace:#?}");
    let statements: Vec<_> = trace
        .iter()
        .filter_map(|span| span.attribute("db.query.text"))
        .collect();
    assert!(
        statements.iter().any(|text| text.contains("$1")),
        "{statements:#?}"
    );

    let said = collector.said();
    assert!(said.contains("service.name: Str(screening)") && said.contains("site: Str(hospital no. 1)"));
    for secret in ["the-name-of-a-patient", "A record of the test", "postgres://"] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    // Looking for jobs and for signs of life is nobody's trace.
    assert!(
        spans
            .iter()
            .all(|span| span.kind.ends_with("SERVER") || !span.parent.is_empty()),
        "{spans:#?}"
    );

    // What is still waiting goes out at the end.
    let last = "00-11112222333344445555666677778888-00f067aa0ba902b7-01";
    let request = service
        .client
        .get(service.url(LITERATURES))
        .header("traceparent", last);
    request.send().await.expect("an answer");
    assert!(service.terminate().await.success());
    collector
        .until(|spans| spans.iter().any(|span| span.trace == last[3..35]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_told_once_and_costs_nothing() {
    let nobody = free_port();
    let setup = Setup::new()
        .await
        .set(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{nobody}"),
        )
        .set("OTEL_BSP_SCHEDULE_DELAY", "50")
        .set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hush-hush");
    let service = setup.start().await;
    service.json(LITERATURES).await;
    service.logged("traces can't be sent").await;
    for _ in 0..50 {
        service.json(LITERATURES).await;
    }
    let start = Instant::now();
    let dropped = "zhuji_otel_dropped_spans_total{reason=\"unreachable\"}";
    loop {
        let metrics = service.get("/metrics").await.expect("an answer");
        if metrics.text().await.expect("a body").contains(dropped) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = service.log().join("\n");
    assert_eq!(log.matches("traces can't be sent").count(), 1, "{log}");
    assert!(!log.contains("hush-hush"), "{log}");
    assert!(service.terminate().await.success(), "the end is clean");
}
