//! What the engine reads and writes, and how it is reached.

use std::time::{Duration, Instant};

use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::*;
use zhuji_testkit::{TestPgBouncer, TestPostgres};

use crate::common::*;
use crate::{create_effects, effects, start};

pub(crate) fn is_full() -> bool {
    std::env::var("ZHUJI_TEST_FULL").is_ok_and(|full| full == "1")
}

/// A pool of one, so that the session with its plans is always the same.
async fn one_session(url: &str) -> DbPool {
    let config = DbConfig {
        pool_size: Some(1),
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(300),
        ..DbConfig::new(url)
    };
    DbPool::connect(&config).await.unwrap()
}

/// Pages that a claim of one job reads; it does not take the job.
async fn pages_of_a_claim(pool: &DbPool) -> i64 {
    const CLAIM: &str = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
        SELECT * FROM zhuji_jobs.claim('default', '{note}', 1, gen_random_uuid(), 30)";
    let mut connection = pool.get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    let row = tx.query_one(CLAIM, &[]).await.unwrap();
    tx.rollback().await.unwrap();
    let plan: serde_json::Value = row.get(0);
    let plan = &plan[0]["Plan"];
    ["Shared Hit Blocks", "Shared Read Blocks"]
        .iter()
        .map(|name| plan[name].as_i64().unwrap())
        .sum()
}

async fn statement(pool: &DbPool, sql: &str) {
    pool.execute(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn recorder() -> JobSet {
    JobSet::new().on(async |_, _: Note| Ok(()))
}

/// So long it takes to run so many.
async fn run(jobs: &Jobs, count: usize) -> Duration {
    let notes: Vec<Note> = (0..count).map(|n| note(n.to_string())).collect();
    for notes in notes.chunks(1000) {
        jobs.enqueue_many(notes).await.unwrap();
    }
    let begin = Instant::now();
    let worker = start(jobs, recorder());
    eventually("all to be done", || async {
        jobs.counts().await.unwrap().is_empty().then_some(())
    })
    .await;
    let took = begin.elapsed();
    worker.stop(PATIENCE).await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_finished_jobs_do_not_slow_the_claim() {
    let finished = if is_full() { 1_000_000 } else { 50_000 };
    let Bench { jobs, url, .. } = &bench("postgres").await;
    let pool = &one_session(url).await;
    let mut before = Duration::MAX;
    for _ in 0..3 {
        before = before.min(run(jobs, 1000).await);
    }
    jobs.enqueue(&note("x")).await.unwrap();
    // The first look of a session reads the catalogue as well.
    pages_of_a_claim(pool).await;
    let pages_before = pages_of_a_claim(pool).await;
    let copies = format!(
        "INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims,
             run_at, created_at, started_at, finished_at, worker)
         SELECT gen_random_uuid(), f.queue, f.kind, f.payload, f.state, f.priority, f.attempt, f.max_attempts, f.claims,
             f.run_at, f.created_at, f.started_at, f.finished_at, f.worker
         FROM (SELECT * FROM zhuji_jobs.finished LIMIT 1) AS f, generate_series(1, {finished})"
    );
    statement(pool, &copies).await;
    statement(pool, "VACUUM ANALYZE zhuji_jobs.finished").await;
    let pages_after = pages_of_a_claim(pool).await;
    let tight = before * 2 + Duration::from_millis(200);
    let mut after = Duration::MAX;
    // The best of a few: the machine may be busy with other things.
    for _ in 0..10 {
        after = after.min(run(jobs, 1000).await);
        if after < tight {
            break;
        }
    }
    println!(
        "{finished} finished jobs: a claim reads {pages_before} pages before and {pages_after} after; 1,000 jobs take \
         {before:?} and {after:?}"
    );
    assert!(pages_after <= pages_before + 50, "{pages_before} {pages_after}");
    assert!(after < tight, "{before:?} {after:?}");
}

/// The answer to a report can be lost on its way; told again it takes no effect, and is not somebody else's end either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_told_again_is_known_to_have_counted() {
    let Bench { jobs, adapter, .. } = &bench("postgres").await;
    let request = ClaimRequest {
        worker: WorkerId::generate(),
        queue: "default".into(),
        kinds: vec!["note".into()],
        limit: 10,
        lease: Duration::from_secs(60),
    };
    let notes: Vec<Note> = (0..4).map(|n| note(n.to_string())).collect();
    jobs.enqueue_many(&notes).await.unwrap();
    let claimed = adapter.claim(&request).await.unwrap().jobs;
    let finishes = [
        Finish::Done { result: None },
        Finish::Retry {
            delay: Duration::from_secs(60),
            error: "why".into(),
        },
        Finish::Dead { error: "why".into() },
        Finish::Cancelled,
    ];
    let report = |(claimed, finish): (&Claimed, &Finish)| Report {
        fence: Fence {
            id: claimed.id,
            claim: claimed.claim,
            worker: request.worker,
        },
        finish: finish.clone(),
    };
    let reports: Vec<Report> = claimed.iter().zip(&finishes).map(report).collect();
    assert_eq!(adapter.has_ended(&reports).await.unwrap(), [false; 4]);
    assert_eq!(adapter.finish(&reports).await.unwrap(), [true; 4]);
    assert_eq!(adapter.finish(&reports).await.unwrap(), [false; 4]);
    assert_eq!(adapter.has_ended(&reports).await.unwrap(), [true; 4]);
    // Another claim's, another worker's.
    let mut strange = reports.clone();
    strange[0].fence.claim += 1;
    strange[1].fence.claim += 1;
    strange[2].fence.worker = WorkerId::generate();
    // It failed: that it was done is not what was stored.
    strange[2].finish = Finish::Done { result: None };
    strange[3].fence.worker = WorkerId::generate();
    assert_eq!(adapter.has_ended(&strange).await.unwrap(), [false; 4]);
}

/// Each instance asks every few seconds; one counts for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_counted_lately_is_not_counted_again() {
    let Bench { jobs, adapter, .. } = &bench("postgres").await;
    let minute = Duration::from_secs(60);
    let ready = async |age| {
        adapter
            .recent_counts(age)
            .await
            .unwrap()
            .iter()
            .map(|queue| queue.ready)
            .sum::<u64>()
    };
    assert_eq!(ready(minute).await, 0);
    jobs.enqueue_many(&[note("a"), note("b")]).await.unwrap();
    assert_eq!(ready(minute).await, 0, "as it was");
    assert_eq!(ready(Duration::ZERO).await, 2);
    let (exact, recent) = (
        adapter.counts().await.unwrap(),
        adapter.recent_counts(minute).await.unwrap(),
    );
    assert_eq!(
        (exact[0].ready, &exact[0].queue),
        (recent[0].ready, &recent[0].queue)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_do_not_read_past_what_is_scheduled() {
    let Bench { jobs, url, .. } = &bench("postgres").await;
    let pool = &one_session(url).await;
    // Plans made while nothing is there, and kept.
    for _ in 0..10 {
        pages_of_a_claim(pool).await;
    }
    let scheduled =
        "INSERT INTO zhuji_jobs.job (id, queue, kind, payload, state, priority, max_attempts, run_at)
        SELECT gen_random_uuid(), 'default', 'note', '{}', 'scheduled', 9, 3, now() + interval '1 week'
        FROM generate_series(1, 50000)";
    statement(pool, scheduled).await;
    jobs.enqueue(&note("x")).await.unwrap();
    let pages = pages_of_a_claim(pool).await;
    println!("behind 50,000 scheduled jobs of a higher priority a claim reads {pages} pages");
    assert!(pages < 300, "{pages}");
    // And with a long backlog, by the same plans.
    let ready = "INSERT INTO zhuji_jobs.job (id, queue, kind, payload, max_attempts)
        SELECT gen_random_uuid(), 'default', 'note', '{}', 3 FROM generate_series(1, 50000)";
    statement(pool, ready).await;
    let pages = pages_of_a_claim(pool).await;
    println!("before 50,000 ready jobs: {pages} pages");
    assert!(pages < 300, "{pages}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_as_small_as_its_backlog() {
    let rounds = if is_full() { 50 } else { 5 };
    let Bench { jobs, pool, .. } = &bench("postgres").await;
    let pool = pool.as_ref().unwrap();
    let size = async || -> i64 {
        let sql = "SELECT pg_total_relation_size('zhuji_jobs.job')";
        pool.query_one(sql, &[]).await.unwrap().get(0)
    };
    let mut most = 0;
    for _ in 0..rounds {
        run(jobs, 2000).await;
        most = most.max(size().await);
        // As autovacuum does, which a test can't wait for.
        statement(pool, "VACUUM zhuji_jobs.job").await;
    }
    let most_kib = most / 1024;
    println!(
        "{} jobs went through: the queue never took more than {most_kib} KiB",
        rounds * 2000
    );
    assert!(most_kib < 8 * 1024, "{most_kib} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_jobs_by_copy_are_the_same_as_by_insert() {
    let Bench { jobs, pool, .. } = &bench("postgres").await;
    let odd: Vec<Note> = (0..200)
        .map(|n| note(format!("血铅 \0 \u{1F9EA} \"{n}\" \\")))
        .collect();
    let jobs = jobs.clone().with_origin(|| Origin {
        traceparent: None,
        request_id: Some("req-7".into()),
    });
    let ids = jobs.enqueue_many(&odd).await.unwrap();
    let one = jobs.enqueue(&odd[0]).await.unwrap();
    let (copied, inserted) = (
        jobs.get(ids[0]).await.unwrap().unwrap(),
        jobs.get(one).await.unwrap().unwrap(),
    );
    assert_eq!(copied.payload, inserted.payload);
    assert_eq!(
        (copied.max_attempts, copied.request_id),
        (inserted.max_attempts, inserted.request_id)
    );
    let last = jobs.get(ids[199]).await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Note>(&last.payload).unwrap(), odd[199]);
    // All or none.
    let pool = pool.as_ref().unwrap();
    statement(
        pool,
        "ALTER TABLE zhuji_jobs.job ADD CHECK (payload::text NOT LIKE '%150%') NOT VALID",
    )
    .await;
    let before: i64 = pool
        .query_one("SELECT count(*) FROM zhuji_jobs.job", &[])
        .await
        .unwrap()
        .get(0);
    let bad: Vec<Note> = odd.iter().map(|one| note(format!("{} 150", one.text))).collect();
    let again = jobs.enqueue_many(&bad);
    assert_eq!(again.await.unwrap_err().kind(), ErrorKind::Store);
    let after: i64 = pool
        .query_one("SELECT count(*) FROM zhuji_jobs.job", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_works_through_a_pooler() {
    if !TestPgBouncer::is_installed() {
        println!("SKIPPED the_queue_works_through_a_pooler: PgBouncer is not installed");
        return;
    }
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    let bouncer = TestPgBouncer::start(&database, 3).await;
    for listen in [true, false] {
        let db = DbConfig {
            pooled_url: Some(bouncer.url().into()),
            pool_size: Some(8),
            acquire_timeout: Duration::from_secs(10),
            ..DbConfig::new(database.url())
        };
        let pool = DbPool::connect(&db).await.unwrap();
        assert!(pool.is_pooled());
        let config = JobsConfig { listen, ..config() };
        let jobs = JobsFactory::new()
            .build(&config, Some(pool.clone()))
            .await
            .unwrap();
        if listen {
            create_effects(&pool).await;
        }
        let set = JobSet::new().on({
            let pool = pool.clone();
            async move |cx, job: Note| {
                cx.progress(1, 2);
                pool.transaction(async |tx| {
                    tx.execute("INSERT INTO public.effect VALUES ($1, 1)", &[&job.text])
                        .await?;
                    cx.complete_in(tx).await?;
                    Ok::<_, JobError>(())
                })
                .await
            }
        });
        let workers = [(); 3].map(|()| start(&jobs, set.clone()));
        let notes: Vec<Note> = (0..200).map(|n| note(format!("{listen} {n}"))).collect();
        jobs.enqueue_many(&notes).await.unwrap();
        let mut batch = jobs.batch();
        for n in 0..20 {
            batch.add(&note(format!("{listen} batch {n}"))).unwrap();
        }
        let batch = batch
            .then(&note(format!("{listen} last")))
            .unwrap()
            .enqueue()
            .await
            .unwrap();
        let later = EnqueueOptions::default().delay(Duration::from_secs(600));
        let later = jobs.enqueue_with(&note("never"), later).await.unwrap();
        eventually("all effects", || async {
            (effects(&pool).await.len() >= if listen { 221 } else { 442 }).then_some(())
        })
        .await;
        assert_eq!(jobs.batch_record(batch).await.unwrap().unwrap().pending, 0);
        jobs.admin().cancel(later).await.unwrap();
        eventually("the last end", || async {
            jobs.counts().await.unwrap().is_empty().then_some(())
        })
        .await;
        for worker in workers {
            worker.stop(PATIENCE).await;
        }
    }
    let mut all = effects(&pool(&database.url()).await).await;
    let total = all.len();
    all.dedup();
    assert_eq!((total, all.len()), (442, 442), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_needs_neither_worker_nor_service() {
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    let pool = pool(&database.url()).await;
    let error = JobsAdmin::open(pool.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Migration, "it makes no tables");
    let lease = Duration::from_secs(600);
    let slow = JobsConfig {
        poll_interval: Duration::from_secs(600),
        lease,
        ..config()
    };
    let jobs = JobsFactory::new().build(&slow, Some(pool)).await.unwrap();
    let set = JobSet::new().on(async |cx, _: Note| {
        cx.cancelled().cancelled().await;
        Err(JobError::interrupted())
    });
    let worker = start(&jobs, set);
    let running = jobs.enqueue(&note("runs")).await.unwrap();
    state(&jobs, running, JobState::Running).await;
    // What happens here reaches the worker by notification alone: it looks every ten minutes. It may take a moment
    // until it listens.
    let admin = JobsAdmin::open(crate::pool(&database.url()).await).await.unwrap();
    assert_eq!(
        admin.list(JobFilter::default()).await.unwrap().jobs[0].id,
        running
    );
    eventually("the worker to hear of it", || async {
        let _ = admin.cancel(running).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        (jobs.get(running).await.unwrap().unwrap().state == JobState::Cancelled).then_some(())
    })
    .await;
    admin.pause("default").await.unwrap();
    let held = jobs.enqueue(&note("held")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(jobs.get(held).await.unwrap().unwrap().state, JobState::Ready);
    admin.resume("default").await.unwrap();
    state(&jobs, held, JobState::Running).await;
    worker.stop(Duration::from_secs(5)).await;
}
