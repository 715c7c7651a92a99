//! What belongs to the whole process: the global subscriber, the bridge from the `log` crate, the panic hook. The test
//! runs itself as a child process and reads the child's stdout.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::{Map, Value};
use zhuji_logging::{
    ErrorKind, LogConfig, LogFilter, LogFormat, ServiceInfo, init, install_panic_hook, panic_count,
};

const ROLE: &str = "ZHUJI_LOGGING_TEST_CHILD";

/// Runs `child` in a process of its own when asked to, and otherwise starts that process.
fn in_child(test: &str, child: impl FnOnce()) -> Option<Output> {
    if std::env::var_os(ROLE).is_some() {
        child();
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    Some(output)
}

fn lines(output: &Output) -> Vec<Map<String, Value>> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    // The test harness writes to the same stream, before a line at times.
    text.lines()
        .filter_map(|line| serde_json::from_str(&line[line.find("{\"time\"")?..]).ok())
        .collect()
}

fn start() -> zhuji_logging::LogHandle {
    init(&LogConfig::default(), ServiceInfo::new("literature", "1.4.0")).unwrap()
}

#[test]
fn init_speaks_json_into_a_pipe_and_carries_the_log_crate() {
    let Some(output) = in_child("init_speaks_json_into_a_pipe_and_carries_the_log_crate", || {
        let handle = start();
        tracing::info!(count = 1, "from tracing");
        tracing_log::log::info!(target: "asl::old", "from log with password=hunter2");
        tracing_log::log::debug!(target: "asl::old", "not yet");
        handle.set_filter("asl=debug", None).unwrap();
        tracing_log::log::debug!(target: "asl::old", "now");
        let again = init(&LogConfig::default(), ServiceInfo::new("literature", "1.4.0")).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyInstalled);
        handle.flush();
    }) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "from tracing",
            "from log with password=***",
            "log filter changed",
            "now"
        ]
    );
    assert_eq!(
        (&lines[1]["target"], lines[1].get("log.target")),
        (&"asl::old".into(), None)
    );
    assert!(!lines[0]["instance"].as_str().unwrap().is_empty());
}

#[test]
fn a_panic_is_one_event_with_its_place() {
    let Some(output) = in_child("a_panic_is_one_event_with_its_place", || {
        start();
        install_panic_hook();
        install_panic_hook();
        let thread = std::thread::Builder::new().name("worker-3".into());
        let worker = thread
            .spawn(|| panic!("lost redis://:hunter2@cache\nin two lines"))
            .unwrap();
        assert!(worker.join().is_err());
        struct Explosive;
        impl std::fmt::Debug for Explosive {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("while being logged")
            }
        }
        // A panic out of the middle of a log line is reported like any other.
        assert!(std::panic::catch_unwind(|| tracing::info!(x = ?Explosive, "never written")).is_err());
        assert!(std::panic::catch_unwind(|| std::panic::panic_any(7_u8)).is_err());
        tracing::info!(panics = panic_count(), "still here");
    }) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let first = &lines[0];
    assert_eq!(
        (&first["level"], &first["target"]),
        (&"error".into(), &"panic".into())
    );
    assert_eq!(
        first["message"],
        "panicked: lost redis://:***@cache\nin two lines"
    );
    assert_eq!(first["thread"], "worker-3");
    assert!(
        first["location"].as_str().unwrap().contains("tests/process.rs:"),
        "{first:?}"
    );
    assert_eq!(lines[1]["message"], "panicked: while being logged");
    assert_eq!(lines[2]["message"], "panicked: a value that is no text");
    assert_eq!(
        (&lines[3]["message"], &lines[3]["panics"]),
        (&"still here".into(), &3.into())
    );
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("panicked at"),
        "nothing on stderr"
    );
}

#[test]
fn nothing_is_lost_when_the_process_ends_without_a_word() {
    let Some(output) = in_child("nothing_is_lost_when_the_process_ends_without_a_word", || {
        start();
        for number in 0..2_000 {
            tracing::info!(number, "x");
        }
        std::process::abort();
    }) else {
        return;
    };
    let lines = lines(&output);
    assert_eq!((lines.len(), &lines[1_999]["number"]), (2_000, &1_999.into()));
}

#[test]
fn a_reader_that_is_gone_does_not_stop_the_process() {
    if std::env::var_os(ROLE).is_some() {
        let config = LogConfig {
            level: LogFilter::default(),
            format: LogFormat::Json,
        };
        let handle = init(&config, ServiceInfo::new("literature", "1.4.0")).unwrap();
        for _ in 0..20_000 {
            tracing::info!("x");
        }
        handle.flush();
        assert!(handle.lost_lines() > 0);
        // The harness itself may not write to a closed pipe.
        std::process::exit(42);
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_reader_that_is_gone_does_not_stop_the_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut some = String::new();
    for _ in 0..5 {
        std::io::BufRead::read_line(&mut reader, &mut some).unwrap();
    }
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(42), "{some}");
}
