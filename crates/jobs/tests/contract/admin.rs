//! What an operator sees and does.

use std::time::{Duration, Instant};

use zhuji_jobs::*;

use crate::common::*;
use crate::{recorder, start};

fn filter(state: JobState) -> JobFilter {
    JobFilter {
        state: Some(state),
        ..JobFilter::default()
    }
}

pub(crate) async fn jobs_are_listed_page_by_page(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let (asl, admin) = (jobs.scoped("asl"), jobs.admin());
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(asl.enqueue(&note(n.to_string())).await.unwrap());
    }
    let long = jobs.enqueue(&note("x".repeat(5000))).await.unwrap();
    ids.push(long);
    ids.reverse();
    let mut seen = Vec::new();
    let mut page = JobFilter {
        limit: 3,
        ..JobFilter::default()
    };
    loop {
        let found = admin.list(page.clone()).await.unwrap();
        assert!(found.jobs.len() <= 3);
        assert!(
            found
                .jobs
                .iter()
                .all(|job| job.payload.len() <= 1000 && job.state == JobState::Ready)
        );
        seen.extend(found.jobs.into_iter().map(|job| job.id));
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids, "newest first, each once");
    let of_queue = JobFilter {
        queue: Some("asl".into()),
        kind: Some("note".into()),
        ..JobFilter::default()
    };
    assert_eq!(admin.list(of_queue.clone()).await.unwrap().jobs.len(), 7);
    assert_eq!(
        asl.admin().list(JobFilter::default()).await.unwrap().jobs.len(),
        7
    );
    assert!(
        jobs.scoped("other")
            .admin()
            .list(of_queue)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    assert_eq!(
        asl.admin().show(long).await.unwrap(),
        None,
        "a scope sees its own"
    );
    assert!(
        admin
            .list(filter(JobState::Running))
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    let queues = admin.queues().await.unwrap();
    let queues: Vec<_> = queues
        .iter()
        .map(|queue| (queue.queue.as_str(), queue.counts.ready))
        .collect();
    assert_eq!(queues, [("asl", 7), ("default", 1)]);
}

pub(crate) async fn a_job_tells_its_history_progress_and_result(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let admin = jobs.admin();
    let (go, wait) = tokio::sync::watch::channel(false);
    let set = JobSet::new().on(async move |cx, job: Note| {
        if cx.attempt() == 1 {
            return Err(JobError::retry("not yet"));
        }
        cx.progress(1, 4);
        cx.progress(2, 4);
        cx.complete_with(&serde_json::json!({ "text": job.text }))?;
        let mut wait = wait.clone();
        wait.wait_for(|go| *go).await?;
        Ok(())
    });
    let worker = start(jobs, set);
    let id = jobs.enqueue(&note("血铅")).await.unwrap();
    let running = eventually("progress", || async {
        admin.show(id).await.unwrap().filter(|job| job.progress.is_some())
    })
    .await;
    assert_eq!(running.progress, Some(Progress { done: 2, total: 4 }));
    assert_eq!(
        (running.record.state, running.result.as_ref()),
        (JobState::Running, None)
    );
    let told: Vec<_> = running
        .history
        .iter()
        .map(|one| (one.attempt, one.outcome))
        .collect();
    assert_eq!(told, [(1, AttemptOutcome::Failed), (2, AttemptOutcome::Running)]);
    assert_eq!(
        admin.list(filter(JobState::Running)).await.unwrap().jobs[0].id,
        id
    );
    go.send_replace(true);
    state(jobs, id, JobState::Done).await;
    let done = admin.show(id).await.unwrap().unwrap();
    let result: serde_json::Value = serde_json::from_str(&done.result.unwrap()).unwrap();
    assert_eq!(result, serde_json::json!({ "text": "血铅" }));
    let [first, second] = &done.history[..] else {
        panic!("{:?}", done.history)
    };
    assert_eq!(
        (first.outcome, first.error.as_deref()),
        (AttemptOutcome::Failed, Some("not yet"))
    );
    assert_eq!(
        (second.outcome, second.error.as_deref()),
        (AttemptOutcome::Done, None)
    );
    for attempt in [first, second] {
        assert_eq!(attempt.worker, Some(worker.id().0));
        assert!(attempt.started <= attempt.ended && attempt.started.is_some());
    }
    worker.stop(PATIENCE).await;
}

pub(crate) async fn a_waiting_job_is_cancelled_at_once(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let admin = jobs.admin();
    let later = EnqueueOptions::default()
        .delay(Duration::from_secs(600))
        .unique_key("k");
    let ready = jobs.enqueue(&note("ready")).await.unwrap();
    let scheduled = jobs.enqueue_with(&note("later"), later.clone()).await.unwrap();
    for id in [ready, scheduled] {
        assert_eq!(admin.cancel(id).await.unwrap(), Cancellation::Cancelled);
        assert_eq!(jobs.get(id).await.unwrap().unwrap().state, JobState::Cancelled);
        assert_eq!(admin.cancel(id).await.unwrap_err().kind(), ErrorKind::State);
    }
    let nobody = admin.cancel(JobId::generate()).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    let seen = Seen::default();
    let worker = start(jobs, recorder(&seen));
    // Its key is free again; and a cancelled job can be brought back.
    let again = jobs.enqueue_with(&note("again"), later).await.unwrap();
    assert_ne!(again, scheduled);
    let taken = admin.retry(scheduled).await.unwrap_err();
    assert!(
        taken.kind() == ErrorKind::State && taken.to_string().contains("unique key"),
        "{taken}"
    );
    admin.retry(again).await.unwrap();
    state(jobs, again, JobState::Done).await;
    admin.retry(scheduled).await.unwrap();
    state(jobs, scheduled, JobState::Done).await;
    assert_eq!(admin.retry(scheduled).await.unwrap_err().kind(), ErrorKind::State);
    assert_eq!(seen.all(), ["again", "later"]);
    worker.stop(PATIENCE).await;
}

pub(crate) async fn a_running_job_is_told_that_it_is_cancelled(kind: &str) {
    let lease = Duration::from_secs(60);
    let Bench { jobs, .. } = &bench_with(kind, JobsConfig { lease, ..config() }).await;
    let admin = jobs.admin();
    let seen = Seen::default();
    let set = JobSet::new().on({
        let seen = seen.clone();
        async move |cx, job: Note| {
            seen.add(job.text.clone());
            cx.cancelled().cancelled().await;
            seen.add(format!("{} {}", job.text, cx.is_cancel_requested()));
            match job.text.as_str() {
                "fails" => Err(JobError::retry("cut short")),
                _ => Ok(()),
            }
        }
    });
    let worker = start(jobs, set);
    let started = Instant::now();
    for text in ["ends well", "fails"] {
        let id = jobs.enqueue(&note(text)).await.unwrap();
        eventually("a start", || async {
            seen.all().contains(&text.to_owned()).then_some(())
        })
        .await;
        assert_eq!(admin.cancel(id).await.unwrap(), Cancellation::Requested);
        let job = state(jobs, id, JobState::Cancelled).await;
        assert_eq!(job.attempt, 1, "not tried again");
        let history = admin.show(id).await.unwrap().unwrap().history;
        assert_eq!(history.last().unwrap().outcome, AttemptOutcome::Cancelled);
    }
    assert!(started.elapsed() < PATIENCE, "long before the lease is renewed");
    assert!(seen.all().contains(&"fails true".to_owned()), "{:?}", seen.all());
    worker.stop(PATIENCE).await;
}

pub(crate) async fn a_cancelled_jobs_lost_or_failed_attempt_is_its_end(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    for lost in [true, false] {
        let id = jobs.enqueue(&note("x")).await.unwrap();
        let request = ClaimRequest {
            worker: WorkerId::generate(),
            queue: "default".into(),
            kinds: vec!["note".into()],
            limit: 1,
            lease: Duration::from_millis(if lost { 1 } else { 60_000 }),
        };
        let claim = adapter.claim(&request).await.unwrap().jobs[0].claim;
        assert_eq!(jobs.admin().cancel(id).await.unwrap(), Cancellation::Requested);
        assert!(jobs.admin().show(id).await.unwrap().unwrap().cancel_requested);
        let fence = Fence {
            id,
            claim,
            worker: request.worker,
        };
        if lost {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(adapter.rescue(10).await.unwrap(), Rescued { ready: 0, dead: 1 });
        } else {
            let renewed = adapter.renew(&[fence], Duration::from_secs(60)).await.unwrap();
            assert_eq!(renewed, [Renewed { fence, cancel: true }]);
            let finish = Finish::Retry {
                delay: Duration::ZERO,
                error: "x".into(),
            };
            assert_eq!(adapter.finish(&[Report { fence, finish }]).await.unwrap(), [true]);
        }
        assert_eq!(jobs.get(id).await.unwrap().unwrap().state, JobState::Cancelled);
    }
}

pub(crate) async fn a_paused_queue_waits_until_it_is_resumed(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let (asl, admin) = (jobs.scoped("asl"), jobs.admin());
    admin.pause("asl").await.unwrap();
    let seen = Seen::default();
    let workers = [start(&asl, recorder(&seen)), start(jobs, recorder(&seen))];
    let held = asl.enqueue(&note("held back")).await.unwrap();
    let other = jobs.enqueue(&note("another queue")).await.unwrap();
    state(jobs, other, JobState::Done).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(jobs.get(held).await.unwrap().unwrap().state, JobState::Ready);
    let queues = admin.queues().await.unwrap();
    assert!(
        queues.iter().any(|queue| queue.queue == "asl" && queue.paused),
        "{queues:?}"
    );
    assert_eq!(
        asl.admin().pause("default").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    admin.resume("asl").await.unwrap();
    state(jobs, held, JobState::Done).await;
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
}

pub(crate) async fn dead_jobs_are_replayed_or_dropped(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let admin = jobs.admin();
    let mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let set = || {
        let mended = mended.clone();
        JobSet::new()
            .on(
                async move |_, _: Note| match mended.load(std::sync::atomic::Ordering::SeqCst) {
                    true => Ok(()),
                    false => Err(JobError::fatal("broken")),
                },
            )
            .on(async |_, _: Hasty| Err(JobError::fatal("always")))
    };
    let worker = start(jobs, set());
    let mut notes = Vec::new();
    for n in 0..5 {
        notes.push(jobs.enqueue(&note(n.to_string())).await.unwrap());
    }
    let hasty = jobs.enqueue(&Hasty).await.unwrap();
    for id in notes.iter().chain([&hasty]) {
        state(jobs, *id, JobState::Dead).await;
    }
    mended.store(true, std::sync::atomic::Ordering::SeqCst);
    let of_kind = |kind: &str| DeadFilter {
        kind: Some(kind.into()),
        ..DeadFilter::default()
    };
    assert_eq!(admin.replay_dead(of_kind("nothing")).await.unwrap(), 0);
    assert_eq!(
        jobs.scoped("other")
            .admin()
            .replay_dead(DeadFilter::default())
            .await
            .unwrap(),
        0
    );
    assert_eq!(admin.replay_dead(of_kind("note")).await.unwrap(), 5);
    for id in &notes {
        let job = state(jobs, *id, JobState::Done).await;
        assert_eq!((job.attempt, job.error.as_deref()), (1, Some("broken")));
        let history = admin.show(*id).await.unwrap().unwrap().history;
        let outcomes: Vec<_> = history.iter().map(|one| one.outcome).collect();
        assert_eq!(outcomes, [AttemptOutcome::Failed, AttemptOutcome::Done]);
    }
    assert_eq!(
        admin.list(filter(JobState::Dead)).await.unwrap().jobs[0].id,
        hasty
    );
    assert_eq!(admin.drop_dead(DeadFilter::default()).await.unwrap(), 1);
    assert_eq!(jobs.get(hasty).await.unwrap(), None);
    assert_eq!(jobs.counts().await.unwrap(), []);
    worker.stop(PATIENCE).await;
}
