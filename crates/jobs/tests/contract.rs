//! One suite over every adapter: what the queue promises must hold wherever the jobs are.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Bench, Hasty, Note, PATIENCE, Seen, bench, bench_with, config, eventually, note, state};
use zhuji_health::Outcome;
use zhuji_jobs::{
    ClaimRequest, EnqueueOptions, ErrorKind, Fence, Finish, JobError, JobSet, JobState, Jobs, JobsConfig,
    JobsFactory, Report, Rescued, SweepRequest, WorkerHandle, WorkerId, WorkerSettings,
};

fn recorder(seen: &Seen<String>) -> JobSet {
    let seen = seen.clone();
    JobSet::new().on(async move |_, job: Note| {
        seen.add(job.text);
        Ok(())
    })
}

fn start(jobs: &Jobs, set: JobSet) -> WorkerHandle {
    jobs.worker(set, WorkerSettings::default()).start()
}

async fn a_job_runs_and_is_done(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let seen = Seen::default();
    let odd = "血铅 \0 \u{1F9EA} \"quoted\" \\";
    let before = jobs.enqueue(&note(odd)).await.unwrap();
    assert_eq!(jobs.get(before).await.unwrap().unwrap().state, JobState::Ready);
    let worker = start(jobs, recorder(&seen));
    let after = jobs.enqueue(&note("after")).await.unwrap();
    let first = state(jobs, before, JobState::Done).await;
    state(jobs, after, JobState::Done).await;
    assert_eq!(
        (first.attempt, first.queue.as_str(), first.kind.as_str()),
        (1, "default", "note")
    );
    assert!(first.started_at.is_some() && first.finished_at >= first.started_at && first.error.is_none());
    assert_eq!(serde_json::from_str::<Note>(&first.payload).unwrap(), note(odd));
    let mut texts = seen.all();
    texts.sort();
    assert_eq!(texts, ["after", odd]);
    let report = worker.stop(PATIENCE).await;
    assert_eq!((report.handed_back, report.abandoned), (0, 0));
}

async fn a_failure_is_tried_again(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let attempts = Seen::default();
    let set = JobSet::new().on({
        let attempts = attempts.clone();
        async move |cx, _: Note| {
            attempts.add((cx.attempt(), cx.is_last_attempt()));
            if cx.attempt() < 3 {
                return Err(std::io::Error::other("not yet").into());
            }
            Ok(())
        }
    });
    let worker = start(jobs, set);
    let id = jobs.enqueue(&note("x")).await.unwrap();
    let job = state(jobs, id, JobState::Done).await;
    assert_eq!(attempts.all(), [(1, false), (2, false), (3, true)]);
    assert_eq!((job.attempt, job.error.as_deref()), (3, Some("not yet")));
    worker.stop(PATIENCE).await;
}

async fn a_fatal_error_and_the_last_attempt_are_the_end(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let set = JobSet::new().on({
        let runs = runs.clone();
        async move |_, job: Note| {
            runs.fetch_add(1, Ordering::SeqCst);
            match job.text.as_str() {
                "fatal" => Err(JobError::fatal(format!(
                    "no such page at postgres://app:hunter2@db/x password=hunter2 \0 {}",
                    "x".repeat(10_000)
                ))),
                _ => Err(JobError::retry("again")),
            }
        }
    });
    let worker = start(jobs, set);
    let fatal = jobs.enqueue(&note("fatal")).await.unwrap();
    let fatal = state(jobs, fatal, JobState::Dead).await;
    assert_eq!((fatal.attempt, runs.load(Ordering::SeqCst)), (1, 1));
    let error = fatal.error.unwrap();
    assert!(
        error.starts_with("no such page at postgres://***@db/x password=*** \u{fffd}"),
        "{error}"
    );
    assert!(error.chars().count() <= 2001 && !error.contains("hunter2"));
    let worn = jobs.enqueue(&note("worn out")).await.unwrap();
    let worn = state(jobs, worn, JobState::Dead).await;
    assert_eq!((worn.attempt, worn.error.as_deref()), (3, Some("again")));
    assert!(worn.finished_at.is_some());
    worker.stop(PATIENCE).await;
    assert!(
        matches!(jobs.health_check().run().await, Outcome::Degraded(kind) if kind.contains("2 jobs died"))
    );
}

async fn a_panic_and_a_timeout_are_failed_attempts(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let set = JobSet::new()
        .on(async move |cx, _: Note| match cx.attempt() {
            1 => panic!("on purpose"),
            _ => Ok(()),
        })
        .on(async move |_, _: Hasty| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        });
    let worker = start(jobs, set);
    let panics = jobs.enqueue(&note("x")).await.unwrap();
    let slow = jobs.enqueue(&Hasty).await.unwrap();
    let panics = state(jobs, panics, JobState::Done).await;
    assert_eq!(
        (panics.attempt, panics.error.as_deref()),
        (2, Some("panicked: on purpose"))
    );
    let slow = state(jobs, slow, JobState::Dead).await;
    assert_eq!(
        (slow.attempt, slow.error.as_deref()),
        (2, Some("did not end within 100ms"))
    );
    worker.stop(PATIENCE).await;
}

async fn data_that_does_not_fit_is_a_failed_attempt(kind: &str) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Newer {
        other: u32,
    }
    impl zhuji_jobs::Job for Newer {
        const KIND: &'static str = "note";
    }
    let Bench { jobs, .. } = &bench(kind).await;
    let worker = start(jobs, recorder(&Seen::default()));
    let id = jobs.enqueue(&Newer { other: 1 }).await.unwrap();
    let job = eventually("a failed attempt", || async {
        jobs.get(id).await.unwrap().filter(|job| job.error.is_some())
    })
    .await;
    assert!(job.error.unwrap().starts_with("the job's data does not fit note"));
    worker.stop(PATIENCE).await;
}

async fn delays_and_priorities_are_kept(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let seen = Seen::default();
    for (text, priority) in [("low", -1), ("first", 0), ("second", 0), ("high", 5)] {
        jobs.enqueue_with(&note(text), EnqueueOptions::default().priority(priority))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let delay = Duration::from_millis(400);
    let start_at = Instant::now();
    let later = jobs
        .enqueue_with(&note("later"), EnqueueOptions::default().delay(delay))
        .await
        .unwrap();
    let far = jiff::Timestamp::now() + Duration::from_secs(3600);
    let never = jobs
        .enqueue_with(&note("never"), EnqueueOptions::default().run_at(far))
        .await
        .unwrap();
    let worker = jobs
        .worker(recorder(&seen), WorkerSettings::default().concurrency(1))
        .start();
    state(jobs, later, JobState::Done).await;
    assert!(start_at.elapsed() >= delay, "{:?}", start_at.elapsed());
    assert_eq!(seen.all(), ["high", "first", "second", "low", "later"]);
    assert_eq!(jobs.get(never).await.unwrap().unwrap().state, JobState::Ready);
    let counts = jobs.counts().await.unwrap();
    assert_eq!((counts[0].scheduled, counts[0].ready), (1, 0), "{counts:?}");
    worker.stop(PATIENCE).await;
}

async fn a_unique_key_lets_one_unfinished_job_in(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let unique = || EnqueueOptions::default().unique_key("pdf/42");
    let first = jobs.enqueue_with(&note("1"), unique()).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let jobs = jobs.clone();
            tokio::spawn(async move { jobs.enqueue_with(&note("2"), unique()).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), first);
    }
    assert_ne!(
        jobs.enqueue_with(&Hasty, unique()).await.unwrap(),
        first,
        "another kind"
    );
    assert_ne!(
        jobs.scoped("asl")
            .enqueue_with(&note("3"), unique())
            .await
            .unwrap(),
        first,
        "another queue"
    );
    let worker = start(jobs, recorder(&Seen::default()));
    state(jobs, first, JobState::Done).await;
    let second = jobs.enqueue_with(&note("4"), unique()).await.unwrap();
    assert_ne!(second, first, "the first is finished");
    state(jobs, second, JobState::Done).await;
    worker.stop(PATIENCE).await;
    let error = jobs
        .enqueue_with(&note("5"), EnqueueOptions::default().unique_key(""))
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}

async fn what_a_stopping_worker_hands_back_runs_elsewhere_with_the_same_number(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let seen = Seen::default();
    let set = |name: &'static str, wait: bool| {
        let seen = seen.clone();
        JobSet::new().on(async move |cx, job: Note| {
            seen.add((name, job.text.clone(), cx.attempt()));
            if job.text == "polite" && wait {
                cx.cancelled().cancelled().await;
                return Err(JobError::interrupted());
            }
            if job.text == "deaf" && wait {
                std::future::pending::<()>().await;
            }
            if job.text == "nearly done" && wait {
                cx.cancelled().cancelled().await;
            }
            Ok(())
        })
    };
    let first = start(jobs, set("first", true));
    let mut ids = Vec::new();
    for text in ["polite", "deaf", "nearly done"] {
        ids.push(jobs.enqueue(&note(text)).await.unwrap());
    }
    eventually("all three to run", || async { (seen.len() == 3).then_some(()) }).await;
    let stopping = Instant::now();
    let report = first.stop(Duration::from_millis(1500)).await;
    assert!(stopping.elapsed() < Duration::from_secs(4));
    assert_eq!((report.finished, report.handed_back, report.abandoned), (1, 2, 0));
    for id in &ids[..2] {
        let job = jobs.get(*id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempt, job.error), (JobState::Ready, 0, None));
    }
    let second = start(jobs, set("second", false));
    for id in ids {
        state(jobs, id, JobState::Done).await;
    }
    second.stop(PATIENCE).await;
    let mut again: Vec<_> = seen
        .all()
        .into_iter()
        .filter(|(name, ..)| *name == "second")
        .collect();
    again.sort();
    assert_eq!(
        again,
        [
            ("second", "deaf".to_owned(), 1),
            ("second", "polite".to_owned(), 1)
        ]
    );
}

async fn a_late_completion_is_fenced(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let id = jobs.enqueue(&note("x")).await.unwrap();
    let claim = |lease: u64| ClaimRequest {
        worker: WorkerId::generate(),
        queue: "default".into(),
        kinds: vec!["note".into()],
        limit: 10,
        lease: Duration::from_millis(lease),
    };
    let (slow, quick) = (claim(100), claim(60_000));
    assert_eq!(adapter.claim(&slow).await.unwrap().len(), 1);
    assert!(adapter.claim(&quick).await.unwrap().is_empty(), "the lease holds");
    assert_eq!(adapter.rescue(10).await.unwrap(), Rescued::default());
    tokio::time::sleep(Duration::from_millis(150)).await;
    let health = jobs.health_check().run().await;
    assert_eq!(health, Outcome::degraded("1 jobs stuck"));
    assert_eq!(adapter.rescue(10).await.unwrap(), Rescued { ready: 1, dead: 0 });
    let claimed = adapter.claim(&quick).await.unwrap();
    assert_eq!(
        (claimed.len(), claimed[0].attempt),
        (1, 2),
        "the lost attempt counts"
    );
    let fence = |worker, attempt| Fence { id, attempt, worker };
    let late = fence(slow.worker, 1);
    for finish in [
        Finish::Done,
        Finish::HandBack,
        Finish::Dead { error: "late".into() },
        Finish::Retry {
            delay: Duration::ZERO,
            error: "late".into(),
        },
    ] {
        assert_eq!(
            adapter.finish(&[Report { fence: late, finish }]).await.unwrap(),
            [false]
        );
    }
    for wrong in [
        fence(slow.worker, 2),
        fence(quick.worker, 1),
        fence(WorkerId::generate(), 2),
    ] {
        let report = Report {
            fence: wrong,
            finish: Finish::Done,
        };
        assert_eq!(adapter.finish(&[report]).await.unwrap(), [false]);
        assert!(
            adapter
                .renew(&[wrong], Duration::from_secs(9))
                .await
                .unwrap()
                .is_empty()
        );
    }
    let right = fence(quick.worker, 2);
    assert_eq!(
        adapter
            .renew(&[late, right], Duration::from_secs(60))
            .await
            .unwrap(),
        [id]
    );
    let both = [late, right].map(|fence| Report {
        fence,
        finish: Finish::Done,
    });
    assert_eq!(adapter.finish(&both).await.unwrap(), [false, true]);
    assert_eq!(
        adapter.finish(&both).await.unwrap(),
        [false, false],
        "an end is the end"
    );
    assert_eq!(jobs.get(id).await.unwrap().unwrap().state, JobState::Done);
}

async fn the_last_attempts_lost_worker_is_the_end(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let id = jobs.enqueue(&note("kills its worker")).await.unwrap();
    for attempt in 1..=3 {
        let request = ClaimRequest {
            worker: WorkerId::generate(),
            queue: "default".into(),
            kinds: vec!["note".into()],
            limit: 1,
            lease: Duration::from_millis(1),
        };
        assert_eq!(adapter.claim(&request).await.unwrap()[0].attempt, attempt);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Rescued { ready, dead } = adapter.rescue(10).await.unwrap();
        assert_eq!((ready, dead), if attempt < 3 { (1, 0) } else { (0, 1) });
    }
    let job = jobs.get(id).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Dead);
    assert!(job.error.unwrap().contains("the worker was lost"));
}

async fn a_lease_is_renewed_as_long_as_the_handler_runs(kind: &str) {
    let lease = Duration::from_millis(600);
    let Bench { jobs, .. } = &bench_with(kind, JobsConfig { lease, ..config() }).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let set = || {
        let runs = runs.clone();
        JobSet::new().on(async move |_, _: Note| {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2000)).await;
            Ok(())
        })
    };
    let (one, two) = (start(jobs, set()), start(jobs, set()));
    let id = jobs.enqueue(&note("long")).await.unwrap();
    eventually("a start", || async {
        (runs.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    // Stopping at once: the lease must be kept while draining, too.
    let (one, two) = tokio::join!(one.stop(PATIENCE), two.stop(PATIENCE));
    assert_eq!(one.finished + two.finished, 1);
    let job = jobs.get(id).await.unwrap().unwrap();
    assert_eq!(
        (job.state, job.attempt, runs.load(Ordering::SeqCst)),
        (JobState::Done, 1, 1)
    );
}

async fn a_worker_that_vanishes_is_replaced_after_its_lease(kind: &str) {
    let lease = Duration::from_millis(600);
    let Bench { jobs, .. } = &bench_with(kind, JobsConfig { lease, ..config() }).await;
    let seen = Seen::default();
    let set = |stay: bool| {
        let seen = seen.clone();
        JobSet::new().on(async move |cx, _: Note| {
            seen.add(cx.attempt());
            if !stay {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    };
    let first = start(jobs, set(false));
    let id = jobs.enqueue(&note("x")).await.unwrap();
    eventually("a start", || async { (seen.len() == 1).then_some(()) }).await;
    drop(first);
    let second = start(jobs, set(true));
    let job = state(jobs, id, JobState::Done).await;
    assert_eq!((seen.all(), job.attempt), (vec![1, 2], 2));
    second.stop(PATIENCE).await;
}

async fn a_thousand_jobs_and_four_workers_each_once(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let seen: Seen<String> = Seen::default();
    let set = || {
        let (running, most, seen) = (running.clone(), most.clone(), seen.clone());
        JobSet::new().on(async move |_, job: Note| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            seen.add(job.text);
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let notes: Vec<Note> = (0..500).map(|n| note(n.to_string())).collect();
    assert_eq!(jobs.enqueue_many(&notes).await.unwrap().len(), 500);
    let workers: Vec<_> = (0..4)
        .map(|_| {
            jobs.worker(set(), WorkerSettings::default().concurrency(8))
                .start()
        })
        .collect();
    for n in 500..1000 {
        jobs.enqueue(&note(n.to_string())).await.unwrap();
    }
    eventually("a thousand runs", || async { (seen.len() >= 1000).then_some(()) }).await;
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
    let mut times: HashMap<String, u32> = HashMap::new();
    for text in seen.all() {
        *times.entry(text).or_default() += 1;
    }
    assert_eq!(times.len(), 1000);
    assert!(times.values().all(|n| *n == 1));
    assert!(most.load(Ordering::SeqCst) <= 32, "four workers of eight");
    assert_eq!(
        jobs.counts().await.unwrap(),
        [],
        "nothing is left that is not done"
    );
}

async fn the_process_limit_holds_over_all_workers(kind: &str) {
    let limited = JobsConfig {
        concurrency: std::num::NonZeroUsize::new(3),
        ..config()
    };
    let Bench { jobs, .. } = &bench_with(kind, limited).await;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let set = || {
        let (running, most, done) = (running.clone(), most.clone(), done.clone());
        JobSet::new().on(async move |_, _: Note| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let scopes = ["one", "two"].map(|name| jobs.scoped(name));
    let workers = scopes.each_ref().map(|jobs| start(jobs, set()));
    for n in 0..30 {
        for jobs in &scopes {
            jobs.enqueue(&note(n.to_string())).await.unwrap();
        }
    }
    eventually("sixty runs", || async {
        (done.load(Ordering::SeqCst) == 60).then_some(())
    })
    .await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
}

async fn queues_and_kinds_keep_apart(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let (asl, other) = (jobs.scoped("asl"), jobs.scoped("a:sl"));
    assert_eq!(
        (jobs.queue(), asl.queue(), other.queue()),
        ("default", "asl", "a%3Asl")
    );
    assert_eq!(asl.scoped("index").queue(), "asl:index");
    let seen = Seen::default();
    let worker = start(&asl, recorder(&seen));
    let elsewhere = other.enqueue(&note("not here")).await.unwrap();
    let unknown = asl.enqueue(&Hasty).await.unwrap();
    let mine = asl.enqueue(&note("mine")).await.unwrap();
    state(&asl, mine, JobState::Done).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen.all(), ["mine"]);
    assert_eq!(
        jobs.get(unknown).await.unwrap().unwrap().attempt,
        0,
        "left for a program that can do it"
    );
    assert_eq!(asl.get(elsewhere).await.unwrap(), None, "a scope sees its own");
    assert!(jobs.get(elsewhere).await.unwrap().is_some());
    let counts = jobs.counts().await.unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|counts| (counts.queue.as_str(), counts.ready))
        .collect();
    assert_eq!(counts, [("a%3Asl", 1), ("asl", 1)]);
    assert_eq!(asl.counts().await.unwrap().len(), 1);
    worker.stop(PATIENCE).await;
}

async fn lost_claims_are_given_back(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(jobs.enqueue(&note(n.to_string())).await.unwrap());
    }
    let request = ClaimRequest {
        worker: WorkerId::generate(),
        queue: "default".into(),
        kinds: vec!["note".into()],
        limit: 10,
        lease: Duration::from_secs(60),
    };
    assert_eq!(adapter.claim(&request).await.unwrap().len(), 3);
    assert_eq!(adapter.release(WorkerId::generate(), &[]).await.unwrap(), 0);
    assert_eq!(adapter.release(request.worker, &ids[..1]).await.unwrap(), 2);
    let states: Vec<_> = [ids[0], ids[1], ids[2]].to_vec();
    let mut found = Vec::new();
    for id in states {
        let job = jobs.get(id).await.unwrap().unwrap();
        found.push((job.state, job.attempt));
    }
    assert_eq!(
        found,
        [(JobState::Running, 1), (JobState::Ready, 0), (JobState::Ready, 0)]
    );
}

async fn old_finished_jobs_are_forgotten(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let set = JobSet::new().on(async move |_, job: Note| match job.text.as_str() {
        "bad" => Err(JobError::fatal("bad")),
        _ => Ok(()),
    });
    let worker = start(jobs, set);
    let bad = jobs.enqueue(&note("bad")).await.unwrap();
    let mut good = Vec::new();
    for n in 0..5 {
        good.push(jobs.enqueue(&note(n.to_string())).await.unwrap());
    }
    state(jobs, bad, JobState::Dead).await;
    for id in &good {
        state(jobs, *id, JobState::Done).await;
    }
    worker.stop(PATIENCE).await;
    let waiting = jobs.enqueue(&note("waiting")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sweep = |done: u64, dead: u64, limit| SweepRequest {
        done: Duration::from_millis(done),
        dead: Duration::from_millis(dead),
        limit,
    };
    let hour = 3_600_000;
    assert_eq!(adapter.sweep(sweep(hour, hour, 100)).await.unwrap(), 0);
    assert_eq!(adapter.sweep(sweep(1, hour, 2)).await.unwrap(), 2);
    assert_eq!(adapter.sweep(sweep(1, hour, 100)).await.unwrap(), 3);
    assert!(jobs.get(bad).await.unwrap().is_some());
    assert_eq!(adapter.sweep(sweep(1, 1, 100)).await.unwrap(), 1);
    assert_eq!(jobs.get(bad).await.unwrap(), None);
    assert_eq!(jobs.get(waiting).await.unwrap().unwrap().state, JobState::Ready);
}

async fn what_can_not_be_stored_is_refused(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let error = jobs.enqueue(&note("x".repeat(2_000_000))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().len() < 300, "the payload is not in the error");
    let error = jobs
        .enqueue_with(&note("x"), EnqueueOptions::default().unique_key("a\0b"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // Strange ids of others do not stop the work.
    let options = EnqueueOptions::default()
        .traceparent("x".repeat(10_000))
        .request_id("a\r\nb\0");
    let id = jobs.enqueue_with(&note("x"), options).await.unwrap();
    let job = jobs.get(id).await.unwrap().unwrap();
    assert_eq!((job.traceparent, job.request_id), (None, None));
    let old = jiff::Timestamp::MIN;
    jobs.enqueue_with(
        &note("long ago"),
        EnqueueOptions::default().run_at(old.max("1970-01-01T00:00Z".parse().unwrap())),
    )
    .await
    .unwrap();
    jobs.enqueue_with(&note("far away"), EnqueueOptions::default().delay(Duration::MAX))
        .await
        .unwrap();
    assert_eq!(jobs.enqueue_many::<Note>(&[]).await.unwrap(), []);
}

async fn the_context_carries_the_trace(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seen = Seen::default();
    let set = JobSet::new().on({
        let seen = seen.clone();
        async move |cx, _: Note| {
            seen.add((
                cx.traceparent().map(str::to_owned),
                cx.request_id().map(str::to_owned),
                cx.id(),
                cx.max_attempts(),
            ));
            Ok(())
        }
    });
    let worker = start(jobs, set);
    let options = EnqueueOptions::default()
        .traceparent(traceparent)
        .request_id("req-7");
    let id = jobs.enqueue_with(&note("x"), options).await.unwrap();
    state(jobs, id, JobState::Done).await;
    assert_eq!(
        seen.all(),
        [(Some(traceparent.to_owned()), Some("req-7".to_owned()), id, 3)]
    );
    worker.stop(PATIENCE).await;
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("memory").await })* }
        mod postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("postgres").await })* }
    };
}

suite!(
    a_job_runs_and_is_done,
    a_failure_is_tried_again,
    a_fatal_error_and_the_last_attempt_are_the_end,
    a_panic_and_a_timeout_are_failed_attempts,
    data_that_does_not_fit_is_a_failed_attempt,
    delays_and_priorities_are_kept,
    a_unique_key_lets_one_unfinished_job_in,
    what_a_stopping_worker_hands_back_runs_elsewhere_with_the_same_number,
    a_late_completion_is_fenced,
    the_last_attempts_lost_worker_is_the_end,
    a_lease_is_renewed_as_long_as_the_handler_runs,
    a_worker_that_vanishes_is_replaced_after_its_lease,
    a_thousand_jobs_and_four_workers_each_once,
    the_process_limit_holds_over_all_workers,
    queues_and_kinds_keep_apart,
    lost_claims_are_given_back,
    old_finished_jobs_are_forgotten,
    what_can_not_be_stored_is_refused,
    the_context_carries_the_trace,
);

#[tokio::test]
async fn settings_that_can_not_work_are_refused() {
    let kind = |kind: &str| JobsConfig {
        kind: kind.into(),
        ..JobsConfig::default()
    };
    for (config, part) in [
        (kind("postgres"), "DATABASE_URL"),
        (kind("redis"), "postgres, memory"),
        (
            JobsConfig {
                lease: Duration::ZERO,
                ..kind("memory")
            },
            "JOBS_LEASE",
        ),
    ] {
        let error = JobsFactory::new().build(&config, None).await.expect_err(part);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
    let jobs = JobsFactory::new()
        .build(&kind("memory"), None)
        .await
        .expect("needs nothing");
    assert_eq!(
        (jobs.adapter_name(), jobs.health_check().run().await),
        ("memory", Outcome::Up)
    );
}

/// Every span and its fields, as text.
#[derive(Clone, Default)]
struct Spans(Arc<std::sync::Mutex<String>>);

impl Spans {
    fn add(&self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("zhuji_jobs")
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| self.add(field, value));
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values
            .record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| self.add(field, value));
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn an_attempt_runs_in_a_span_with_the_names_the_log_knows() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let Bench { jobs, .. } = &bench("memory").await;
    let asl = jobs.scoped("asl");
    let worker = start(&asl, recorder(&Seen::default()));
    let options = EnqueueOptions::default()
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .request_id("req-7");
    let id = asl.enqueue_with(&note("x"), options).await.unwrap();
    state(&asl, id, JobState::Done).await;
    worker.stop(PATIENCE).await;
    let seen = spans.0.lock().unwrap().clone();
    for part in [
        "module=\"asl\"",
        &format!("job_id={id}"),
        "kind=\"note\"",
        "attempt=1",
        "trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"",
        "request_id=\"req-7\"",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
}
