//! What holds over all workers together: limits, the timetable, batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zhuji_jobs::*;

use crate::common::*;
use crate::start;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scarce;

impl Job for Scarce {
    const KIND: &'static str = "scarce";
    fn policy() -> Policy {
        Policy::default().limit(Limit::none().running(1))
    }
}

/// Counts what runs at once, in all handles together.
#[derive(Clone, Default)]
struct Gauge {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Gauge {
    async fn pass(&self) {
        self.most
            .fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Handles as those of two processes: they share nothing but the store.
fn two_processes(adapter: &Arc<dyn JobsAdapter>) -> [Jobs; 2] {
    [(); 2].map(|()| Jobs::new(adapter.clone(), &config()))
}

pub(crate) async fn a_queues_limit_holds_over_the_fleet(kind: &str) {
    let Bench { adapter, .. } = &bench(kind).await;
    let fleet = two_processes(adapter);
    let (queue, scarce) = (Gauge::default(), Gauge::default());
    let workers = fleet.each_ref().map(|jobs| {
        let set = JobSet::new()
            .on({
                let queue = queue.clone();
                async move |_, _: Note| {
                    queue.pass().await;
                    Ok(())
                }
            })
            .on({
                let (queue, scarce) = (queue.clone(), scarce.clone());
                async move |_, _: Scarce| {
                    tokio::join!(queue.pass(), scarce.pass());
                    Ok(())
                }
            });
        let settings = WorkerSettings::default().limit(Limit::none().running(3));
        jobs.worker(set, settings).start()
    });
    let limits = || async {
        let queues = fleet[0].admin().queues().await.unwrap();
        queues.into_iter().find(|queue| queue.limit.running == Some(3))
    };
    let stored = eventually("the limits to be stored", limits).await;
    assert_eq!(stored.kinds["scarce"].running, Some(1));
    // All at once: where enqueuing one takes as long as running one, nothing would ever run beside another.
    let admin = fleet[0].admin();
    admin.pause("default").await.unwrap();
    for jobs in &fleet {
        let notes: Vec<Note> = (0..15).map(|n| note(n.to_string())).collect();
        jobs.enqueue_many(&notes).await.unwrap();
        jobs.enqueue_many(&[(); 15].map(|()| Scarce)).await.unwrap();
    }
    admin.resume("default").await.unwrap();
    eventually("all to be done", || async {
        (queue.ended.load(Ordering::SeqCst) == 60).then_some(())
    })
    .await;
    assert_eq!(
        queue.most.load(Ordering::SeqCst),
        3,
        "of the queue, in both processes together"
    );
    assert_eq!(scarce.most.load(Ordering::SeqCst), 1, "of the kind");
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
}

pub(crate) async fn a_rate_holds_over_the_fleet(kind: &str) {
    let Bench { adapter, .. } = &bench(kind).await;
    let fleet = two_processes(adapter);
    let starts = Seen::default();
    let begin = Instant::now();
    // Five at once, then one every 100 ms.
    let limit = Limit::none().rate(5, Duration::from_millis(500));
    let workers = fleet.each_ref().map(|jobs| {
        let starts = starts.clone();
        let set = JobSet::new().on(async move |_, _: Note| {
            starts.add(begin.elapsed());
            Ok(())
        });
        jobs.worker(set, WorkerSettings::default().limit(limit)).start()
    });
    eventually("the limits to be stored", || async {
        let queues = fleet[0].admin().queues().await.unwrap();
        queues.into_iter().find(|queue| queue.limit.rate.is_some())
    })
    .await;
    for n in 0..15 {
        fleet[n % 2].enqueue(&note(n.to_string())).await.unwrap();
    }
    eventually("all to be done", || async { (starts.len() == 15).then_some(()) }).await;
    let mut starts = starts.all();
    starts.sort();
    // However slow this machine is, it can't have been quicker than the rate: the first five are free.
    for (n, at) in starts.iter().enumerate().skip(5) {
        let least = Duration::from_millis(100 * (n as u64 - 4)).saturating_sub(Duration::from_millis(30));
        assert!(*at >= least, "start {n} after {at:?}: {starts:?}");
    }
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
}

pub(crate) async fn a_limited_kind_does_not_hold_up_others(kind: &str) {
    let Bench { jobs, .. } = &bench(kind).await;
    let seen = Seen::default();
    let set = JobSet::new()
        .on({
            let seen = seen.clone();
            async move |cx, _: Scarce| {
                seen.add("scarce");
                cx.cancelled().cancelled().await;
                Ok(())
            }
        })
        .on({
            let seen = seen.clone();
            async move |_, _: Note| {
                seen.add("note");
                Ok(())
            }
        });
    let worker = start(jobs, set);
    for _ in 0..5 {
        jobs.enqueue_with(&Scarce, EnqueueOptions::default().priority(9))
            .await
            .unwrap();
    }
    eventually("the first", || async { (seen.len() == 1).then_some(()) }).await;
    let other = jobs.enqueue(&note("x")).await.unwrap();
    state(jobs, other, JobState::Done).await;
    assert_eq!(seen.all(), ["scarce", "note"]);
    worker.stop(PATIENCE).await;
}

pub(crate) async fn every_tick_fires_once_in_a_fleet(kind: &str) {
    let Bench { adapter, .. } = &bench(kind).await;
    let fleet = two_processes(adapter);
    let ticks = Seen::default();
    let second = Duration::from_secs(1);
    let workers = fleet.each_ref().map(|jobs| {
        let ticks = ticks.clone();
        let set = JobSet::new()
            .on(async move |cx, _: Note| {
                ticks.add(cx.id());
                Ok(())
            })
            .schedule(Schedule::every("each second", second, &note("tick")).unwrap());
        start(jobs, set)
    });
    let admin = fleet[0].admin();
    let schedule = || async {
        admin
            .schedules()
            .await
            .unwrap()
            .pop()
            .filter(|one| one.last.is_some())
    };
    let first = eventually("the first tick", schedule).await.last.unwrap();
    let latest = eventually("the fourth tick", || async {
        schedule()
            .await
            .filter(|one| one.last.unwrap().duration_since(first).as_secs() >= 3)
    })
    .await;
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
    assert_eq!(
        (latest.name.as_str(), latest.cron.as_str(), latest.zone.as_str()),
        ("each second", "@every 1s", "UTC")
    );
    assert!(latest.next > latest.last.unwrap());
    let last = admin.schedules().await.unwrap().pop().unwrap();
    let passed = last.last.unwrap().duration_since(first).as_secs() + 1;
    let jobs = admin.list(JobFilter::default()).await.unwrap().jobs.len();
    // A loaded machine may have missed a tick; none may have come twice.
    assert!(
        jobs as i64 <= passed && jobs >= 2,
        "{jobs} jobs for {passed} seconds"
    );
    assert!(ticks.len() <= jobs);
}

pub(crate) async fn two_schedulers_fire_a_tick_once_and_missed_ones_once(kind: &str) {
    let Bench {
        jobs, adapter, pool, ..
    } = &bench(kind).await;
    let timetable = adapter.timetable().unwrap();
    let kinds = ["note".to_owned()];
    let entry = |cron: &str, overlap| NewSchedule {
        name: "n".into(),
        cron: cron.into(),
        zone: "Asia/Shanghai".into(),
        kind: "note".into(),
        payload: "{\"text\":\"x\"}".into(),
        priority: 3,
        max_attempts: 2,
        overlap,
    };
    timetable
        .set_schedules("default", &kinds, &[entry("@every 1s", true)])
        .await
        .unwrap();
    let queues = ["default".to_owned()];
    // Three ticks pass while nobody looks: one is due.
    tokio::time::sleep(Duration::from_millis(3200)).await;
    let found = timetable.due_schedules(&queues).await.unwrap();
    let [(_, schedule, tick)] = &found.due[..] else {
        panic!("{found:?}")
    };
    assert!(
        found.now.duration_since(*tick).as_secs() >= 1,
        "the first one that was missed"
    );
    let next = schedule.next_after(found.now).unwrap().unwrap();
    let firing = || Firing {
        queue: "default".into(),
        name: "n".into(),
        tick: *tick,
        next,
        id: JobId::generate(),
    };
    let firings: Vec<_> = (0..8).map(|_| firing()).collect();
    let fired = futures_util::future::join_all(firings.iter().map(|firing| timetable.fire(firing))).await;
    assert_eq!(fired.iter().filter(|fired| *fired.as_ref().unwrap()).count(), 1);
    assert!(!timetable.fire(&firing()).await.unwrap(), "that tick is over");
    let early = Firing {
        tick: next,
        next: next + Duration::from_secs(60),
        ..firing()
    };
    if jobs.admin().schedules().await.unwrap()[0].next > jiff::Timestamp::now() + Duration::from_millis(200) {
        assert!(!timetable.fire(&early).await.unwrap(), "that tick is not yet");
    }
    let job = jobs
        .admin()
        .list(JobFilter::default())
        .await
        .unwrap()
        .jobs
        .remove(0);
    assert_eq!(
        (job.kind.as_str(), job.priority, job.max_attempts),
        ("note", 3, 2)
    );
    assert_eq!(jobs.admin().schedules().await.unwrap()[0].last_job, Some(job.id));
    // The same again keeps its next tick; another time does not.
    let before = jobs.admin().schedules().await.unwrap()[0].next;
    timetable
        .set_schedules("default", &kinds, &[entry("@every 1s", false)])
        .await
        .unwrap();
    assert_eq!(jobs.admin().schedules().await.unwrap()[0].next, before);
    // Without overlap: nothing while the last one of its own is unfinished.
    let mut fired = 0;
    for _ in 0..2 {
        let due = eventually("a tick", || async {
            timetable.due_schedules(&queues).await.unwrap().due.pop()
        })
        .await;
        let next = due.1.next_after(due.2).unwrap().unwrap();
        let firing = Firing {
            tick: due.2,
            next,
            ..firing()
        };
        fired += usize::from(timetable.fire(&firing).await.unwrap());
    }
    assert_eq!(fired, 1);
    timetable
        .set_schedules("default", &kinds, &[entry("0 3 * * *", true)])
        .await
        .unwrap();
    assert!(
        jobs.admin().schedules().await.unwrap()[0]
            .next
            .to_string()
            .contains("T19:00:00Z")
    );
    timetable
        .set_schedules("default", &["other".to_owned()], &[])
        .await
        .unwrap();
    assert_eq!(
        jobs.admin().schedules().await.unwrap().len(),
        1,
        "another worker's"
    );
    if let Some(pool) = pool {
        // An instance of the version before starts, which does not have it: another one has it still.
        timetable.set_schedules("default", &kinds, &[]).await.unwrap();
        assert_eq!(jobs.admin().schedules().await.unwrap().len(), 1);
        let age = "UPDATE zhuji_jobs.schedule SET seen_at = now() - interval '20 minutes'";
        pool.execute(age, &[]).await.unwrap();
        timetable
            .keep_schedules("default", &["n".to_owned()])
            .await
            .unwrap();
        timetable.set_schedules("default", &kinds, &[]).await.unwrap();
        assert_eq!(jobs.admin().schedules().await.unwrap().len(), 1);
        pool.execute(age, &[]).await.unwrap();
    }
    timetable.set_schedules("default", &kinds, &[]).await.unwrap();
    assert!(jobs.admin().schedules().await.unwrap().is_empty());
}

/// In a rolling deploy two versions of a program run side by side.
pub(crate) async fn an_entry_fires_only_where_the_program_has_it(kind: &str) {
    let Bench { jobs, adapter, .. } = &bench(kind).await;
    let other = NewSchedule {
        name: "of the other version".into(),
        cron: "@every 1s".into(),
        zone: "UTC".into(),
        kind: "note".into(),
        payload: "{\"text\":\"other\"}".into(),
        priority: 0,
        max_attempts: 1,
        overlap: true,
    };
    let seen = Seen::default();
    let set = JobSet::new()
        .on({
            let seen = seen.clone();
            async move |_, job: Note| {
                seen.add(job.text);
                Ok(())
            }
        })
        .schedule(Schedule::every("own", Duration::from_secs(1), &note("own")).unwrap());
    let worker = start(jobs, set);
    eventually("its own", || async { (seen.len() > 0).then_some(()) }).await;
    let timetable = adapter.timetable().unwrap();
    let names = ["other".to_owned()];
    timetable
        .set_schedules("default", &names, &[other])
        .await
        .unwrap();
    let before = seen.len();
    eventually("two more ticks", || async {
        (seen.len() >= before + 2).then_some(())
    })
    .await;
    worker.stop(PATIENCE).await;
    assert!(seen.all().iter().all(|text| text == "own"), "{:?}", seen.all());
}

pub(crate) async fn what_follows_a_batch_runs_when_all_of_it_has_ended(kind: &str) {
    #[derive(Serialize, Deserialize)]
    struct Summary {
        batch: BatchId,
    }
    impl Job for Summary {
        const KIND: &'static str = "summary";
    }
    let Bench { jobs, .. } = &bench(kind).await;
    let (ended, summaries) = (Arc::new(AtomicUsize::new(0)), Seen::default());
    let set = JobSet::new()
        .on({
            let ended = ended.clone();
            async move |_, job: Note| {
                tokio::time::sleep(Duration::from_millis(5)).await;
                ended.fetch_add(1, Ordering::SeqCst);
                match job.text.as_str() {
                    "13" => Err(JobError::fatal("unlucky")),
                    _ => Ok(()),
                }
            }
        })
        .on({
            let (jobs, summaries, ended) = (jobs.clone(), summaries.clone(), ended.clone());
            async move |_, summary: Summary| {
                let record = jobs.batch_record(summary.batch).await?.ok_or("no batch");
                summaries.add((ended.load(Ordering::SeqCst), record.map_err(JobError::fatal)?));
                Ok(())
            }
        });
    let mut batch = jobs.batch();
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(batch.add(&note(n.to_string())).unwrap());
    }
    let refused = batch.add_with(&note("x"), EnqueueOptions::default().unique_key("k"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    let later = EnqueueOptions::default().delay(Duration::from_secs(600));
    let cancelled = batch.add_with(&note("never"), later).unwrap();
    let summary = Summary { batch: batch.id() };
    let id = batch.then(&summary).unwrap().enqueue().await.unwrap();
    let record = jobs.batch_record(id).await.unwrap().unwrap();
    assert_eq!((record.total, record.pending, record.failed), (41, 41, 0));
    assert_eq!(jobs.get(ids[0]).await.unwrap().unwrap().batch, Some(id));
    let workers = [start(jobs, set.clone()), start(jobs, set)];
    eventually("all but one", || async {
        let record = jobs.batch_record(id).await.unwrap().unwrap();
        (record.pending == 1).then_some(())
    })
    .await;
    assert_eq!(summaries.len(), 0);
    jobs.admin().cancel(cancelled).await.unwrap();
    eventually("the summary", || async { (summaries.len() == 1).then_some(()) }).await;
    let (ran, record) = summaries.all().remove(0);
    assert_eq!((ran, record.total, record.pending, record.failed), (40, 41, 0, 2));
    assert!(record.ended_at.is_some() && record.next.is_some());
    // What comes back later does not count again.
    assert_eq!(jobs.admin().replay_dead(DeadFilter::default()).await.unwrap(), 1);
    eventually("the replayed one to fail again", || async {
        (ended.load(Ordering::SeqCst) == 41).then_some(())
    })
    .await;
    let empty = jobs.batch();
    let summary = Summary { batch: empty.id() };
    empty.then(&summary).unwrap().enqueue().await.unwrap();
    eventually("the empty one's summary", || async {
        (summaries.len() == 2).then_some(())
    })
    .await;
    for worker in workers {
        worker.stop(PATIENCE).await;
    }
    assert_eq!(summaries.len(), 2);
}
