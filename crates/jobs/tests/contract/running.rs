//! How a job runs, fails and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zhuji_health::Outcome;
use zhuji_jobs::*;

use crate::common::*;
use crate::{recorder, start};

pub(crate) async fn a_job_runs_and_is_done(kind: &str) {
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

pub(crate) async fn a_failure_is_tried_again(kind: &str) {
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

pub(crate) async fn a_fatal_error_and_the_last_attempt_are_the_end(kind: &str) {
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
        error.starts_with("no such page at postgres://app:***@db/x password=*** \u{fffd}"),
        "{error}"
    );
    assert!(error.chars().count() <= 2001 && !error.contains("hunter2"));
    let worn = jobs.enqueue(&note("worn out")).await.unwrap();
    let worn = state(jobs, worn, JobState::Dead).await;
    assert_eq!((worn.attempt, worn.error.as_deref()), (3, Some("again")));
    assert!(worn.finished_at.is_some());
    worker.stop(PATIENCE).await;
    // One instance counts for all, every few seconds.
    let degraded = || async {
        match jobs.health_check().run().await {
            Outcome::Degraded(why) if why.contains("2 jobs died") => Some(()),
            _ => None,
        }
    };
    eventually("the check to tell of the dead", degraded).await;
}

pub(crate) async fn a_panic_and_a_timeout_are_failed_attempts(kind: &str) {
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

pub(crate) async fn data_that_does_not_fit_is_a_failed_attempt(kind: &str) {
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

pub(crate) async fn delays_and_priorities_are_kept(kind: &str) {
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
        .enqueue_with(
            &note("later"),
            EnqueueOptions::default().delay(delay).priority(-2),
        )
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
    assert_eq!(jobs.get(never).await.unwrap().unwrap().state, JobState::Scheduled);
    let counts = jobs.counts().await.unwrap();
    assert_eq!((counts[0].scheduled, counts[0].ready), (1, 0), "{counts:?}");
    worker.stop(PATIENCE).await;
}
pub(crate) async fn the_context_carries_the_trace(kind: &str) {
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
