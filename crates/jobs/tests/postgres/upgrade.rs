//! A database that programs of before have written.

use std::time::Duration;

use zhuji_db_pool::{DbPool, Migration};
use zhuji_jobs::*;
use zhuji_testkit::TestPostgres;

use crate::common::*;
use crate::{LEASE, start};

const MIGRATIONS: [Migration<'static>; 2] = [
    Migration {
        version: 1,
        name: "job",
        sql: include_str!("../../src/postgres/v1_job.sql"),
    },
    Migration {
        version: 2,
        name: "claims",
        sql: include_str!("../../src/postgres/v2_claims.sql"),
    },
];

async fn insert(pool: &DbPool, text: &str, rest: &str) {
    let sql = format!(
        "INSERT INTO zhuji_jobs.job (id, queue, kind, payload, state, attempt, max_attempts, worker, lease_until, run_at,
             finished_at, unique_key, error)
         VALUES (gen_random_uuid(), 'default', 'note', '{{\"text\": \"{text}\"}}', {rest})"
    );
    pool.execute(&sql, &[]).await.unwrap();
}

async fn run_all_that_is_left(pool: &DbPool, applied: &[Migration<'_>]) {
    pool.migrate("zhuji_jobs", applied).await.unwrap();
    insert(
        pool,
        "ready",
        "'ready', 0, 3, NULL, NULL, now(), NULL, 'key', NULL",
    )
    .await;
    insert(
        pool,
        "later",
        "'ready', 0, 3, NULL, NULL, now() + interval '1 hour', NULL, NULL, NULL",
    )
    .await;
    let lost = "'running', 1, 3, gen_random_uuid(), now() - interval '1 minute', now(), NULL, NULL, NULL";
    insert(pool, "lost", lost).await;
    for n in 0..50 {
        let done = "'done', 1, 3, gen_random_uuid(), NULL, now(), now() - interval '1 hour', 'key', NULL";
        insert(pool, &format!("done {n}"), done).await;
    }
    insert(
        pool,
        "dead",
        "'dead', 3, 3, NULL, NULL, now(), now() - interval '1 hour', NULL, 'why'",
    )
    .await;
    let config = JobsConfig {
        lease: LEASE,
        ..config()
    };
    let jobs = JobsFactory::new()
        .build(&config, Some(pool.clone()))
        .await
        .unwrap();
    let admin = jobs.admin();
    let count = async |state| {
        let filter = JobFilter {
            state: Some(state),
            limit: 100,
            ..JobFilter::default()
        };
        admin.list(filter).await.unwrap().jobs.len()
    };
    assert_eq!(count(JobState::Done).await, 50);
    assert_eq!(count(JobState::Scheduled).await, 1);
    let unique = EnqueueOptions::default().unique_key("key");
    let ready = jobs.enqueue_with(&note("not again"), unique).await.unwrap();
    let text = jobs.get(ready).await.unwrap().unwrap().payload;
    assert!(
        text.contains("\"ready\""),
        "the unfinished one has the key: {text}"
    );
    let seen = Seen::default();
    let set = JobSet::new().on({
        let seen = seen.clone();
        async move |cx, job: Note| {
            seen.add((job.text, cx.attempt()));
            Ok(())
        }
    });
    let worker = start(&jobs, set);
    assert_eq!(admin.replay_dead(DeadFilter::default()).await.unwrap(), 1);
    eventually("three to be done", || async {
        (count(JobState::Done).await == 53).then_some(())
    })
    .await;
    let mut all = seen.all();
    all.sort();
    assert_eq!(
        all,
        [("dead", 1), ("lost", 2), ("ready", 1)].map(|(text, n)| (text.to_owned(), n))
    );
    worker.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_the_first_schema_go_on_in_the_present_one() {
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    run_all_that_is_left(&pool(&database.url()).await, &MIGRATIONS[..1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_the_second_schema_go_on_in_the_present_one() {
    let postgres = TestPostgres::start().await;
    let database = postgres.database().await;
    run_all_that_is_left(&pool(&database.url()).await, &MIGRATIONS).await;
}

/// In a rolling deploy programs of before work on the present schema for a while, with statements of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_before_may_go_on_working() {
    let Bench {
        jobs, adapter, pool, ..
    } = &bench("postgres").await;
    let pool = pool.as_ref().unwrap();
    let old_enqueue = "INSERT INTO zhuji_jobs.job
            (id, queue, kind, payload, priority, max_attempts, run_at, unique_key, traceparent, request_id)
        VALUES (gen_random_uuid(), 'default', 'note', '{\"text\": \"old\"}', 0, 3, now(), 'key', NULL, NULL)
        ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'running')
        DO UPDATE SET unique_key = excluded.unique_key RETURNING id";
    let id = |row: zhuji_db_pool::Row| JobId::from(row.get::<_, uuid::Uuid>(0));
    let first = id(pool.query_one(old_enqueue, &[]).await.unwrap());
    assert_eq!(id(pool.query_one(old_enqueue, &[]).await.unwrap()), first);
    // It claims and finishes as it always did.
    let old_claim = "UPDATE zhuji_jobs.job SET state = 'running', attempt = attempt + 1, claims = claims + 1,
        started_at = now(), worker = gen_random_uuid(), lease_until = now() + interval '1 minute' WHERE state = 'ready'";
    let old_finish = "UPDATE zhuji_jobs.job SET state = 'done', finished_at = now(), lease_until = NULL
        WHERE state = 'running'";
    pool.execute(old_claim, &[]).await.unwrap();
    assert_eq!(jobs.get(first).await.unwrap().unwrap().state, JobState::Running);
    pool.execute(old_finish, &[]).await.unwrap();
    assert_eq!(jobs.get(first).await.unwrap().unwrap().state, JobState::Done);
    let hour = Duration::from_secs(3600);
    let sweep = SweepRequest {
        done: hour,
        dead: hour,
        limit: 100,
    };
    assert_eq!(adapter.sweep(sweep).await.unwrap(), 0);
    let left: i64 = pool
        .query_one("SELECT count(*) FROM zhuji_jobs.job", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0, "moved to where it belongs");
    assert_eq!(jobs.get(first).await.unwrap().unwrap().state, JobState::Done);
}
