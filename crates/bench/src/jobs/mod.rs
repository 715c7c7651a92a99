//! The jobs against the queues one could take instead.

mod apalis;
mod contender;
mod graphile;
mod ours;
mod pg_boss;
mod prototype;
mod river;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use zhuji_testkit::{TestDatabase, TestPostgres};

use self::contender::{BATCH, Contender, Settings};
use self::graphile::Graphile;
use self::ours::{From, Ours};
use self::river::River;
use crate::callers::quantile;
use crate::field::{Field, turns};
use crate::report::{Better, Row};
use crate::suite::{Options, Suite, record_metrics};

const ENQUEUE: &str = "enqueue in batches of 1,000";
const WORK: &str = "claim and complete no-op jobs, one process";
const START: &str = "enqueue to start, idle queue";
const FINISHED: &str = "claim and complete";

const ENQUEUE_TARGET: f64 = 100_000.0;
const WORK_TARGET: f64 = 20_000.0;
const START_P50_TARGET_MS: f64 = 3.0;
const START_P99_TARGET_MS: f64 = 15.0;
/// Where the bare prototype does 59,000.
const OF_PROTOTYPE: f64 = 20.0 / 59.0;
const OF_GRAPHILE: f64 = 5.0;
const OF_OTHERS: f64 = 2.0;
const WITH_FINISHED: f64 = 0.9;

/// When a quick run on a busy machine begins no further round.
const LATE: Duration = Duration::from_secs(32);
const LATEST: Duration = Duration::from_secs(50);
/// Of the round that is not measured, and the least of those that are.
const WARM_UP_BATCHES: usize = 2;
/// From the start of a worker until it waits for work.
const WARM_UP: Duration = Duration::from_millis(700);

/// Runs the suite, prints its table and writes `jobs.json`.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut suite = Suite::begin("jobs", options)?;
    // Before the pool, which looks for the recorder when it is made.
    record_metrics()?;
    // As a server is run on which jobs must survive: nothing is given up for speed.
    let postgres = TestPostgres::options()
        .setting("fsync", "on")
        .setting("synchronous_commit", "on")
        .setting("full_page_writes", "on")
        .setting("shared_buffers", "256MB")
        .setting("max_wal_size", "4GB")
        .setting("checkpoint_timeout", "30min")
        .max_connections(200)
        .start()
        .await;
    promises(&postgres).await?;
    let (contenders, databases) = contenders(&postgres, &mut suite).await?;
    if options.wants(ENQUEUE) || options.wants(WORK) {
        throughput(&postgres, &contenders, options, &mut suite).await?;
    }
    if options.wants(START) {
        starts(&contenders, &databases, options, &mut suite).await?;
    }
    // Their connections go before their databases.
    drop(contenders);
    finished(&postgres, &databases, options, &mut suite).await?;
    suite.note(
        "One PostgreSQL server on loopback with fsync and synchronous_commit on; a database for each, VACUUM ANALYZE before the work.\n\
         From the start of a worker until all jobs are stored as done. Ours: pool 8, 1,000 jobs at once, metrics recorded. riverqueue:\n\
         1,000 workers; its least fetch cooldown is 1 ms. graphile_worker: local queue of 500, concurrency 8; `batched ends`: completions\n\
         within 5 ms go together. apalis: 500 fetched at once (default 10). pg-boss: 4 loops that fetch and complete 200. Enqueued by one\n\
         caller, batch after batch, with each one's call for many. Goals are for the peers' own settings; the faster ones are shown too.",
    );
    suite.end()
}

/// Ours first. A peer that can't be had is named and left out.
async fn contenders(
    postgres: &TestPostgres,
    suite: &mut Suite,
) -> anyhow::Result<(Vec<Box<dyn Contender>>, Vec<TestDatabase>)> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    let mut databases = Vec::new();
    let cache = suite.workspace.peers();
    for peer in [
        "ours",
        "bare SQL",
        "riverqueue",
        "riverqueue, fastest",
        "graphile_worker",
        "graphile_worker, fastest",
        "apalis-postgres",
        "pg-boss",
    ] {
        let database = postgres.database().await;
        let url = database.url();
        let connected: anyhow::Result<Box<dyn Contender>> = async {
            Ok(match peer {
                "ours" => Box::new(Ours::connect(&url, From::SameProcess).await?) as Box<dyn Contender>,
                "bare SQL" => Box::new(prototype::Prototype::connect(&url).await?),
                "riverqueue" => Box::new(River::connect(&url, Settings::Default).await?),
                "riverqueue, fastest" => Box::new(River::connect(&url, Settings::Fastest).await?),
                "graphile_worker" => Box::new(Graphile::connect(&url, Settings::Default).await?),
                "graphile_worker, fastest" => Box::new(Graphile::connect(&url, Settings::Fastest).await?),
                "apalis-postgres" => Box::new(apalis::Apalis::connect(&url).await?),
                _ => Box::new(pg_boss::PgBoss::connect(&url, &cache).await?),
            })
        }
        .await;
        match connected {
            Ok(contender) => contenders.push(contender),
            Err(error) if contenders.is_empty() => return Err(error.context(peer)),
            Err(error) => suite.note(format!("LEFT OUT: {peer}: {error:#}")),
        }
        databases.push(database);
    }
    Ok((contenders, databases))
}

async fn throughput(
    postgres: &TestPostgres,
    contenders: &[Box<dyn Contender>],
    options: &Options,
    suite: &mut Suite,
) -> anyhow::Result<()> {
    let names: Vec<String> = contenders.iter().map(|one| one.name()).collect();
    let (mut enqueued, mut worked) = (Field::new(names.clone()), Field::new(names.clone()));
    let mut out = vec![false; contenders.len()];
    // Of whoever enqueues or works, so that a cell takes about as long for everyone.
    let mut batches = vec![WARM_UP_BATCHES; contenders.len()];
    let cell = if options.quick { 0.4 } else { 2.0 };
    for round in 0..=options.rounds() {
        if round > 1 && suite.is_late(LATE) {
            suite.note(format!(
                "Throughput: {} rounds only, for want of time.",
                round - 1
            ));
            break;
        }
        for at in turns(round, contenders.len()) {
            let contender = &contenders[at];
            if out[at] {
                continue;
            }
            match one_round(postgres, contender.as_ref(), batches[at]).await {
                Ok((enqueue, work)) => {
                    let jobs = (batches[at] * BATCH) as f64;
                    if round == 0 {
                        let one = (enqueue + work).as_secs_f64() / batches[at] as f64;
                        batches[at] = ((2.0 * cell / one) as usize).max(WARM_UP_BATCHES);
                        continue;
                    }
                    enqueued.add(at, jobs / enqueue.as_secs_f64());
                    worked.add(at, jobs / work.as_secs_f64());
                }
                Err(error) if at == 0 => return Err(error.context("ours")),
                Err(error) => {
                    out[at] = true;
                    suite.note(format!("LEFT OUT from here on: {}: {error:#}", names[at]));
                }
            }
        }
    }
    if options.wants(ENQUEUE) {
        let target = Row::against_target(ENQUEUE, "jobs/s", Better::More, ENQUEUE_TARGET, enqueued.of(0));
        suite.rows.push(target);
        suite
            .rows
            .extend(enqueued.rows(ENQUEUE, "jobs/s", Better::More, |_| None));
    }
    if options.wants(WORK) {
        let target = Row::against_target(WORK, "jobs/s", Better::More, WORK_TARGET, worked.of(0));
        suite.rows.push(target);
        let goal = |peer: &str| match peer {
            _ if peer.starts_with("bare SQL") => Some(OF_PROTOTYPE),
            _ if peer.ends_with("local queue") => Some(OF_GRAPHILE),
            _ if peer.ends_with("cooldown 100ms") || peer.starts_with("pg-boss") => Some(OF_OTHERS),
            _ => None,
        };
        suite.rows.extend(worked.rows(WORK, "jobs/s", Better::More, goal));
    }
    Ok(())
}

/// How long it took to enqueue so many batches, and to do the jobs.
async fn one_round(
    postgres: &TestPostgres,
    contender: &dyn Contender,
    batches: usize,
) -> anyhow::Result<(Duration, Duration)> {
    contender.clear().await?;
    checkpoint(postgres).await?;
    let begin = Instant::now();
    contender.enqueue(batches).await.context("enqueue")?;
    let enqueue = begin.elapsed();
    contender.settle().await?;
    let work = contender.work(batches * BATCH).await.context("work")?;
    Ok((enqueue, work))
}

/// Nobody pays for what another has written.
async fn checkpoint(postgres: &TestPostgres) -> anyhow::Result<()> {
    administrator(postgres).await?.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// The server keeps what it commits, or every figure here is worth nothing.
async fn promises(postgres: &TestPostgres) -> anyhow::Result<()> {
    let client = administrator(postgres).await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let row = client
            .query_one("SELECT current_setting($1)", &[&setting])
            .await?;
        let value: &str = row.get(0);
        ensure!(value == "on", "{setting} is {value}");
    }
    Ok(())
}

async fn administrator(postgres: &TestPostgres) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn starts(
    contenders: &[Box<dyn Contender>],
    databases: &[TestDatabase],
    options: &Options,
    suite: &mut Suite,
) -> anyhow::Result<()> {
    let own = databases.first().context("ours has one")?;
    let other = Ours::connect(&own.url(), From::AnotherProcess).await?;
    let mut all: Vec<&dyn Contender> = contenders.iter().map(AsRef::as_ref).collect();
    all.insert(1, &other);
    // One after another, each with the server to itself: the queue is idle.
    let (rounds, duration) = match options.quick {
        true => (1, Duration::from_millis(1500)),
        false => (3, Duration::from_secs(4)),
    };
    for contender in contenders {
        contender.clear().await?;
    }
    let mut measured: Vec<(String, Vec<Duration>)> = all.iter().map(|one| (one.name(), Vec::new())).collect();
    let mut out = vec![false; all.len()];
    for round in 0..rounds {
        for at in turns(round, all.len()) {
            if out[at] {
                continue;
            }
            match all[at].starts(duration).await {
                Ok(starts) => measured[at].1.extend(starts),
                Err(error) if at < 2 => return Err(error.context("ours")),
                Err(error) => {
                    out[at] = true;
                    suite.note(format!("LEFT OUT of `{START}`: {}: {error:#}", measured[at].0));
                }
            }
        }
    }
    measured.retain(|(_, starts)| !starts.is_empty());
    for (share, what, target) in [
        (0.5, "p50", START_P50_TARGET_MS),
        (0.99, "p99", START_P99_TARGET_MS),
    ] {
        let mut field = Field::new(measured.iter().map(|(name, _)| name.clone()));
        for (at, (_, starts)) in measured.iter_mut().enumerate() {
            starts.sort_unstable();
            field.add(at, quantile(starts, share).as_secs_f64() * 1e3);
        }
        let case = format!("{START}: {what}");
        suite.rows.push(Row::against_target(
            &case,
            "ms",
            Better::Less,
            target,
            field.of(0),
        ));
        let case = format!("{START} from another process: {what}");
        suite.rows.push(Row::against_target(
            &case,
            "ms",
            Better::Less,
            target,
            field.of(1),
        ));
        // The peers are told of their jobs from outside, as ours from another process.
        let names = measured[1..].iter().map(|(name, _)| name.clone());
        let mut against = Field::new(names);
        for at in 1..measured.len() {
            against.add(at - 1, field.of(at)[0]);
        }
        suite
            .rows
            .extend(against.rows(&case, "ms", Better::Less, |_| None));
    }
    let counts: Vec<String> = measured
        .iter()
        .map(|(name, starts)| format!("{} {}", starts.len(), name))
        .collect();
    suite.note(format!(
        "Enqueue to start: from the call to the handler's first line, one job at a time, 20–60 ms after the last; samples: {}.",
        counts.join(", ")
    ));
    Ok(())
}

/// Many jobs that are done must not slow down those that are not.
async fn finished(
    postgres: &TestPostgres,
    databases: &[TestDatabase],
    options: &Options,
    suite: &mut Suite,
) -> anyhow::Result<()> {
    let done: usize = if options.quick { 100_000 } else { 1_000_000 };
    let case = format!("{FINISHED} beside {done} jobs that are done");
    if !options.wants(&case) {
        return Ok(());
    }
    let own = databases.first().context("ours has one")?;
    let none = Ours::connect(&own.url(), From::SameProcess).await?;
    let database = postgres.database().await;
    let many = Ours::connect(&database.url(), From::SameProcess).await?;
    many.enqueue(1).await?;
    many.work(BATCH).await?;
    many.multiply_done(done / BATCH).await?;
    let batches = if options.quick { 8 } else { 30 };
    let mut field = Field::new(["ours".to_owned(), "ours, none done".to_owned()]);
    for round in 0..options.rounds() {
        if round > 0 && suite.is_late(LATEST) {
            suite.note(format!(
                "Beside done jobs: {round} rounds only, for want of time."
            ));
            break;
        }
        for at in turns(round, 2) {
            let contender = if at == 0 { &many } else { &none };
            if at == 1 {
                contender.clear().await?;
            }
            checkpoint(postgres).await?;
            contender.enqueue(batches).await?;
            contender.settle().await?;
            let work = contender.work(batches * BATCH).await?;
            field.add(at, (batches * BATCH) as f64 / work.as_secs_f64());
        }
    }
    let goal = |_: &str| Some(WITH_FINISHED);
    suite.rows.extend(field.rows(&case, "jobs/s", Better::More, goal));
    Ok(())
}

async fn postgres_pool(url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(10).connect(url).await?)
}

async fn exists(pool: &PgPool, sql: &'static str) -> anyhow::Result<bool> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
