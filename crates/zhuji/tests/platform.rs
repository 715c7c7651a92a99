//! The platform as a process: `examples/tiny`, a service of two modules without a database.

#[path = "platform/jobs_pages.rs"]
mod jobs_pages;
#[path = "platform/status_page.rs"]
mod status_page;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Built by cargo together with the tests.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = profile.join("examples/tiny");
    assert!(
        binary.exists(),
        "run all targets, or first `cargo build -p zhuji --example tiny`"
    );
    binary
}

fn command(dir: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .envs([
            ("PORT", "0"),
            ("JOBS_TYPE", "memory"),
            ("LOG_FORMAT", "json"),
            ("STORAGE_LOCAL_DIR", "files"),
        ])
        .envs(variables.iter().copied())
        .current_dir(dir);
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    command(dir.path(), variables)
        .args(arguments)
        .output()
        .expect("the example runs")
}

struct Service {
    child: Child,
    address: String,
    client: Client,
    dir: TempDir,
}

impl Service {
    fn start(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut child = command(dir.path(), variables)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example runs");
        let output = child.stdout.take().expect("it was piped");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if line["message"] == "listening" {
                    let _ = send.send(line["address"].as_str().unwrap_or_default().to_owned());
                }
            }
        });
        let address = receive.recv_timeout(Duration::from_secs(20)).expect("it listens");
        Self {
            child,
            address,
            client: zhuji_testkit::http_client(),
            dir,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.client.get(self.url(path)).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a body"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("not zero");
        kill_process(pid, signal).expect("it lives");
    }

    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_module_sees_its_own_prefix_and_its_own_settings() {
    let service = Service::start(&[("NOTES_GREETING", "good day")]);
    let written = service
        .client
        .put(service.url("/api/v1/notes/a.txt"))
        .body("sir")
        .send()
        .await
        .expect("an answer");
    let url: String = serde_json::from_str(&written.text().await.expect("a body")).expect("a URL");
    let port = service.address.rsplit(':').next().expect("a port");
    assert_eq!(url, format!("http://localhost:{port}/uploads/notes/a.txt"));
    assert_eq!(
        service.get("/api/v1/notes/a.txt").await,
        (StatusCode::OK, "good day sir".to_owned())
    );
    assert!(service.dir.path().join("files/notes/a.txt").exists());
    assert_eq!(
        service.get("/uploads/notes/a.txt").await.0,
        StatusCode::FORBIDDEN,
        "private without a signature"
    );
    let preflight = || {
        let request = service
            .client
            .request(reqwest::Method::OPTIONS, service.url("/uploads/notes/a.txt"));
        let request = request.header("origin", "https://app.example.com");
        request.header("access-control-request-method", "PUT").send()
    };
    assert_eq!(
        preflight().await.expect("an answer").status(),
        StatusCode::FORBIDDEN
    );
    let rules = r#"{"cors": [{"origins": ["https://*.example.com"], "methods": ["PUT"]}]}"#;
    std::fs::write(service.dir.path().join("files/.zhuji/rules.json"), rules).expect("a file");
    assert_eq!(
        preflight().await.expect("an answer").status(),
        StatusCode::OK,
        "by the rules of the store"
    );

    let start = Instant::now();
    while service.get("/api/v1/notes/a.txt.copy").await.0 != StatusCode::OK {
        assert!(start.elapsed() < Duration::from_secs(10), "the job did not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn modules_chooses_and_an_unknown_name_is_refused() {
    let service = Service::start(&[("MODULES", "ping")]);
    assert_eq!(service.get("/api/v1/ping").await.1, "pong");
    assert_eq!(service.get("/api/v1/notes/a").await.0, StatusCode::NOT_FOUND);

    let refused = run(&[], &[("MODULES", "ping,note"), ("NOTES_GREETIN", "x")]);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("no module `note`") && text.contains("Did you mean `notes`?"),
        "{text}"
    );
    assert!(
        text.contains("NOTES_GREETING"),
        "the settings of a module that is off are known: {text}"
    );
}

#[tokio::test]
async fn a_web_process_runs_no_jobs_and_a_worker_serves_no_routes() {
    let web = Service::start(&[("ROLE", "web")]);
    web.client
        .put(web.url("/api/v1/notes/a"))
        .body("x")
        .send()
        .await
        .expect("an answer");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(web.get("/api/v1/notes/a.copy").await.0, StatusCode::NOT_FOUND);

    let worker = Service::start(&[("ROLE", "worker")]);
    assert_eq!(worker.get("/api/v1/ping").await.0, StatusCode::NOT_FOUND);
    assert_eq!(worker.get("/health/ready").await.0, StatusCode::OK);
}

#[tokio::test]
async fn hostile_input_breaks_its_own_process_and_no_other() {
    let service = Service::start(&[("SOME_SECRET", "x")]);
    let client = &service.client;
    let ask = async |how: &str| {
        let answer = client
            .post(service.url(&format!("/api/v1/notes/isolated/{how}")))
            .send()
            .await;
        let answer = answer.expect("an answer");
        (answer.status(), answer.text().await.expect("a body"))
    };
    assert_eq!(ask("fine").await, (StatusCode::OK, "did fine".to_owned()));
    assert_eq!(ask("environment").await.1, "0 variables");
    for (how, kind) in [
        ("loop", "TimedOut(2s)"),
        ("sleep", "TimedOut(2s)"),
        ("allocate", "Crashed"),
        ("recurse", "Crashed"),
        ("panic", "Crashed"),
        ("flood", "OutputTooLarge(1048576)"),
        ("refuse", "this is no note"),
    ] {
        let (status, body) = ask(how).await;
        let body: Value = serde_json::from_str(&body).expect("a problem");
        assert_eq!(
            (status, body["kind"].as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, Some(kind)),
            "{how}: {body}"
        );
        assert_eq!(body["about_the_input"], true, "{how}");
    }
    assert_eq!(
        ask("write").await.0,
        StatusCode::UNPROCESSABLE_ENTITY,
        "no file can be written"
    );
    assert_eq!(service.get("/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_task_that_is_ended_from_outside_may_be_tried_again() {
    let service = Service::start(&[]);
    let asked = tokio::spawn(
        service
            .client
            .post(service.url("/api/v1/notes/isolated/sleep"))
            .send(),
    );
    let child = loop {
        let children = format!("/proc/{0}/task/{0}/children", service.child.id());
        let mut all = std::fs::read_to_string(&children).unwrap_or_default();
        // A child of another thread is listed there.
        for task in std::fs::read_dir(format!("/proc/{}/task", service.child.id()))
            .expect("it lives")
            .flatten()
        {
            all += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
        if let Some(pid) = all.split_whitespace().next() {
            break pid.parse::<i32>().expect("a pid");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    kill_process(Pid::from_raw(child).expect("not zero"), Signal::TERM).expect("it lives");
    let body: Value = serde_json::from_str(&asked.await.unwrap().unwrap().text().await.unwrap()).unwrap();
    assert_eq!(body["kind"], "Interrupted", "{body}");
    assert_eq!(body["about_the_input"], false);
}

#[tokio::test]
async fn the_admin_token_opens_the_log_filter() {
    let service = Service::start(&[("ADMIN_TOKEN", "open-sesame")]);
    let change = |token: &'static str, body: &'static str| {
        let request = service
            .client
            .put(service.url("/admin/log-filter"))
            .bearer_auth(token);
        request
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    let good = r#"{"filter":"info,notes=debug","for":"1m"}"#;
    assert_eq!(
        change("open-sesame", good).await.expect("an answer").status(),
        200
    );
    assert_eq!(change("wrong", good).await.expect("an answer").status(), 401);
    for bad in [
        r#"{"filter":"shout"}"#,
        r#"{"filter":"info","for":"soon"}"#,
        "{}",
        "no json",
    ] {
        let status = change("open-sesame", bad).await.expect("an answer").status();
        assert!(status.is_client_error(), "{bad}: {status}");
    }
    let without = Service::start(&[]);
    assert_eq!(
        without
            .client
            .put(without.url("/admin/log-filter"))
            .send()
            .await
            .expect("an answer")
            .status(),
        404
    );
}

#[tokio::test]
async fn metrics_can_have_a_port_of_their_own() {
    let port = zhuji_testkit::free_port();
    let service = Service::start(&[("METRICS_LISTEN", &format!("127.0.0.1:{port}"))]);
    assert_eq!(service.get("/metrics").await.0, StatusCode::NOT_FOUND);
    let own = format!("http://127.0.0.1:{port}");
    let text = service
        .client
        .get(format!("{own}/metrics"))
        .send()
        .await
        .expect("an answer")
        .text()
        .await;
    assert!(text.expect("a body").contains("zhuji_build_info"));
    assert_eq!(
        service
            .client
            .get(format!("{own}/elsewhere"))
            .send()
            .await
            .expect("an answer")
            .status(),
        404
    );
    assert_eq!(
        service
            .client
            .post(format!("{own}/metrics"))
            .send()
            .await
            .expect("an answer")
            .status(),
        405
    );
}

#[tokio::test]
async fn one_signal_lets_requests_finish_and_a_second_one_does_not_wait() {
    let mut patient = Service::start(&[]);
    let request = tokio::spawn(patient.client.get(patient.url("/api/v1/notes/slow/800")).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    patient.signal(Signal::TERM);
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "at last");
    assert_eq!(patient.ended().code(), Some(0), "nothing was cut off");

    let mut hasty = Service::start(&[]);
    let _request = tokio::spawn(hasty.client.get(hasty.url("/api/v1/notes/slow/60000")).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    hasty.signal(Signal::INT);
    tokio::time::sleep(Duration::from_millis(200)).await;
    hasty.signal(Signal::INT);
    assert_eq!(hasty.ended().code(), Some(1), "a request was cut off");

    let mut late = Service::start(&[("SHUTDOWN_TIMEOUT", "2s")]);
    let _request = tokio::spawn(late.client.get(late.url("/api/v1/notes/slow/60000")).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    late.signal(Signal::TERM);
    assert_eq!(late.ended().code(), Some(1), "the budget ended");
}

#[tokio::test]
async fn readiness_ends_first_and_requests_are_served_for_the_drain_delay() {
    let mut service = Service::start(&[("DRAIN_DELAY", "1s")]);
    service.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        service.get("/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(service.get("/health/live").await.0, StatusCode::OK);
    let answer = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status(), answer.headers()["connection"].to_str().ok()),
        (StatusCode::OK, Some("close"))
    );
    assert_eq!(service.ended().code(), Some(0));
}

#[tokio::test]
async fn the_operators_commands_answer() {
    assert_eq!(run(&["config", "check"], &[]).status.code(), Some(0));
    assert_eq!(run(&["migrate"], &[]).status.code(), Some(0));
    let doctor = run(&["doctor", "--json"], &[]);
    assert_eq!(doctor.status.code(), Some(0), "{doctor:?}");
    let findings: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    // How full the disk of this machine is, is not the service's doing.
    let mut warned = findings["findings"].as_array().expect("findings").iter();
    assert!(
        findings["errors"] == 0 && warned.all(|f| f["check"] == "disk" || f["severity"] != "warning"),
        "{findings:#}"
    );
    let doctor = run(&["doctor", "--json"], &[("STORAGE_LOCAL_DIR", "/proc/nowhere")]);
    assert_eq!(doctor.status.code(), Some(2));
    let modules: Value =
        serde_json::from_slice(&run(&["modules", "--json"], &[("MODULES", "ping")]).stdout).unwrap();
    assert_eq!(
        (&modules[0]["runs"], &modules[1]["runs"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    assert_eq!(run(&["no-such-command"], &[]).status.code(), Some(2));

    let service = Service::start(&[]);
    let port = service.address.rsplit(':').next().expect("a port");
    assert_eq!(run(&["healthcheck"], &[("PORT", port)]).status.code(), Some(0));
    assert_eq!(
        run(&["healthcheck", "--path", "/nowhere"], &[("PORT", port)])
            .status
            .code(),
        Some(1)
    );
    let nobody = zhuji_testkit::free_port().to_string();
    assert_eq!(run(&["healthcheck"], &[("PORT", &nobody)]).status.code(), Some(1));
}

#[test]
fn an_unknown_adapter_is_a_problem_like_all_others() {
    let wrong = [
        ("STORAGE_TYPE", "locl"),
        ("CACHE_TYPE", "memry"),
        ("JOBS_TYPE", "postgress"),
        ("PORT", "x"),
    ];
    let refused = run(&["config", "check"], &wrong);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    for hint in ["`local`?", "`memory`?", "`postgres`?", "PORT"] {
        assert!(text.contains(hint), "{hint}: {text}");
    }
}

#[test]
fn production_refuses_what_would_lose_data() {
    let production = [
        ("APP_ENV", "production"),
        ("DEPLOYMENT_MODE", "private"),
        ("STORAGE_TYPE", "memory"),
    ];
    let refused = run(&["config", "check"], &production);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("STORAGE_TYPE") && text.contains("JOBS_TYPE"),
        "{text}"
    );
    let cloud = [
        ("APP_ENV", "production"),
        ("DEPLOYMENT_MODE", "cloud"),
        ("STORAGE_TYPE", "local"),
    ];
    let text = String::from_utf8_lossy(&run(&["config", "check"], &cloud).stderr).into_owned();
    assert!(text.contains("a container's disk goes with it"), "{text}");
    let nowhere = [("APP_ENV", "production")];
    let text = String::from_utf8_lossy(&run(&["config", "check"], &nowhere).stderr).into_owned();
    for name in ["DEPLOYMENT_MODE", "BASE_URL", "JOBS_TYPE"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn an_endpoint_for_traces_is_used_or_warned_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child = command(
        dir.path(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")],
    )
    .stdout(Stdio::piped())
    .spawn()
    .expect("the example runs");
    let expected = if cfg!(feature = "otel") {
        "traces are sent"
    } else {
        "built without the feature `otel`"
    };
    let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
    let said: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.contains("\"listening\""))
        .collect();
    let _ = child.kill();
    let _ = child.wait();
    assert!(said.iter().any(|line| line.contains(expected)), "{said:#?}");
}
