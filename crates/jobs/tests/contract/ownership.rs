//! Who has a job, and what happens when that is no longer so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zhuji_health::Outcome;
use zhuji_jobs::*;

use crate::common::*;
use crate::start;

pub(crate) async fn what_a_stopping_worker_hands_back_runs_elsewhere_with_the_same_number(kind: &str) {
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
    let report = first.stop(Duration::from_millis(4000)).await;
    assert!(stopping.elapsed() < Duration::from_secs(8));
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

pub(crate) async fn a_late_completion_is_fenced(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let id = jobs.enqueue(&note("x")).await.unwrap();
    let claim = |lease: u64| ClaimRequest {
        worker: WorkerId::generate(),
        queue: "default".into(),
        kinds: vec!["note".into()],
        limit: 10,
        lease: Duration::from_millis(lease),
    };
    let (slow, quick) = (claim(1000), claim(60_000));
    assert_eq!(adapter.claim(&slow).await.unwrap().len(), 1);
    assert!(adapter.claim(&quick).await.unwrap().is_empty(), "the lease holds");
    assert_eq!(adapter.rescue(10).await.unwrap(), Rescued::default());
    tokio::time::sleep(Duration::from_millis(1200)).await;
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

pub(crate) async fn the_last_attempts_lost_worker_is_the_end(kind: &str) {
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

pub(crate) async fn a_lease_is_renewed_as_long_as_the_handler_runs(kind: &str) {
    let lease = Duration::from_millis(1500);
    let Bench { jobs, .. } = &bench_with(kind, JobsConfig { lease, ..config() }).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let set = || {
        let runs = runs.clone();
        JobSet::new().on(async move |_, _: Note| {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(4000)).await;
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

pub(crate) async fn a_worker_that_vanishes_is_replaced_after_its_lease(kind: &str) {
    let lease = Duration::from_millis(1500);
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
pub(crate) async fn lost_claims_are_given_back(kind: &str) {
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
