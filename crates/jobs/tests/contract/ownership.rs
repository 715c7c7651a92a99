//! Who has a job, and what happens when that is no longer so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zhuji_health::Outcome;
use zhuji_jobs::*;

use crate::common::*;
use crate::start;

const DONE: Finish = Finish::Done { result: None };

fn renewed(fence: Fence) -> Renewed {
    Renewed { fence, cancel: false }
}

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
    assert_eq!((report.finished, report.abandoned), (1, 0));
    // Three if a claim was under way, which took the first one handed back up again: it is handed back once more.
    assert!(matches!(report.handed_back, 2 | 3), "{report:?}");
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
    let first = adapter.claim(&slow).await.unwrap().jobs;
    assert_eq!(first.len(), 1);
    assert!(
        adapter.claim(&quick).await.unwrap().jobs.is_empty(),
        "the lease holds"
    );
    assert_eq!(adapter.rescue(10).await.unwrap(), Rescued::default());
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let health = jobs.health_check().run().await;
    assert_eq!(health, Outcome::degraded("1 jobs stuck"));
    assert_eq!(adapter.rescue(10).await.unwrap(), Rescued { ready: 1, dead: 0 });
    let claimed = adapter.claim(&quick).await.unwrap().jobs;
    assert_eq!(
        (claimed.len(), claimed[0].attempt),
        (1, 2),
        "the lost attempt counts"
    );
    let (first, second) = (first[0].claim, claimed[0].claim);
    let fence = |worker, claim| Fence { id, claim, worker };
    let late = fence(slow.worker, first);
    for finish in [
        DONE,
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
        fence(slow.worker, second),
        fence(quick.worker, first),
        fence(WorkerId::generate(), second),
    ] {
        let report = Report {
            fence: wrong,
            finish: DONE,
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
    let right = fence(quick.worker, second);
    assert_eq!(
        adapter
            .renew(&[late, right], Duration::from_secs(60))
            .await
            .unwrap(),
        [renewed(right)]
    );
    let both = [late, right].map(|fence| Report { fence, finish: DONE });
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
        assert_eq!(adapter.claim(&request).await.unwrap().jobs[0].attempt, attempt);
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

pub(crate) async fn no_two_claims_of_a_job_have_the_same_fence(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let id = jobs.enqueue(&note("x")).await.unwrap();
    let worker = WorkerId::generate();
    let request = ClaimRequest {
        worker,
        queue: "default".into(),
        kinds: vec!["note".into()],
        limit: 1,
        lease: Duration::from_secs(60),
    };
    let claim = || async {
        let claimed = adapter.claim(&request).await.unwrap().jobs.pop().unwrap();
        assert_eq!(claimed.attempt, 1, "what is given back is not counted");
        Fence {
            id,
            claim: claimed.claim,
            worker,
        }
    };
    let hand_back = |fence| Report {
        fence,
        finish: Finish::HandBack,
    };
    let first = claim().await;
    assert_eq!(adapter.finish(&[hand_back(first)]).await.unwrap(), [true]);
    let second = claim().await;
    // The claim of which only the first one's task knows: to keep that is not to keep this.
    assert_eq!(adapter.release(worker, &[second]).await.unwrap(), 0);
    assert_eq!(adapter.release(worker, &[first]).await.unwrap(), 1);
    let third = claim().await;
    assert!(first.claim < second.claim && second.claim < third.claim);
    for stale in [first, second] {
        assert_eq!(adapter.finish(&[hand_back(stale)]).await.unwrap(), [false]);
    }
    let minute = Duration::from_secs(60);
    assert_eq!(
        adapter.renew(&[first, second, third], minute).await.unwrap(),
        [renewed(third)]
    );
    assert_eq!(adapter.finish(&[hand_back(third)]).await.unwrap(), [true]);
}

/// Holds the answer to the first report back until the job that it was about runs again.
#[derive(Debug)]
struct SlowAnswer {
    inner: Arc<dyn JobsAdapter>,
    again: tokio::sync::Semaphore,
}

#[async_trait::async_trait]
impl JobsAdapter for SlowAnswer {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        self.inner.enqueue(jobs).await
    }

    async fn enqueue_in(&self, tx: &zhuji_db_pool::Transaction<'_>, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        self.inner.enqueue_in(tx, jobs).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claims> {
        self.inner.claim(request).await
    }

    async fn renew(&self, running: &[Fence], lease: Duration) -> Result<Vec<Renewed>> {
        self.inner.renew(running, lease).await
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let answer = self.inner.finish(reports).await;
        drop(self.again.acquire().await);
        answer
    }

    async fn finish_in(
        &self,
        tx: &zhuji_db_pool::Transaction<'_>,
        fence: Fence,
        result: Option<&str>,
    ) -> Result<bool> {
        self.inner.finish_in(tx, fence, result).await
    }

    async fn rescue(&self, limit: usize) -> Result<Rescued> {
        self.inner.rescue(limit).await
    }

    async fn release(&self, worker: WorkerId, keep: &[Fence]) -> Result<u64> {
        self.inner.release(worker, keep).await
    }

    async fn sweep(&self, request: SweepRequest) -> Result<u64> {
        self.inner.sweep(request).await
    }

    async fn get(&self, id: JobId) -> Result<Option<JobRecord>> {
        self.inner.get(id).await
    }

    async fn counts(&self) -> Result<Vec<QueueCounts>> {
        self.inner.counts().await
    }
}

pub(crate) async fn the_end_of_an_attempt_leaves_the_next_one_its_lease(kind: &str) {
    let lease = Duration::from_millis(1200);
    let config = JobsConfig { lease, ..config() };
    let Bench { adapter, .. } = &bench_with(kind, config.clone()).await;
    let slow = Arc::new(SlowAnswer {
        inner: adapter.clone(),
        again: tokio::sync::Semaphore::new(0),
    });
    let jobs = &Jobs::new(slow.clone(), &config);
    let attempts = Seen::default();
    let set = JobSet::new().on({
        let attempts = attempts.clone();
        async move |cx, _: Note| {
            attempts.add(cx.attempt());
            if cx.attempt() == 1 {
                return Err(JobError::retry("again, at once, on the same worker"));
            }
            slow.again.add_permits(1000);
            tokio::time::sleep(lease * 3).await;
            Ok(())
        }
    });
    let worker = start(jobs, set);
    let id = jobs.enqueue(&note("x")).await.unwrap();
    let job = state(jobs, id, JobState::Done).await;
    assert_eq!((attempts.all(), job.attempt), (vec![1, 2], 2));
    assert_eq!(worker.stop(PATIENCE).await.abandoned, 0);
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
    let claimed = adapter.claim(&request).await.unwrap().jobs;
    assert_eq!(claimed.len(), 3);
    assert_eq!(adapter.release(WorkerId::generate(), &[]).await.unwrap(), 0);
    let first = claimed.iter().find(|claimed| claimed.id == ids[0]).unwrap();
    let kept = Fence {
        id: ids[0],
        claim: first.claim,
        worker: request.worker,
    };
    assert_eq!(adapter.release(request.worker, &[kept]).await.unwrap(), 2);
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
