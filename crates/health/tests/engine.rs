//! The engine on tokio's paused clock: every wait below is virtual.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zhuji_health::{
    Check, CheckStatus, DatabaseState, HealthMonitor, HealthSettings, Outcome, Phase, Snapshot, Status,
    async_trait,
};

/// Plays a script, and repeats its last line for ever.
struct Scripted {
    name: &'static str,
    script: Mutex<VecDeque<Step>>,
    runs: AtomicUsize,
    delay: Duration,
}

#[derive(Clone)]
enum Step {
    Say(Outcome),
    Hang,
    Panic,
}

impl Scripted {
    fn new(name: &'static str, script: impl IntoIterator<Item = Step>) -> Arc<Self> {
        let script = Mutex::new(script.into_iter().collect());
        Arc::new(Self {
            name,
            script,
            runs: AtomicUsize::new(0),
            delay: Duration::from_millis(3),
        })
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Check for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn run(&self) -> Outcome {
        self.runs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        let step = {
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 {
                script.pop_front().unwrap()
            } else {
                script[0].clone()
            }
        };
        match step {
            Step::Say(outcome) => outcome,
            Step::Hang => std::future::pending().await,
            Step::Panic => panic!("the check itself is broken"),
        }
    }
}

fn up() -> Step {
    Step::Say(Outcome::Up)
}

fn down() -> Step {
    Step::Say(Outcome::down("refused"))
}

async fn first_round(monitor: &HealthMonitor) -> Snapshot {
    assert!(
        monitor.wait_first_round(Duration::from_secs(2)).await,
        "every check reports"
    );
    monitor.snapshot()
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_result() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [up()]))
        .start();
    let before = monitor.snapshot();
    assert_eq!(
        (before.status, before.database),
        (Status::Error, DatabaseState::Disconnected)
    );
    assert_eq!(before.checks[0].status, CheckStatus::Pending);

    let started = tokio::time::Instant::now();
    let after = first_round(&monitor).await;
    assert!(
        started.elapsed() < Duration::from_millis(50),
        "the first run waits for nothing"
    );
    assert_eq!(
        (after.status, after.database),
        (Status::Ok, DatabaseState::Connected)
    );
}

#[tokio::test(start_paused = true)]
async fn two_failures_go_down_and_one_success_comes_up() {
    let check = Scripted::new("database", [up(), down(), up(), down(), down(), up()]);
    let monitor = HealthMonitor::builder().check(check.clone()).start();
    assert_eq!(first_round(&monitor).await.status, Status::Ok);

    pass(5_600).await; // one failure: not believed
    let once = monitor.snapshot();
    assert_eq!(
        (once.status, once.checks[0].consecutive_failures),
        (Status::Ok, 1)
    );
    pass(1_200).await; // looked again after a second: up
    assert_eq!(
        (check.runs(), monitor.snapshot().checks[0].consecutive_failures),
        (3, 0)
    );

    pass(5_600 + 1_200).await; // two failures in a row
    let gone = monitor.snapshot();
    assert_eq!(
        (gone.status, gone.database),
        (Status::Error, DatabaseState::Disconnected)
    );
    assert_eq!(
        (gone.status_code(), gone.checks[0].error_kind.as_deref()),
        (503, Some("refused"))
    );

    pass(5_600).await; // one success
    let back = monitor.snapshot();
    assert_eq!(
        (back.status_code(), back.checks[0].error_kind.as_deref()),
        (200, None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_failure_counts_at_once() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [down()]))
        .start();
    assert_eq!(first_round(&monitor).await.status, Status::Error);
}

#[tokio::test(start_paused = true)]
async fn the_interval_is_five_seconds_and_a_little() {
    let check = Scripted::new("database", [up()]);
    let _monitor = HealthMonitor::builder().check(check.clone()).start();
    pass(60_000).await;
    let runs = check.runs();
    assert!((11..=12).contains(&runs), "{runs} runs in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_check_is_dropped_after_its_timeout() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("storage", [Step::Hang]))
        .start();
    let snapshot = first_round(&monitor).await;
    let check = snapshot.check("storage").unwrap();
    assert_eq!(
        (check.status, check.error_kind.as_deref()),
        (CheckStatus::Down, Some("timeout"))
    );
    assert_eq!(check.latency, Some(Duration::from_millis(800)));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_check_fails_and_runs_again() {
    let check = Scripted::new("storage", [Step::Panic, up()]);
    let monitor = HealthMonitor::builder().check(check).start();
    assert_eq!(
        first_round(&monitor).await.checks[0].error_kind.as_deref(),
        Some("panic")
    );
    pass(5_600).await;
    assert_eq!(monitor.snapshot().status, Status::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_old_no_longer_counts() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [up()]))
        .start();
    first_round(&monitor).await;
    monitor.shutdown().await; // from here on nobody looks
    pass(14_900).await;
    assert_eq!(monitor.snapshot().status, Status::Ok);
    pass(200).await;
    let stale = monitor.snapshot();
    assert_eq!(
        (stale.status, stale.database),
        (Status::Error, DatabaseState::Disconnected)
    );
    assert_eq!(stale.checks[0].error_kind.as_deref(), Some("stale"));
}

#[tokio::test(start_paused = true)]
async fn a_module_check_degrades_and_never_takes_the_service_down() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [up()]))
        .check_as("asl.index", false, Scripted::new("index", [down()]))
        .start();
    let snapshot = first_round(&monitor).await;
    assert_eq!((snapshot.status, snapshot.status_code()), (Status::Degraded, 200));
    assert_eq!(snapshot.check("asl.index").unwrap().status, CheckStatus::Down);
}

#[tokio::test(start_paused = true)]
async fn a_saturated_database_is_degraded_but_connected() {
    let busy = Step::Say(Outcome::degraded("pool saturated"));
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [busy]))
        .start();
    let snapshot = first_round(&monitor).await;
    assert_eq!(
        (snapshot.status, snapshot.database),
        (Status::Degraded, DatabaseState::Connected)
    );
}

#[tokio::test(start_paused = true)]
async fn the_public_answer_is_byte_exact() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [up(), down(), down()]))
        .start();
    let at = |text: &str| text.parse().unwrap();
    assert_eq!(
        first_round(&monitor)
            .await
            .to_public_json(at("2025-11-16T10:30:00Z")),
        r#"{"status":"ok","database":"connected","timestamp":"2025-11-16T10:30:00.000Z"}"#
    );
    pass(7_000).await;
    assert_eq!(
        monitor
            .snapshot()
            .to_public_json(at("2025-11-16T10:30:00.123999Z")),
        r#"{"status":"error","database":"disconnected","timestamp":"2025-11-16T10:30:00.123Z"}"#
    );
    let bare = HealthMonitor::builder().start();
    assert_eq!(
        first_round(&bare)
            .await
            .to_public_json(at("2025-11-16T18:30:00.5+08:00")),
        r#"{"status":"ok","database":"disabled","timestamp":"2025-11-16T10:30:00.500Z"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn the_detailed_answer_begins_like_the_public_one_and_hides_error_text() {
    let leak = Step::Say(Outcome::down("connect postgres://u:hunter2@db failed"));
    let monitor = HealthMonitor::builder()
        .version("1.2.3")
        .check(Scripted::new("database", [up()]))
        .check_as("asl.\"index\"", false, Scripted::new("index", [leak]))
        .start();
    let snapshot = first_round(&monitor).await;
    pass(1_000).await;
    let now = "2025-11-16T10:30:00Z".parse().unwrap();
    let detailed = monitor.snapshot().to_detailed_json(now);
    let public = snapshot.to_public_json(now);
    assert!(detailed.starts_with(public.trim_end_matches('}')), "{detailed}");
    assert!(!detailed.contains("hunter2"), "{detailed}");

    let value: serde_json::Value = serde_json::from_str(&detailed).unwrap();
    assert_eq!(
        (&value["version"], &value["uptime_ms"]),
        (&"1.2.3".into(), &1_003.into())
    );
    let database = &value["checks"]["database"];
    assert_eq!(database["status"], "up");
    assert_eq!(database["critical"], true);
    assert_eq!(
        (&database["latency_ms"], &database["age_ms"]),
        (&3.into(), &1_000.into())
    );
    assert!(database["checked_at"].as_str().unwrap().ends_with('Z'));
    assert!(database["error_kind"].is_null());
    assert_eq!(value["checks"]["asl.\"index\""]["error_kind"], "unspecified");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_first_round_has_a_deadline() {
    let settings = HealthSettings {
        timeout: Duration::from_secs(60),
        ..HealthSettings::default()
    };
    let monitor = HealthMonitor::builder()
        .settings(settings)
        .check(Scripted::new("storage", [Step::Hang]))
        .check(Scripted::new("database", [up()]))
        .start();
    assert!(!monitor.wait_first_round(Duration::from_millis(100)).await);
    assert_eq!(monitor.snapshot().database, DatabaseState::Connected);
}

#[tokio::test(start_paused = true)]
async fn probes_follow_the_life_of_the_process() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [down()]))
        .start();
    first_round(&monitor).await;
    let codes = |m: &HealthMonitor| {
        (
            m.phase(),
            m.liveness().status_code(),
            m.readiness().status_code(),
            m.startup().status_code(),
        )
    };
    assert_eq!(codes(&monitor), (Phase::Starting, 200, 503, 503));
    assert_eq!(monitor.startup().to_json(), r#"{"status":"starting"}"#);
    monitor.mark_ready();
    assert_eq!(codes(&monitor), (Phase::Ready, 200, 200, 200));
    assert_eq!(monitor.readiness().to_json(), r#"{"status":"ok"}"#);
    monitor.mark_draining();
    assert_eq!(codes(&monitor), (Phase::Draining, 200, 503, 200));
    monitor.mark_ready();
    assert_eq!(monitor.phase(), Phase::Draining, "there is no way back");
}

#[tokio::test(start_paused = true)]
async fn observers_see_every_result_and_may_panic() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("database", [up(), down()]))
        .observe(|_| panic!("an observer is broken"))
        .observe(move |o| sink.lock().unwrap().push((o.status, o.failed, o.changed)))
        .start();
    first_round(&monitor).await;
    pass(7_000).await;
    use CheckStatus::{Down, Up};
    assert_eq!(
        *seen.lock().unwrap(),
        [(Up, false, true), (Up, true, false), (Down, true, true)]
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_and_shutdown_both_let_go_of_the_checks() {
    let check = Scripted::new("database", [up()]);
    let monitor = HealthMonitor::builder().check(check.clone()).start();
    first_round(&monitor).await;
    monitor.shutdown().await;
    assert_eq!(Arc::strong_count(&check), 1, "shutdown waited for the task");

    let monitor = HealthMonitor::builder().check(check.clone()).start();
    first_round(&monitor).await;
    drop(monitor);
    pass(1).await;
    assert_eq!(Arc::strong_count(&check), 1);
}

#[tokio::test(start_paused = true)]
async fn a_taken_name_gets_a_number() {
    let monitor = HealthMonitor::builder()
        .check(Scripted::new("cache", [up()]))
        .check(Scripted::new("cache", [down()]))
        .start();
    let snapshot = first_round(&monitor).await;
    assert_eq!(snapshot.check("cache").unwrap().status, CheckStatus::Up);
    assert_eq!(snapshot.check("cache#2").unwrap().status, CheckStatus::Down);
}

/// Real time: one worker, held by a blocking call, and the probe asked from another thread.
#[test]
fn a_blocked_event_loop_is_lag_and_then_wedged() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let settings = HealthSettings {
        heartbeat: Duration::from_millis(20),
        wedged_after: Duration::from_millis(800),
        ..HealthSettings::default()
    };
    let monitor = runtime.block_on(async {
        let monitor = HealthMonitor::builder().settings(settings).start();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(monitor.liveness().ok);
        monitor
    });
    // Nothing drives the runtime now: the loop stands still.
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(monitor.liveness().reason, "wedged");
    assert!(monitor.event_loop_lag() > Duration::from_millis(200));
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(60)).await });
    assert!(monitor.liveness().ok, "it recovers");
}
