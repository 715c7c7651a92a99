//! What ends up in a line, through the public interface, without installing anything.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value};
use tracing::subscriber::with_default;
use tracing::{debug, error, info, info_span, trace, warn};
use zhuji_logging::{
    LogConfig, LogFilter, LogFormat, LogHandle, RequestId, ServiceInfo, TraceContext, subscriber_with_writer,
};

const LINE_MAX: usize = 64 * 1024;

#[derive(Clone, Default)]
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<usize>>,
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Map<String, Value>> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    fn only(&self) -> Map<String, Value> {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{}", self.text());
        lines.remove(0)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.writes.lock().unwrap() += 1;
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(level: &str, format: LogFormat) -> LogConfig {
    LogConfig {
        level: LogFilter::parse(level).unwrap(),
        format,
    }
}

fn service() -> ServiceInfo {
    ServiceInfo::new("literature", "1.4.0")
        .with_env("test")
        .with_instance("pod-7")
}

fn logged_as(config: &LogConfig, run: impl FnOnce(&LogHandle)) -> Sink {
    let sink = Sink::default();
    let writer = sink.clone();
    let (subscriber, handle) = subscriber_with_writer(config, service(), move || writer.clone());
    with_default(subscriber, || run(&handle));
    sink
}

fn logged(run: impl FnOnce()) -> Sink {
    logged_as(&config("trace", LogFormat::Json), |_| run())
}

#[test]
fn a_line_is_flat_and_in_order() {
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let request_id = RequestId::parse("req-1").unwrap();
    let sink = logged(|| {
        let span = info_span!(
            "request", module = "asl", trace_id = %trace.trace_id(), span_id = %trace.span_id(), %request_id,
            route = "/literatures/{id}"
        );
        span.in_scope(
            || info!(target: "literature::import", count = 975, ratio = 0.5, ok = true, "imported"),
        );
    });
    let text = sink.text();
    let (time, rest) = text.split_at(r#"{"time":"2025-11-16T10:30:00.000Z"#.len());
    assert!(
        time.starts_with(r#"{"time":"20"#) && time.ends_with('Z') && time.contains('.'),
        "{time}"
    );
    assert_eq!(
        rest,
        concat!(
            r#"","level":"info","message":"imported","target":"literature::import","module":"asl","#,
            r#""service":"literature","version":"1.4.0","env":"test","instance":"pod-7","#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","request_id":"req-1","#,
            r#""count":975,"ratio":0.5,"ok":true,"route":"/literatures/{id}"}"#,
            "\n"
        )
    );
    assert_eq!(*sink.writes.lock().unwrap(), 1, "one line is one write");
}

#[test]
fn the_event_wins_over_the_leaf_and_the_leaf_over_the_root() {
    let line = logged(|| {
        let root = info_span!("root", module = "root", a = 1, b = 1, c = 1).entered();
        let leaf = info_span!(
            "leaf",
            module = "leaf",
            a = 2,
            b = 2,
            later = tracing::field::Empty
        )
        .entered();
        leaf.record("later", "recorded");
        info!(a = 3, "x");
        drop((leaf, root));
    })
    .only();
    assert_eq!(
        (&line["module"], &line["a"], &line["b"], &line["c"]),
        (&"leaf".into(), &3.into(), &2.into(), &1.into())
    );
    assert_eq!(line["later"], "recorded");
}

#[test]
fn every_level_has_its_lower_case_name() {
    let lines = logged(|| {
        error!("x");
        warn!("x");
        info!("x");
        debug!("x");
        trace!("x");
    })
    .lines();
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warn", "info", "debug", "trace"]);
}

#[test]
fn a_field_cannot_take_one_of_our_names() {
    let line = logged(|| {
        info!(
            time = "never",
            level = "loud",
            version = 3,
            service = "other",
            "real"
        )
    })
    .only();
    assert_eq!(
        (&line["message"], &line["level"], &line["service"]),
        (&"real".into(), &"info".into(), &"literature".into())
    );
    assert_eq!(
        (&line["field_time"], &line["field_level"]),
        (&"never".into(), &"loud".into())
    );
    assert_eq!(
        (&line["field_version"], &line["field_service"]),
        (&3.into(), &"other".into())
    );
}

#[test]
fn odd_values_stay_valid() {
    let line = logged(|| {
        info!(
            nan = f64::NAN,
            inf = f64::INFINITY,
            tiny = 1e-300,
            huge = 1e300,
            wide = u128::MAX,
            fits = 7_u128,
            negative = i64::MIN,
            big = u64::MAX,
            none = None::<u8>,
            r#type = "raw",
            empty = "",
            "line\nbreak \u{1b}[31m \u{2028} \u{0} \"quoted\" \\ 中文 🦀"
        );
    })
    .only();
    assert_eq!(
        line["message"],
        "line\nbreak \u{1b}[31m \u{2028} \u{0} \"quoted\" \\ 中文 🦀"
    );
    assert_eq!(
        (&line["nan"], &line["inf"], &line["wide"]),
        (&"NaN".into(), &"inf".into(), &u128::MAX.to_string().into())
    );
    assert_eq!(
        (&line["fits"], &line["big"], &line["negative"]),
        (&7.into(), &u64::MAX.into(), &i64::MIN.into())
    );
    assert_eq!(
        (line["tiny"].as_f64(), line["huge"].as_f64()),
        (Some(1e-300), Some(1e300))
    );
    assert_eq!((&line["type"], &line["empty"]), (&"raw".into(), &"".into()));
    assert!(!line.contains_key("none"));
}

#[test]
fn no_raw_control_character_reaches_the_stream() {
    let sink = logged(|| info!(path = "a\u{9b}31m\u{7f}b\r\nINFO forged", "x"));
    assert_eq!(sink.text().lines().count(), 1);
    assert!(
        sink.text().trim_end().chars().all(|c| !c.is_control()),
        "{:?}",
        sink.text()
    );
}

#[test]
fn an_error_brings_its_causes() {
    #[derive(Debug)]
    struct Outer(std::io::Error);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("opening the file failed")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let outer = Outer(std::io::Error::other("disk on fire"));
    let line = logged(|| error!(error = &outer as &dyn std::error::Error, "x")).only();
    assert_eq!(line["error"], "opening the file failed: disk on fire");
}

#[test]
fn a_long_line_is_cut_and_says_so() {
    for length in [10, 16_300, 16_400, 40_000, 70_000, 1_000_000] {
        // Two bytes a letter in JSON, so that a cut in the middle of an escape would show.
        let long = "\"".repeat(length);
        let sink = logged(|| {
            let _span = info_span!("s", request_id = "r1", a = long, b = long, c = long, d = long).entered();
            info!(e = long, f = long, g = ?long, h = %long, last = 1, "{long}");
        });
        assert!(sink.text().len() <= LINE_MAX, "{length}: {}", sink.text().len());
        let line = sink.only();
        assert_eq!(line.contains_key("truncated"), length > 1_000, "{length}");
        assert_eq!(
            (&line["request_id"], &line["service"]),
            (&"r1".into(), &"literature".into())
        );
    }
}

#[test]
fn an_endless_debug_is_stopped() {
    struct Endless;
    impl fmt::Debug for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("é and so on, ")?;
            }
        }
    }
    assert_eq!(
        logged(|| info!(endless = ?Endless, "x")).only()["truncated"],
        true
    );
}

#[test]
fn a_debug_that_logs_does_not_disturb_its_own_line() {
    struct Chatty;
    impl fmt::Debug for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!("from within");
            f.write_str("chatty")
        }
    }
    let sink = logged(|| info!(chatty = ?Chatty, "outer"));
    // A scoped subscriber is not entered twice; what matters is that the outer line is whole.
    assert_eq!(sink.lines().last().unwrap()["chatty"], "chatty");
}

#[test]
fn secrets_are_masked_in_every_shape() {
    for format in [LogFormat::Json, LogFormat::Pretty] {
        let sink = logged_as(&config("trace", format), |_| {
            let _span = info_span!("s", db_password = "hunter2", client.secret = ?Some("hunter2")).entered();
            info!(
                access_key_id = "hunter2",
                "x-oss-signature" = "hunter2",
                authorization = %"Bearer hunter2",
                url = "https://b.oss/k.pdf?x-oss-expires=60&x-oss-signature=hunter2",
                uri = "/uploads/k.pdf?expires=1&signature=hunter2",
                dsn = ?"postgres://app:hunter2@db/asl",
                tokens_used = 512,
                pin_password = 31337,
                plain = "https://host/search?query=lead",
                "dialling redis://:hunter2@cache:6379/0 with password=hunter2"
            );
        });
        let text = sink.text();
        assert!(!text.contains("hunter2") && !text.contains("31337"), "{text}");
        for kept in [
            "512",
            "https://host/search?query=lead",
            "postgres://app:***@db/asl",
            "/uploads/k.pdf?***",
        ] {
            assert!(text.contains(kept), "{kept} is missing in {text}");
        }
    }
}

#[test]
fn pretty_is_short_and_cannot_be_forged() {
    let sink = logged_as(&config("info", LogFormat::Pretty), |_| {
        let _span = info_span!("s", module = "asl", trace_id = "4bf9", request_id = "r1").entered();
        info!(target: "literature", file = "a b.pdf", count = 3, "imported\n10:00:00Z ERROR forged\u{1b}[0m");
    });
    let text = sink.text();
    let (_, rest) = text.split_once("Z  INFO literature: ").unwrap();
    assert_eq!(
        rest,
        "imported\n    10:00:00Z ERROR forged\\u{1b}[0m  file=\"a b.pdf\" count=3 module=asl request_id=r1\n"
    );
    let long = "x".repeat(200_000);
    let sink = logged_as(&config("info", LogFormat::Pretty), |_| {
        info!(a = long, b = long, "{long}")
    });
    assert!(sink.text().len() <= LINE_MAX);
}

#[test]
fn chatty_crates_are_quiet_until_they_are_named() {
    let talk = || {
        info!(target: "hyper::proto", "x");
        warn!(target: "h2", "y");
        info!(target: "a_module_nobody_listed", "z");
    };
    assert_eq!(
        logged_as(&config("info", LogFormat::Json), |_| talk())
            .lines()
            .len(),
        2
    );
    assert_eq!(
        logged_as(&config("info,hyper=info", LogFormat::Json), |_| talk())
            .lines()
            .len(),
        3
    );
    assert_eq!(
        logged_as(&config("hyper=info", LogFormat::Json), |_| talk())
            .lines()
            .len(),
        3
    );
    assert_eq!(
        logged_as(&config("error", LogFormat::Json), |_| talk())
            .lines()
            .len(),
        0
    );
}

#[test]
fn the_filter_changes_while_running_and_comes_back_by_itself() {
    let sink = logged_as(&config("info", LogFormat::Json), |handle| {
        debug!(target: "asl", "one");
        handle
            .set_filter("asl=debug", Some(Duration::from_millis(300)))
            .unwrap();
        debug!(target: "asl", "two");
        assert_eq!(handle.filter(), "asl=debug");
        assert!(handle.returns_in().is_some());

        let refused = handle.set_filter("asl=loud", None).unwrap_err();
        assert!(refused.to_string().contains("no level"), "{refused}");
        assert_eq!(handle.filter(), "asl=debug", "a bad filter changes nothing");

        let patience = Instant::now() + Duration::from_secs(20);
        while handle.filter() != "info" && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((handle.filter().as_str(), handle.returns_in()), ("info", None));
        debug!(target: "asl", "three");

        handle
            .set_filter("asl=debug", Some(Duration::from_secs(3_600)))
            .unwrap();
        handle.set_filter("asl=trace", None).unwrap();
        assert_eq!(
            handle.returns_in(),
            None,
            "a later call replaces the earlier one's return"
        );
        handle.reset_filter().unwrap();
        debug!(target: "asl", "four");
    });
    let lines = sink.lines();
    let ours: Vec<_> = lines
        .iter()
        .filter(|line| line["target"] == "asl")
        .map(|line| &line["message"])
        .collect();
    assert_eq!(ours, ["two"]);
    let change = lines
        .iter()
        .find(|line| line["message"] == "log filter changed")
        .unwrap();
    assert_eq!(
        (&change["filter"], &change["for_seconds"]),
        (&"asl=debug".into(), &0.into())
    );
}

#[test]
fn a_writer_that_fails_is_counted_and_harms_nobody() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (subscriber, handle) = subscriber_with_writer(&LogConfig::default(), service(), || Broken);
    with_default(subscriber, || {
        info!("x");
        info!("y");
    });
    assert_eq!(handle.lost_lines(), 2);
}

#[test]
fn lines_of_many_threads_do_not_mix() {
    let sink = Sink::default();
    let writer = sink.clone();
    let (subscriber, _) = subscriber_with_writer(&LogConfig::default(), service(), move || writer.clone());
    let dispatch = tracing::Dispatch::new(subscriber);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for number in 0..500 {
                        info!(thread, number, "x");
                    }
                });
            });
        }
    });
    assert_eq!(sink.lines().len(), 4_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_content_is_one_line_of_valid_json(
        message in any::<String>(), text in any::<String>(), shown in "\\PC{0,40}", float in any::<f64>(),
        int in any::<i64>(), uint in any::<u64>(), wide in any::<i128>(), flag in any::<bool>(), long in 0..70_000_usize,
    ) {
        let sink = logged(|| {
            let _span = info_span!("s", module = text, request_id = shown, in_span = message, padding = "é".repeat(long)).entered();
            info!(text, debugged = ?text, %shown, float, int, uint, wide, flag, "quoted \" name" = message, "{message}");
        });
        prop_assert!(sink.text().len() <= LINE_MAX);
        let ends = sink.text().ends_with("}\n");
        prop_assert!(ends);
        let line = sink.only();
        prop_assert_eq!(&line["int"], &Value::from(int));
        prop_assert_eq!(&line["uint"], &Value::from(uint));
        prop_assert_eq!(&line["flag"], &Value::from(flag));
        prop_assert!(line.values().all(|value| !value.is_object() && !value.is_array()));
        if float.is_finite() {
            // By its text: serde_json reads the last digit of some numbers differently.
            let exact = sink.text().contains(&format!("\"float\":{float:?},"));
            prop_assert!(exact, "{} is not in {}", float, sink.text());
        }
        if !message.contains(['=', '@']) && !message.to_lowercase().contains("basic") && !message.to_lowercase().contains("bearer") {
            prop_assert_eq!(line["message"].as_str(), Some(&*message));
        }
    }
}
