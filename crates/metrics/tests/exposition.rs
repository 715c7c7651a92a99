//! The text as Prometheus reads it.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use metrics::{Unit, counter, gauge, histogram, with_local_recorder};
use zhuji_metrics::{Metric, MetricsExporter, describe};

const METRICS: &[Metric] = &[
    Metric::counter("asl_imports_total", "Excel files imported."),
    Metric::gauge("asl_queue_depth", "Jobs waiting."),
    Metric::histogram("asl_import_seconds", "Time to import one file."),
];

/// Emits through a recorder of its own, and gives back the text.
fn rendered(emit: impl FnOnce()) -> String {
    let (exporter, recorder) = MetricsExporter::recorder("literature", "1.4.0").unwrap();
    with_local_recorder(&recorder, emit);
    exporter.render()
}

fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
        .parse()
        .unwrap()
}

/// What a careful and a careless module emit together.
fn emit_everything() {
    describe(METRICS);
    counter!("asl_imports_total", "result" => "ok").increment(2);
    counter!("asl_imports_total", "result" => "re\"fu\\sed\n").increment(1);
    gauge!("asl_queue_depth").set(3.0);
    for seconds in [0.0004, 0.3, 400.0] {
        histogram!("asl_import_seconds", "route" => "/api/v1/asl/literatures/{id}").record(seconds);
    }
    histogram!("asl_upload_bytes").record(1_793_479.0);
    histogram!("asl_rows_per_file").record(975.0);
    counter!("asl_careless").increment(1);
    metrics::describe_gauge!("asl_age", Unit::Seconds, "Age of the oldest job.\nSecond line.");
    gauge!("asl_age").set(1.5);
    counter!("zhuji_jobs_finished_total").absolute(7);
}

#[test]
fn counters_gauges_and_histograms_are_there() {
    let text = rendered(emit_everything);
    assert_eq!(value(&text, r#"asl_imports_total{result="ok"}"#), 2.0);
    assert_eq!(value(&text, "asl_queue_depth"), 3.0);
    assert!(text.contains("# TYPE asl_import_seconds histogram"), "{text}");
    let bucket = |le: &str| {
        let series = r#"asl_import_seconds_bucket{route="/api/v1/asl/literatures/{id}",le="LE"}"#;
        value(&text, &series.replace("LE", le))
    };
    assert_eq!((bucket("0.0005"), bucket("0.25"), bucket("0.5")), (1.0, 1.0, 2.0));
    assert_eq!((bucket("120"), bucket("+Inf")), (2.0, 3.0));
    assert_eq!(value(&text, r#"asl_upload_bytes_bucket{le="1048576"}"#), 0.0);
    assert_eq!(value(&text, r#"asl_upload_bytes_bucket{le="4194304"}"#), 1.0);
    assert_eq!(value(&text, r#"asl_rows_per_file_bucket{le="1000"}"#), 1.0);
    assert!(!text.contains(" summary"), "{text}");
}

#[test]
fn the_careless_get_a_suffix_and_a_help_line() {
    let text = rendered(emit_everything);
    assert_eq!(value(&text, "asl_careless_total"), 1.0);
    assert!(
        text.contains("# HELP asl_careless_total asl careless total.\n"),
        "{text}"
    );
    assert_eq!(value(&text, "asl_age_seconds"), 1.5);
    assert_eq!(
        text.matches("# TYPE ").count(),
        text.matches("# HELP ").count(),
        "{text}"
    );
}

#[test]
fn the_process_describes_itself() {
    let text = rendered(emit_everything);
    assert_eq!(
        value(&text, r#"zhuji_build_info{service="literature",version="1.4.0"}"#),
        1.0
    );
    assert!(value(&text, "zhuji_metrics_series") > 40.0);
    assert!(value(&text, "process_uptime_seconds") >= 0.0);
    if cfg!(target_os = "linux") {
        assert!(value(&text, "process_resident_memory_bytes") > 500_000.0);
        assert!(value(&text, "process_resident_memory_peak_bytes") > 500_000.0);
        assert!(value(&text, "process_threads") >= 1.0);
        assert!((3.0..1_000.0).contains(&value(&text, "process_open_fds")));
        assert!(value(&text, "process_max_fds") > 3.0);
        assert!(value(&text, "process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let age = now.as_secs_f64() - value(&text, "process_start_time_seconds");
        assert!((-5.0..600.0).contains(&age), "started {age} s ago");
    }
}

#[test]
fn an_opened_file_shows() {
    let before = value(&rendered(|| ()), "process_open_fds");
    let files: Vec<_> = (0..20).map(|_| tempfile()).collect();
    let after = value(&rendered(|| ()), "process_open_fds");
    drop(files);
    // Other tests of this process may open or close a few at the same time.
    assert!(after >= before + 10.0, "{before} then {after}");
}

fn tempfile() -> std::fs::File {
    std::fs::File::open("/dev/null").unwrap()
}

#[test]
fn only_one_recorder_can_be_installed_and_libraries_reach_it() {
    let exporter = MetricsExporter::install("literature", "1.4.0").unwrap();
    counter!("asl_installed_total").increment(1);
    assert_eq!(value(&exporter.render(), "asl_installed_total"), 1.0);
    let error = MetricsExporter::install("literature", "1.4.0").unwrap_err();
    assert_eq!(error.kind(), zhuji_metrics::ErrorKind::AlreadyInstalled);
    assert!(
        error
            .to_string()
            .starts_with("setting up metrics failed on this process: "),
        "{error}"
    );
}

fn promtool() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PROMTOOL").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        assert!(
            path.is_file(),
            "PROMTOOL names {}, which is no file",
            path.display()
        );
        return Some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("promtool"))
        .find(|path| path.is_file())
}

#[test]
fn promtool_has_nothing_to_say() {
    let Some(promtool) = promtool() else {
        eprintln!(
            "SKIPPED promtool_has_nothing_to_say: no promtool on PATH and PROMTOOL is not set \
             (apt-get download prometheus && dpkg -x prometheus_*.deb /tmp/prometheus)"
        );
        return;
    };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(rendered(emit_everything).as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {said}",
        output.status
    );
}
