//! What the service tells about itself: log lines and metrics.

use crate::support::{Setup, pdf};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_lines_carry_the_request_that_caused_it() {
    let setup = Setup::new()
        .await
        .set("LOG_LEVEL", "info")
        .set("LOG_FORMAT", "json");
    let service = setup.start().await;
    let id = service.one_record().await;
    let uploaded = service.upload(&id, "a.pdf", &pdf(2)).await;
    let request_id = uploaded.headers["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    service.extracted(&id).await;

    let lines: Vec<Value> = service
        .log()
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let of_request: Vec<&Value> = lines
        .iter()
        .filter(|line| line["request_id"] == *request_id)
        .collect();
    let request = of_request
        .iter()
        .find(|line| line["message"] == "request")
        .expect("the request's own line");
    assert_eq!(request["module"], "asl");
    assert_eq!(request["status"], 200);
    let trace = request["trace_id"].as_str().expect("a trace");
    assert_eq!(trace.len(), 32);
    let job = of_request
        .iter()
        .find(|line| line["kind"] == "extract-pdf")
        .unwrap_or_else(|| {
            panic!(
                "no line of the job carries {request_id}:\n{}",
                service.log().join("\n")
            );
        });
    assert_eq!(job["module"], "asl");
    assert_eq!(job["trace_id"], trace);
    for line in &lines {
        for field in [
            "time", "level", "message", "target", "service", "version", "env", "instance",
        ] {
            assert!(line[field].is_string(), "{field} is missing in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_what_prometheus_expects() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    let id = service.one_record().await;
    service.upload(&id, "a.pdf", &pdf(1)).await;
    service.extracted(&id).await;
    let text = service
        .get("/metrics")
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    for metric in [
        "zhuji_http_requests_total",
        "zhuji_http_request_seconds",
        "zhuji_db_acquire_seconds",
        "zhuji_storage_operations_total",
        "zhuji_jobs_finished_total",
        "zhuji_cache_",
        "zhuji_health_status",
        "zhuji_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(metric), "{metric} is missing:\n{text}");
    }
    assert!(!text.contains(&id), "an id is no label");
    promtool(&text);
}

fn promtool(metrics: &str) {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let checker = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        eprintln!("SKIPPED: {program} is not here; the metrics' form was not checked");
        return;
    };
    let mut input = checker.stdin.take().expect("it was piped");
    input.write_all(metrics.as_bytes()).expect("it reads");
    drop(input);
    let output = checker.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
