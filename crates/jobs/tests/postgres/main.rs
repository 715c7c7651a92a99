//! What only a database can show: transactions, killed processes, a server that goes away, other processes.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod chaos;
mod engine;
mod upgrade;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, Note, PATIENCE, Seen, bench, bench_with, config, eventually, note, pool, state};
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::{
    ErrorKind, JobError, JobId, JobSet, JobState, Jobs, JobsConfig, JobsFactory, WorkerHandle, WorkerSettings,
};
use zhuji_testkit::TestPostgres;

const CHILD_URL: &str = "ZHUJI_JOBS_TEST_CHILD_URL";
const LEASE: Duration = Duration::from_millis(2000);

fn start(jobs: &Jobs, set: JobSet) -> WorkerHandle {
    jobs.worker(set, WorkerSettings::default()).start()
}

async fn effects(pool: &DbPool) -> Vec<(String, i32)> {
    let rows = pool
        .query(
            "SELECT text, attempt FROM public.effect ORDER BY text, attempt",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn create_effects(pool: &DbPool) {
    pool.batch_execute("CREATE TABLE public.effect (text text NOT NULL, attempt int NOT NULL)")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_belongs_to_the_transaction_that_enqueues_it() {
    let Bench { jobs, pool, .. } = &bench("postgres").await;
    let pool = pool.as_ref().unwrap();
    create_effects(pool).await;
    let seen = Seen::default();
    let worker = start(
        jobs,
        JobSet::new().on({
            let seen = seen.clone();
            async move |_, job: Note| {
                seen.add(job.text);
                Ok(())
            }
        }),
    );
    let rolled_back: Result<JobId, JobError> = pool
        .transaction(async |tx| {
            tx.execute("INSERT INTO public.effect VALUES ('never', 0)", &[])
                .await?;
            jobs.enqueue_in(tx, &note("never")).await?;
            Err(JobError::fatal("changed my mind"))
        })
        .await;
    assert!(rolled_back.is_err());
    let jobs_in_tx = jobs.clone();
    let pool_in_tx = pool.clone();
    // In a task of its own: the future must be `Send`, as in an HTTP handler.
    let (id, committed) = tokio::spawn(async move {
        let id: Result<JobId, JobError> = pool_in_tx
            .transaction(async |tx| {
                let id = jobs_in_tx.enqueue_in(tx, &note("once")).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                assert_eq!(jobs_in_tx.get(id).await?, None, "not there before the commit");
                Ok(id)
            })
            .await;
        (id.unwrap(), Instant::now())
    })
    .await
    .unwrap();
    state(jobs, id, JobState::Done).await;
    assert!(
        committed.elapsed() < Duration::from_secs(2),
        "found soon after the commit"
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen.all(), ["once"]);
    assert!(effects(pool).await.is_empty());
    worker.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_and_completion_are_committed_together_or_not_at_all() {
    let Bench { jobs, pool, .. } = &bench_with(
        "postgres",
        JobsConfig {
            lease: LEASE,
            ..config()
        },
    )
    .await;
    let pool = pool.as_ref().unwrap();
    create_effects(pool).await;
    let set = JobSet::new().on({
        let pool = pool.clone();
        async move |cx, job: Note| {
            let attempt = i32::try_from(cx.attempt())?;
            pool.transaction(async |tx| {
                tx.execute("INSERT INTO public.effect VALUES ($1, $2)", &[&job.text, &attempt]).await?;
                if job.text == "stolen" && attempt == 1 {
                    // What happens when a worker sleeps through its lease: another one has taken the job.
                    pool.execute(
                        "UPDATE zhuji_jobs.job SET state = 'ready', attempt = 1, lease_until = NULL, run_at = now()
                         WHERE id = $1",
                        &[&cx.id().as_uuid()],
                    )
                    .await?;
                }
                cx.complete_in(tx).await?;
                if job.text == "late failure" && attempt == 1 {
                    return Err(JobError::retry("after the completion, before the commit"));
                }
                Ok(())
            })
            .await?;
            if job.text == "long tail" {
                // The job is done; what is left of the handler may take longer than the lease.
                tokio::time::sleep(LEASE * 2).await;
                pool.execute("INSERT INTO public.effect VALUES ('tail', 0)", &[]).await?;
            }
            Ok(())
        }
    });
    let worker = start(jobs, set);
    let mut ids = Vec::new();
    for text in ["plain", "late failure", "stolen", "long tail"] {
        ids.push(jobs.enqueue(&note(text)).await.unwrap());
    }
    for id in ids {
        state(jobs, id, JobState::Done).await;
    }
    let report = worker.stop(PATIENCE).await;
    assert_eq!(report.abandoned, 0);
    let expected = [
        ("late failure", 2),
        ("long tail", 1),
        ("plain", 1),
        ("stolen", 2),
        ("tail", 0),
    ];
    assert_eq!(
        effects(pool).await,
        expected.map(|(text, attempt)| (text.to_owned(), attempt))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completing_a_lost_job_is_refused() {
    let Bench { jobs, pool, .. } = &bench("postgres").await;
    let pool = pool.as_ref().unwrap();
    let kinds = Seen::default();
    let set = JobSet::new().on({
        let (pool, kinds) = (pool.clone(), kinds.clone());
        async move |cx, _: Note| {
            if cx.attempt() == 1 {
                let steal = "UPDATE zhuji_jobs.job SET worker = gen_random_uuid(), attempt = 2 WHERE id = $1";
                pool.execute(steal, &[&cx.id().as_uuid()]).await?;
            }
            let done = complete(&pool, &cx).await;
            kinds.add(done.as_ref().err().map(zhuji_jobs::Error::kind));
            done.map_err(JobError::retry)
        }
    });
    let worker = start(jobs, set);
    let id = jobs.enqueue(&note("x")).await.unwrap();
    eventually("a refusal", || async { (kinds.len() == 1).then_some(()) }).await;
    worker.stop(PATIENCE).await;
    assert_eq!(kinds.all(), [Some(ErrorKind::Fenced)]);
    assert_eq!(
        jobs.get(id).await.unwrap().unwrap().state,
        JobState::Running,
        "the thief has it"
    );
}

async fn complete(pool: &DbPool, cx: &zhuji_jobs::JobContext) -> Result<(), zhuji_jobs::Error> {
    struct Either(zhuji_jobs::Error);
    impl From<zhuji_db_pool::Error> for Either {
        fn from(error: zhuji_db_pool::Error) -> Self {
            Self(zhuji_jobs::Error::new(
                ErrorKind::Store,
                "test",
                "database",
                error.to_string(),
            ))
        }
    }
    pool.transaction(async |tx| cx.complete_in(tx).await.map_err(Either))
        .await
        .map_err(|Either(error)| error)
}

/// Not a test: the worker that [`a_killed_workers_job_runs_again_after_its_lease`] starts and kills.
#[test]
fn child_worker() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = pool(&url).await;
        let jobs = JobsFactory::new()
            .build(
                &JobsConfig {
                    lease: LEASE,
                    ..config()
                },
                Some(pool.clone()),
            )
            .await
            .unwrap();
        let set = JobSet::new().on(async move |cx, job: Note| {
            let attempt = i32::try_from(cx.attempt())?;
            pool.execute(
                "INSERT INTO public.effect VALUES ($1, $2)",
                &[&job.text, &attempt],
            )
            .await?;
            std::future::pending::<()>().await;
            Ok(())
        });
        let _worker = start(&jobs, set);
        std::future::pending::<()>().await;
    });
}

fn spawn_child(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_worker", "--nocapture"])
        .env(CHILD_URL, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_job_runs_again_after_its_lease() {
    let Bench { jobs, pool, url, .. } = &bench_with(
        "postgres",
        JobsConfig {
            lease: LEASE,
            ..config()
        },
    )
    .await;
    let pool = pool.as_ref().unwrap();
    create_effects(pool).await;
    let texts: Vec<String> = (0..5).map(|n| format!("job {n}")).collect();
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(jobs.enqueue(&note(text)).await.unwrap());
    }
    let mut child = spawn_child(url);
    eventually("the child to be at work", || async {
        (effects(pool).await.len() == 5).then_some(())
    })
    .await;
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let killed = Instant::now();
    let set = JobSet::new().on({
        let pool = pool.clone();
        async move |cx, job: Note| {
            let attempt = i32::try_from(cx.attempt())?;
            pool.execute(
                "INSERT INTO public.effect VALUES ($1, $2)",
                &[&job.text, &attempt],
            )
            .await?;
            Ok(())
        }
    });
    let worker = start(jobs, set);
    for id in &ids {
        let job = state(jobs, *id, JobState::Done).await;
        assert_eq!(job.attempt, 2, "the lost attempt counts");
    }
    assert!(killed.elapsed() < PATIENCE, "{:?}", killed.elapsed());
    let expected: Vec<_> = texts
        .iter()
        .flat_map(|text| [(text.clone(), 1), (text.clone(), 2)])
        .collect();
    assert_eq!(
        effects(pool).await,
        expected,
        "once where it was killed, once elsewhere"
    );
    worker.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_restart_under_load_loses_nothing() {
    let postgres = TestPostgres::options()
        .setting("synchronous_commit", "on")
        .start()
        .await;
    let database = postgres.database().await;
    let db = DbConfig {
        pool_size: Some(8),
        ..DbConfig::new(database.url())
    };
    let pool = DbPool::connect(&db).await.unwrap();
    let jobs = JobsFactory::new()
        .build(&config(), Some(pool.clone()))
        .await
        .unwrap();
    let seen: Seen<String> = Seen::default();
    let set = || {
        let seen = seen.clone();
        JobSet::new().on(async move |_, job: Note| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen.add(job.text);
            Ok(())
        })
    };
    let workers: Vec<_> = (0..3)
        .map(|_| {
            jobs.worker(set(), WorkerSettings::default().concurrency(4))
                .start()
        })
        .collect();
    let producer = tokio::spawn({
        let jobs = jobs.clone();
        async move {
            let mut acknowledged = Vec::new();
            let start = Instant::now();
            for n in 0.. {
                if start.elapsed() > Duration::from_secs(4) {
                    break;
                }
                match jobs.enqueue(&note(n.to_string())).await {
                    Ok(id) => acknowledged.push((n.to_string(), id)),
                    Err(error) => assert!(error.is_unavailable(), "{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        }
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        postgres.stop_immediate().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        postgres.restart().await;
    }
    let acknowledged = producer.await.unwrap();
    assert!(
        acknowledged.len() > 100,
        "{} jobs were taken in",
        acknowledged.len()
    );
    for (_, id) in &acknowledged {
        state(&jobs, *id, JobState::Done).await;
    }
    let ran: BTreeSet<String> = seen.all().into_iter().collect();
    assert!(
        acknowledged.iter().all(|(text, _)| ran.contains(text)),
        "every acknowledged job ran"
    );
    for worker in workers {
        let report = worker.stop(PATIENCE).await;
        assert_eq!((report.handed_back, report.abandoned), (0, 0));
    }
    let counts = jobs.counts().await.unwrap();
    assert!(
        counts.iter().all(|queue| queue.running == 0),
        "nothing is left behind: {counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_hears_of_a_job_at_once() {
    let slow = JobsConfig {
        poll_interval: Duration::from_secs(60),
        ..config()
    };
    let Bench { jobs, url, .. } = &bench_with("postgres", slow.clone()).await;
    // Another pool and another factory: nothing in memory connects the two.
    let other = JobsFactory::new()
        .build(&slow, Some(pool(url).await))
        .await
        .unwrap();
    let worker = start(jobs, JobSet::new().on(async move |_, _: Note| Ok(())));
    // The first looks are frequent anyway; wait until only a hint can be that quick.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for _ in 0..3 {
        let enqueued = Instant::now();
        let mut ids = Vec::new();
        for n in 0..5 {
            // Those that follow at once are not announced and must be found all the same.
            ids.push(other.enqueue(&note(n.to_string())).await.unwrap());
        }
        for id in ids {
            state(&other, id, JobState::Done).await;
        }
        assert!(
            enqueued.elapsed() < Duration::from_secs(2),
            "{:?}",
            enqueued.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    worker.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_may_start_at_once() {
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    let url = database.url().to_string();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let db = DbConfig {
                    pool_size: Some(2),
                    ..DbConfig::new(url)
                };
                let pool = DbPool::connect(&db).await.unwrap();
                JobsFactory::new().build(&config(), Some(pool)).await
            })
        })
        .collect();
    for start in starts {
        let jobs = start.await.unwrap().expect("migrated once, by one of them");
        jobs.enqueue(&note("x")).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_said_so() {
    let postgres = TestPostgres::start_own().await;
    let database = postgres.database().await;
    let db = DbConfig {
        acquire_timeout: Duration::from_millis(500),
        ..DbConfig::new(database.url().to_string().replace("127.0.0.1", "localhost"))
    };
    let pool = DbPool::connect(&db).await.unwrap();
    let jobs = JobsFactory::new().build(&config(), Some(pool)).await.unwrap();
    postgres.stop_immediate().await;
    let error = jobs.enqueue(&note("x")).await.expect_err("nobody there");
    assert!(error.is_unavailable() && error.is_retryable(), "{error:?}");
    assert!(!format!("{error} {error:?} {jobs:?}").contains("test-password"));
    let health = jobs.health_check().run().await;
    assert_eq!(health, zhuji_health::Outcome::down("unavailable"));
}
