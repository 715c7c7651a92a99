//! Fleets of real processes on a server that is too small for what each of them was told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zhuji_db_pool::{DbConfig, DbPool};
use zhuji_health::Outcome;
use zhuji_testkit::{TestDatabase, TestPostgres};

use crate::eventually;

const CHILD_URL: &str = "ZHUJI_TEST_POOL_CHILD";
/// Each believes that it is alone: the plan for one instance and its successor.
const MAX_CONNECTIONS: u32 = 60;

/// One instance of the service, in a process of its own. Ends in order when its input ends.
#[test]
fn child_instance() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = DbConfig {
            // For a machine that runs other tests as well: a caller may wait, but not be refused.
            acquire_timeout: Duration::from_secs(15),
            ..DbConfig::new(&url)
        };
        // As the platform does at its start.
        let pool = loop {
            match DbPool::connect(&config).await {
                Ok(pool) => break pool,
                Err(error) => println!("start {error}"),
            }
        };
        pool.follow_instances_every(Duration::from_millis(250), Duration::from_millis(500));
        let stop = Arc::new(AtomicBool::new(false));
        let good = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (pool, stop, good) = (pool.clone(), Arc::clone(&stop), Arc::clone(&good));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        match pool.query("SELECT pg_sleep(0.02)", &[]).await {
                            Ok(_) => drop(good.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => println!("failed {:?} {error}", error.kind()),
                        }
                    }
                })
            })
            .collect();
        println!("ready");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
        ended.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
        assert!(pool.drain(Duration::from_secs(5)).await.is_clean());
        println!("good {}", good.load(Ordering::Relaxed));
    });
}

struct Instance(Child);

impl Instance {
    fn start(url: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("a test has a path"))
            .args(["--exact", "adaptive::child_instance", "--nocapture"])
            .env(CHILD_URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it is this program");
        Self(child)
    }

    /// Ends it as a deployment does, and returns what its callers met.
    fn end(mut self) -> (u64, Vec<String>) {
        let mut input = self.0.stdin.take().expect("piped");
        let _ = input.flush();
        drop(input);
        let output = BufReader::new(self.0.stdout.take().expect("piped"));
        let (mut good, mut failed) = (0, Vec::new());
        for line in output.lines().map_while(Result::ok) {
            if let Some(count) = line.strip_prefix("good ") {
                good = count.parse().expect("a number");
            } else if line.starts_with("failed") || line.starts_with("start") {
                failed.push(line);
            }
        }
        assert!(self.0.wait().expect("it was started").success());
        (good, failed)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database of a user whom the server's reserve is not for.
async fn server(max_connections: u32) -> (TestDatabase, String) {
    let server = TestPostgres::options()
        .max_connections(max_connections)
        .start()
        .await;
    let database = server.database().await;
    let name = database.name();
    database
        .execute(&format!(
            "CREATE ROLE app LOGIN; GRANT ALL ON DATABASE {name} TO app"
        ))
        .await;
    let url = database.url().replace("zhuji:", "app:");
    (database, url)
}

/// Connections of the service's user, and how many instances they belong to.
async fn fleet(watch: &DbPool) -> (i64, i64) {
    let sql = "SELECT count(*), count(DISTINCT split_part(application_name, '/', 2)) FROM pg_stat_activity \
               WHERE usename = 'app'";
    let row = watch.query_one(sql, &[]).await.expect("the test server answers");
    (row.get(0), row.get(1))
}

async fn settles(watch: &DbPool, instances: i64, budget: i64) {
    let deadline = Instant::now() + Duration::from_secs(45);
    // A few looks in a row, because one may be luck.
    let mut calm = 0;
    let mut last = (0, 0);
    while calm < 5 {
        assert!(
            Instant::now() < deadline,
            "{instances} instances do not settle: {last:?} of {budget}"
        );
        last = fleet(watch).await;
        calm = if last.1 == instances && last.0 <= budget {
            calm + 1
        } else {
            0
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("{instances} instances hold {} connections of {budget}", last.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_outgrows_its_plan_stays_within_the_servers_budget() {
    let (database, url) = server(MAX_CONNECTIONS).await;
    let watch = crate::pool(&database, 1).await;
    let first = Instance::start(&url);
    settles(&watch, 1, 36).await;
    let plan = DbPool::connect(&DbConfig::new(&url))
        .await
        .unwrap()
        .plan()
        .unwrap();
    // Twelve of these would ask for 204 connections where the server has 57.
    assert_eq!((plan.size, plan.budget), (17, 36));

    let mut running = vec![first];
    running.extend((1..12).map(|_| Instance::start(&url)));
    settles(&watch, 12, 36).await;
    // A rolling deployment: four new ones come up before four old ones go.
    running.extend((0..4).map(|_| Instance::start(&url)));
    settles(&watch, 16, 36).await;
    let end = |instances: Vec<Instance>| async move {
        tokio::task::spawn_blocking(|| instances.into_iter().map(Instance::end).collect::<Vec<_>>())
            .await
            .unwrap()
    };
    let mut met = end(running.drain(..4).collect()).await;
    settles(&watch, 12, 36).await;
    met.extend(end(running.drain(..9).collect()).await);
    settles(&watch, 3, 36).await;
    eventually("those who are left take what became free, slowly", async || {
        fleet(&watch).await.0 >= 15
    })
    .await;
    met.extend(end(running).await);

    let good: u64 = met.iter().map(|(good, _)| good).sum();
    let failed: Vec<_> = met.iter().flat_map(|(_, failed)| failed).collect();
    eprintln!(
        "{good} statements by {} instances, {} failed",
        met.len(),
        failed.len()
    );
    assert_eq!(met.len(), 16);
    assert!(met.iter().all(|(good, _)| *good > 0));
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn a_server_without_a_free_connection_degrades_the_pool_and_nobody_fails() {
    let (database, url) = server(13).await;
    let config = DbConfig {
        pool_size: Some(10),
        min_idle: 0,
        ..DbConfig::new(&url)
    };
    let pool = DbPool::connect(&config).await.unwrap();
    pool.follow_instances_every(Duration::from_millis(50), Duration::from_millis(50));
    // Somebody else takes six of ten.
    let others = crate::pool(&TestDatabase::new().await, 1).await;
    drop(others);
    let rivals = DbPool::connect(&DbConfig {
        application_name: "another".to_owned(),
        adaptive: false,
        ..config.clone()
    })
    .await
    .unwrap();
    let held = futures_util::future::join_all((0..6).map(|_| rivals.get())).await;
    assert!(held.iter().all(Result::is_ok));
    let work = (0..10).map(|_| pool.query("SELECT pg_sleep(0.1)", &[]));
    let done = futures_util::future::join_all(work).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert!(pool.status().max <= 5, "{:?}", pool.status());
    assert_eq!(
        pool.health_check().run().await,
        Outcome::degraded("too many connections"),
        "which leaves readiness as it is"
    );
    let before = pool.status().max;
    drop(held);
    rivals.drain(Duration::from_secs(5)).await;
    eventually("the pool grows again, by one at a time", async || {
        pool.status().max > before
    })
    .await;
    drop(database);
}

#[tokio::test]
async fn connections_say_whose_they_are() {
    let database = TestDatabase::new().await;
    let pool = crate::pool(&database, 2).await;
    let _listener = pool.listen(&["x"]).await.unwrap();
    let sql = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() ORDER BY 1";
    let rows = pool.query(sql, &[]).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let instance = names[0].split('/').nth(1).unwrap();
    assert_eq!(instance.len(), 8);
    assert_eq!(
        names,
        [
            format!("zhuji/{instance}/listen"),
            format!("zhuji/{instance}/main"),
            format!("zhuji/{instance}/main"),
        ]
    );
}
