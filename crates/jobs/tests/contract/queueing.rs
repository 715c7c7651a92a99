//! What is in the queue, who takes what, and how much at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zhuji_jobs::*;

use crate::common::*;
use crate::{recorder, start};

pub(crate) async fn a_unique_key_lets_one_unfinished_job_in(kind: &str) {
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
pub(crate) async fn a_thousand_jobs_and_four_workers_each_once(kind: &str) {
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

pub(crate) async fn the_process_limit_holds_over_all_workers(kind: &str) {
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

pub(crate) async fn queues_and_kinds_keep_apart(kind: &str) {
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
pub(crate) async fn old_finished_jobs_are_forgotten(kind: &str) {
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

pub(crate) async fn what_can_not_be_stored_is_refused(kind: &str) {
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
