//! Everything that can die, dies again and again.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_jobs::*;
use zhuji_testkit::TestPostgres;

use crate::common::{config, eventually};
use crate::engine::is_full;

const URL: &str = "ZHUJI_JOBS_TEST_CHAOS_URL";
const FILE: &str = "ZHUJI_JOBS_TEST_CHAOS_FILE";
/// Longer than the server is away, so that only the killed lose a job.
const LEASE: Duration = Duration::from_secs(12);
/// Every so many of the jobs have their effect in the database, in one transaction with their end.
const IN_TRANSACTION: usize = 10;

#[derive(Serialize, Deserialize)]
struct Deed {
    number: usize,
}

impl Job for Deed {
    const KIND: &'static str = "deed";
    fn policy() -> Policy {
        Policy::default().max_attempts(1000)
    }
}

async fn connect(url: &str, size: u32) -> (DbPool, Jobs) {
    let db = DbConfig {
        pool_size: Some(size),
        acquire_timeout: Duration::from_secs(10),
        ..DbConfig::new(url)
    };
    let config = JobsConfig {
        lease: LEASE,
        ..config()
    };
    // The server may be away just now.
    let jobs = eventually("a connection", || async {
        let pool = DbPool::connect(&db).await.ok()?;
        let jobs = JobsFactory::new().build(&config, Some(pool.clone())).await.ok()?;
        Some((pool, jobs))
    });
    jobs.await
}

/// Not a test: one worker process of [`nothing_is_lost_whatever_dies`].
#[test]
fn chaos_worker() {
    let (Ok(url), Ok(file)) = (std::env::var(URL), std::env::var(FILE)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (pool, jobs) = connect(&url, 2).await;
        let set = JobSet::new().on(async move |cx, deed: Deed| {
            if deed.number.is_multiple_of(IN_TRANSACTION) {
                let number = i64::try_from(deed.number)?;
                return pool
                    .transaction(async |tx| {
                        tx.execute("INSERT INTO public.deed VALUES ($1)", &[&number])
                            .await?;
                        cx.complete_in(tx).await?;
                        Ok::<_, JobError>(())
                    })
                    .await;
            }
            // One write, which the system makes whole or not at all.
            let mut file = OpenOptions::new().append(true).open(&file)?;
            file.write_all(format!("{:08}\n", deed.number).as_bytes())?;
            Ok(())
        });
        // One at a time: a kill can then undo the report of one job at most.
        let _worker = jobs.worker(set, WorkerSettings::default().concurrency(1)).start();
        std::future::pending::<()>().await;
    });
}

struct Worker(Child);

impl Worker {
    fn spawn(url: &str, file: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chaos::chaos_worker", "--nocapture"])
            .env(URL, url)
            .env(FILE, file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_dies() {
    let (workers, count, patience) = if is_full() {
        (20, 100_000, Duration::from_secs(900))
    } else {
        (6, 3_000, Duration::from_secs(150))
    };
    let postgres = TestPostgres::options()
        .setting("synchronous_commit", "on")
        .max_connections(200)
        .start()
        .await;
    let database = postgres.database().await;
    let url = database.url();
    let (pool, jobs) = connect(&url, 4).await;
    pool.batch_execute("CREATE TABLE public.deed (number bigint NOT NULL)")
        .await
        .unwrap();
    let file = std::env::temp_dir().join(format!("zhuji-jobs-chaos-{}", std::process::id()));
    fs::write(&file, "").unwrap();
    let name = file.to_str().unwrap().to_owned();
    for first in (0..count).step_by(1000) {
        let deeds: Vec<Deed> = (first..count.min(first + 1000))
            .map(|number| Deed { number })
            .collect();
        jobs.enqueue_many(&deeds).await.unwrap();
    }
    let mut fleet: Vec<Worker> = (0..workers).map(|_| Worker::spawn(&url, &name)).collect();
    let begin = Instant::now();
    let (mut kills, mut restarts) = (0, 0);
    let done = || fs::metadata(&file).unwrap().len() / 9;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let victim = fastrand::usize(..fleet.len());
        fleet[victim] = Worker::spawn(&url, &name); // The one before it is dropped: killed.
        kills += 1;
        if restarts < 2 && done() > (restarts + 1) * count as u64 / 3 {
            postgres.stop_immediate().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            postgres.restart().await;
            restarts += 1;
        }
        let left = jobs.counts().await.ok();
        if left.is_some_and(|left| left.is_empty()) {
            break;
        }
        assert!(
            begin.elapsed() < patience,
            "{} of {count} after {patience:?}: {:?}",
            done(),
            jobs.counts().await
        );
    }
    let took = begin.elapsed();
    drop(fleet);
    let mut times: HashMap<usize, u32> = HashMap::new();
    for line in fs::read_to_string(&file).unwrap().lines() {
        *times.entry(line.parse().unwrap()).or_default() += 1;
    }
    fs::remove_file(&file).unwrap();
    let in_files = (0..count).filter(|n| !n.is_multiple_of(IN_TRANSACTION));
    let missing = in_files.clone().filter(|n| !times.contains_key(n)).count();
    let duplicates: u32 = times.values().map(|n| n - 1).sum();
    let row = pool
        .query_one("SELECT count(*), count(DISTINCT number) FROM public.deed", &[])
        .await
        .unwrap();
    let (rows, distinct): (i64, i64) = (row.get(0), row.get(1));
    println!(
        "{count} jobs, {workers} processes, {kills} SIGKILLs, {restarts} hard restarts of PostgreSQL, {took:?}: {missing} \
         missing, {duplicates} twice; of those with their effect in the transaction {rows} rows for {distinct} jobs"
    );
    assert_eq!((missing, restarts), (0, 2));
    assert!(duplicates <= kills, "{duplicates} duplicates for {kills} kills");
    let expected = i64::try_from(count.div_ceil(IN_TRANSACTION)).unwrap();
    assert_eq!((rows, distinct), (expected, expected), "exactly once");
    let states = pool
        .query_one(
            "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FROM zhuji_jobs.finished",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        (states.get::<_, i64>(0), states.get::<_, i64>(1)),
        (count as i64, count as i64)
    );
}
