//! `zhuji jobs` as an operator types it: the real binary and a real PostgreSQL, and no service.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::{
    EnqueueOptions, Job, JobError, JobId, JobSet, JobState, Jobs, JobsConfig, JobsFactory, Limit,
    WorkerSettings,
};
use zhuji_testkit::{TestDatabase, free_port};

const PASSWORD: &str = "MustNotBeShown";

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

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    #[track_caller]
    fn failed(self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(why), "{}", self.err);
    }
}

/// Runs `zhuji jobs` with these variables and no others. No password may be shown, and nothing that a terminal obeys.
async fn zhuji(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhuji"));
    command.arg("jobs").args(arguments).current_dir(dir).env_clear();
    command.envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    let all = format!("{}{}", said.out, said.err);
    assert!(!all.contains(PASSWORD), "{all}");
    assert!(!all.contains('\u{1b}'), "{all}");
    said
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Work {
    text: String,
}

impl Job for Work {
    const KIND: &'static str = "work";
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Doomed {
    text: String,
}

impl Job for Doomed {
    const KIND: &'static str = "doomed";
}

struct Queue {
    jobs: Jobs,
    url: String,
    dir: tempfile::TempDir,
    // Dropped last.
    _database: TestDatabase,
}

impl Queue {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let config: DbConfig = zhuji_config::load_from_pairs([("DATABASE_URL", database.url())]).unwrap();
        let pool = DbPool::connect(&config).await.unwrap();
        let jobs = JobsFactory::new()
            .build(&JobsConfig::default(), Some(pool))
            .await
            .unwrap();
        Self {
            jobs,
            url: database.url(),
            dir: tempfile::tempdir().unwrap(),
            _database: database,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        zhuji(self.dir.path(), &[("DATABASE_URL", &self.url)], arguments).await
    }

    async fn state(&self, id: JobId) -> JobState {
        self.jobs.get(id).await.unwrap().unwrap().state
    }

    /// Dead jobs, really run and given up.
    async fn dead(&self, queue: &str, count: usize) -> Vec<JobId> {
        let jobs = self.jobs.scoped(queue);
        let set = JobSet::new()
            .on(async move |_, job: Doomed| Err(JobError::fatal(format!("no way\u{1b}[2J: {}", job.text))));
        let new: Vec<Doomed> = (0..count)
            .map(|n| Doomed {
                text: format!("<{n}>"),
            })
            .collect();
        let ids = jobs.enqueue_many(&new).await.unwrap();
        let worker = jobs
            .worker(set, WorkerSettings::default().limit(Limit::none().running(3)))
            .start();
        let start = Instant::now();
        for id in &ids {
            while self.state(*id).await != JobState::Dead {
                assert!(start.elapsed() < Duration::from_secs(60), "{id} does not die");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        worker.stop(Duration::from_secs(10)).await;
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_looked_at_cancelled_and_retried() {
    let queue = Queue::new().await;
    let asl = queue.jobs.scoped("asl");
    let later = EnqueueOptions {
        delay: Some(Duration::from_secs(3600)),
        ..EnqueueOptions::default()
    };
    let waits = asl
        .enqueue_with(
            &Work {
                text: "later".to_owned(),
            },
            later,
        )
        .await
        .unwrap();
    let (id, unknown) = (waits.to_string(), JobId::generate().to_string());

    let shown = queue.run(&["show", &id]).await.ok();
    for expected in ["scheduled", "work", "asl", r#"{"text":"later"}"#] {
        assert!(shown.contains(expected), "{shown}");
    }
    let shown = queue.run(&["show", &id, "--json"]).await.json();
    assert_eq!(
        (&shown["record"]["state"], &shown["record"]["id"]),
        (&json!("scheduled"), &json!(id))
    );

    queue.run(&["retry", &id]).await.ok();
    assert_eq!(
        queue.state(waits).await,
        JobState::Ready,
        "it does not wait any more"
    );
    queue.run(&["retry", &id]).await.failed(1, "it is ready");
    let cancelled = queue.run(&["cancel", &id, "--json"]).await.json();
    assert_eq!(cancelled, json!({ "id": id, "cancellation": "cancelled" }));
    assert_eq!(queue.state(waits).await, JobState::Cancelled);
    queue.run(&["cancel", &id]).await.failed(1, "it is cancelled");
    // Each of several is tried, whatever becomes of the others.
    queue
        .run(&["retry", &unknown, &id])
        .await
        .failed(1, "no such job");
    assert_eq!(queue.state(waits).await, JobState::Ready);
    queue.run(&["show", &unknown]).await.failed(1, "there is no job");
    queue.run(&["show", "x"]).await.failed(2, "not a UUID");

    // A worker that runs hears of a cancellation.
    let started = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = started.clone();
    let set = JobSet::new().on(async move |cx, _: Work| {
        told.notify_one();
        cx.cancelled().cancelled().await;
        Ok(())
    });
    let worker = asl.worker(set, WorkerSettings::default()).start();
    started.notified().await;
    let said = queue.run(&["cancel", &id]).await.ok();
    assert!(said.contains("is asked to stop"), "{said}");
    let start = Instant::now();
    while queue.state(waits).await == JobState::Running {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not stop");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(queue.state(waits).await, JobState::Cancelled);
    worker.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_pages_and_pauses() {
    let queue = Queue::new().await;
    let new: Vec<Work> = (0..5).map(|n| Work { text: n.to_string() }).collect();
    let ids = queue.jobs.scoped("asl").enqueue_many(&new).await.unwrap();
    queue.jobs.scoped("other").enqueue(&new[0]).await.unwrap();

    let page = queue
        .run(&["list", "--queue", "asl", "--limit", "3", "--json"])
        .await
        .json();
    let of = |page: &Value| {
        page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].clone())
            .collect::<Vec<_>>()
    };
    let newest: Vec<Value> = ids.iter().rev().map(|id| json!(id)).collect();
    assert_eq!(of(&page), newest[..3]);
    let after = page["next"].as_str().unwrap();
    let rest = queue
        .run(&["list", "--queue", "asl", "--after", after, "--json"])
        .await
        .json();
    assert_eq!((of(&rest), &rest["next"]), (newest[3..].to_vec(), &Value::Null));
    let listed = queue
        .run(&["list", "--state", "ready", "--kind", "work"])
        .await
        .ok();
    assert_eq!(listed.lines().count(), 7, "{listed}");
    assert_eq!(
        queue.run(&["list", "--state", "dead"]).await.ok().lines().count(),
        1
    );

    let paused = queue.run(&["pause", "asl"]).await.ok();
    assert!(
        paused.starts_with("asl is paused") && !paused.contains("no job"),
        "{paused}"
    );
    let queues = queue.run(&["queues", "--json"]).await.json();
    let asl = &queues["queues"][0];
    assert_eq!(
        (&asl["queue"], &asl["paused"], &asl["counts"]["ready"]),
        (&json!("asl"), &json!(true), &json!(5))
    );
    assert!(asl["counts"]["oldest_ready_seconds"].is_number(), "{asl}");
    let queues = queue.run(&["queues"]).await.ok();
    assert!(
        queues
            .lines()
            .any(|line| line.starts_with("asl ") && line.contains("paused")),
        "{queues}"
    );
    queue.run(&["resume", "asl"]).await.ok();
    assert_eq!(
        queue.run(&["queues", "--json"]).await.json()["queues"][0]["paused"],
        false
    );
    let said = queue.run(&["pause", "typo", "--json"]).await.json();
    assert_eq!(said, json!({ "queue": "typo", "paused": true, "known": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_come_back_or_go() {
    let queue = Queue::new().await;
    let asl = queue.dead("asl", 3).await;
    let other = queue.dead("other", 2).await;

    let listed = queue.run(&["dead", "list", "--queue", "asl"]).await.ok();
    assert!(
        listed.lines().count() == 4 && listed.contains("no way\u{fffd}[2J: <0>"),
        "{listed}"
    );
    let shown = queue.run(&["show", &asl[0].to_string()]).await.ok();
    assert!(shown.contains("failed") && shown.contains("ATTEMPT"), "{shown}");

    let would = queue
        .run(&["dead", "replay", "--queue", "asl", "--dry-run"])
        .await
        .ok();
    assert!(would.ends_with("3 dead jobs would be replayed\n"), "{would}");
    let would = queue
        .run(&["dead", "drop", "--kind", "doomed", "--dry-run", "--json"])
        .await
        .json();
    let by = json!([
        { "queue": "asl", "kind": "doomed", "count": 3 },
        { "queue": "other", "kind": "doomed", "count": 2 },
    ]);
    assert_eq!(would, json!({ "dry_run": true, "dropped": 5, "by": by }));
    assert_eq!(queue.state(asl[0]).await, JobState::Dead, "nothing was changed");

    assert_eq!(
        queue.run(&["dead", "replay", "--queue", "asl"]).await.ok(),
        "3 dead jobs replayed\n"
    );
    assert_eq!(queue.state(asl[0]).await, JobState::Ready);
    assert_eq!(
        queue.run(&["dead", "drop", "--kind", "none"]).await.ok(),
        "0 dead jobs dropped\n"
    );
    queue.run(&["dead", "drop"]).await.failed(2, "--all");
    assert_eq!(
        queue.run(&["dead", "drop", "--all", "--json"]).await.json(),
        json!({ "dropped": 2 })
    );
    assert_eq!(queue.jobs.get(other[0]).await.unwrap(), None);
    assert_eq!(
        queue.state(asl[0]).await,
        JobState::Ready,
        "what is not dead stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_and_passwords_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let run = async |variables: &[(&str, &str)]| zhuji(dir.path(), variables, &["queues"]).await;
    run(&[]).await.failed(2, "DATABASE_URL");
    let nobody = format!(
        "postgresql://u:{PASSWORD}@127.0.0.1:{}/d?sslmode=disable",
        free_port()
    );
    run(&[("DATABASE_URL", &nobody)]).await.failed(69, "127.0.0.1");
    run(&[("DATABASE_URL", "nonsense")])
        .await
        .failed(2, "DATABASE_URL");
    run(&[("DATABASE_URL", &nobody), ("DB_POOL_SIEZ", "1")])
        .await
        .failed(2, "DB_POOL_SIEZ");
    run(&[("DATABASE_URL", &nobody), ("JOBS_TYPE", "memory")])
        .await
        .failed(2, "/admin/jobs");

    // A database without queues; its address in a file, as a mounted secret.
    let database = TestDatabase::new().await;
    std::fs::write(dir.path().join("url"), database.url()).unwrap();
    std::fs::write(dir.path().join("zhuji.toml"), "ASL_SOMETHING = \"else\"\n").unwrap();
    run(&[("DATABASE_URL_FILE", "url")])
        .await
        .failed(1, "no job queue");

    for arguments in [
        &["--help"][..],
        &["list", "--help"],
        &["dead", "drop", "--help"],
        &["retry", "--help"],
    ] {
        let help = zhuji(dir.path(), &[], arguments).await.ok();
        assert!(
            help.contains("Example: zhuji jobs") || help.contains("Exit code"),
            "{help}"
        );
    }
}
