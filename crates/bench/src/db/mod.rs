//! The pool against deadpool, sqlx and bb8.

mod contenders;
mod restart;

use std::time::Duration;

use zhuji_testkit::TestPostgres;

use self::contenders::{Contender, DEADPOOL};
use crate::callers;
use crate::field::{Field, turns};
use crate::report::{Better, Row};
use crate::suite::{Options, Suite, record_metrics};

/// Connections of each pool.
const POOL: usize = 8;
const CALLERS: [usize; 3] = [1, 32, 256];

const OF_DEADPOOL: f64 = 0.95;
const OF_OTHERS: f64 = 1.5;
const WORST_WAIT: f64 = 3.0;

/// Runs the suite, prints its table and writes `db.json`.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut suite = Suite::begin("db", options)?;
    // Before the pool, which looks for the recorder when it is made.
    record_metrics()?;
    let postgres = TestPostgres::start_own().await;
    let contenders = contenders::all(&postgres.url()).await?;
    select(&contenders, options, &mut suite).await?;
    if restart::CASES.iter().any(|case| options.wants(case)) {
        restart::measure(&postgres, &contenders, options, &mut suite).await?;
    }
    suite.note(format!(
        "Pools of {POOL} connections to one PostgreSQL server on loopback, each with its defaults; ours with metrics recorded.\n\
         Prepared statements: ours, deadpool and sqlx from the pool's cache; bb8 has none and sends an unnamed statement in one\n\
         round trip. sqlx and bb8 test a connection at each checkout, which is their default."
    ));
    suite.end()
}

fn case(callers: usize) -> String {
    match callers {
        1 => format!("SELECT 1, 1 caller, pool {POOL}"),
        _ => format!("SELECT 1, {callers} callers, pool {POOL}"),
    }
}

async fn select(contenders: &[Contender], options: &Options, suite: &mut Suite) -> anyhow::Result<()> {
    let worst_wait = format!("longest wait, {} callers", CALLERS[2]);
    let cell = Duration::from_millis(if options.quick { 170 } else { 500 });
    let mut worst = Field::new(contenders.iter().map(Contender::name));
    for callers in CALLERS {
        let last = callers == CALLERS[2];
        if !options.wants(&case(callers)) && !(last && options.wants(&worst_wait)) {
            continue;
        }
        let mut rate = Field::new(contenders.iter().map(Contender::name));
        for round in 0..=options.short_rounds() {
            for at in turns(round, contenders.len()) {
                // The first round warms up: connections, statements, the allocator.
                let cell = if round == 0 { cell / 2 } else { cell };
                let calls = contenders[at].select(callers, cell).await?;
                if round > 0 {
                    rate.add(at, calls.per_second());
                    if last {
                        worst.add(at, times_median(&calls));
                    }
                }
            }
        }
        suite
            .rows
            .extend(rate.rows(&case(callers), "req/s", Better::More, |peer| {
                match (peer == DEADPOOL, callers) {
                    (true, _) => Some(OF_DEADPOOL),
                    (false, 1) => None,
                    (false, _) => Some(OF_OTHERS),
                }
            }));
    }
    if !worst.of(0).is_empty() {
        suite.rows.push(Row::against_target(
            &worst_wait,
            "× p50",
            Better::Less,
            WORST_WAIT,
            worst.of(0),
        ));
        suite
            .rows
            .extend(worst.rows(&worst_wait, "× p50", Better::Less, |_| None));
    }
    Ok(())
}

/// The longest call, as so many times the median one.
fn times_median(calls: &callers::Calls) -> f64 {
    calls.longest().as_secs_f64() / calls.quantile(0.5).as_secs_f64()
}
