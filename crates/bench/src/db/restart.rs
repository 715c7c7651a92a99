//! PostgreSQL ends as in a crash while callers ask, and comes back.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_postgres::NoTls;
use zhuji_testkit::TestPostgres;

use super::contenders::Contender;
use crate::field::{Field, turns};
use crate::outage::Lived;
use crate::report::{Better, Row};
use crate::suite::{Options, Suite};

pub(super) const CASES: [&str; 2] = [
    "PostgreSQL hard restart: back to the first good query",
    "PostgreSQL hard restart: longest call",
];

const CALLERS: usize = 32;
const BACK_TARGET_MS: f64 = 300.0;
/// Ours' deadline for a connection, with a tenth for a timer on a busy machine.
const LONGEST_TARGET_MS: f64 = 3300.0;
/// Below this the measure is no longer one.
const LEAST_MS: f64 = 1.0;

pub(super) async fn measure(
    postgres: &TestPostgres,
    contenders: &[Contender],
    options: &Options,
    suite: &mut Suite,
) -> anyhow::Result<()> {
    // Longer than the deadline, when there is the time.
    let (rounds, away) = match options.quick {
        true => (1, Duration::from_millis(1500)),
        false => (3, Duration::from_millis(4000)),
    };
    let names = || contenders.iter().map(Contender::name);
    let (mut back, mut longest) = (Field::new(names()), Field::new(names()));
    let mut told = vec![String::new(); contenders.len()];
    for round in 0..rounds {
        for at in turns(round, contenders.len()) {
            let (lived, ready) = outage(postgres, &contenders[at], away)
                .await
                .with_context(|| contenders[at].name())?;
            let millis = |time: Duration| (time.as_secs_f64() * 1e3).max(LEAST_MS);
            // Nobody came back in time: as long as was waited.
            let after = lived.back_after(ready).unwrap_or(AFTERWARDS);
            back.add(at, millis(after));
            longest.add(at, millis(lived.longest));
            told[at] = lived.told();
        }
    }
    for (field, case, target) in [
        (back, CASES[0], BACK_TARGET_MS),
        (longest, CASES[1], LONGEST_TARGET_MS),
    ] {
        suite
            .rows
            .push(Row::against_target(case, "ms", Better::Less, target, field.of(0)));
        suite.rows.extend(field.rows(case, "ms", Better::Less, |_| None));
    }
    suite.note(format!(
        "Hard restart: {CALLERS} callers, 5 ms between the calls of each; PostgreSQL is stopped at once, away for {:.1} s, then\n\
         started; medians of {rounds}. Calls of the last round:",
        away.as_secs_f64()
    ));
    for (contender, told) in contenders.iter().zip(told) {
        suite.note(format!("  {}: {told}", contender.name()));
    }
    Ok(())
}

/// How long callers go on after the server is back.
const AFTERWARDS: Duration = Duration::from_secs(1);

async fn outage(
    postgres: &TestPostgres,
    contender: &Contender,
    away: Duration,
) -> anyhow::Result<(Lived, Instant)> {
    let callers = contender.callers(CALLERS);
    tokio::time::sleep(Duration::from_millis(500)).await;
    postgres.stop_immediate().await;
    tokio::time::sleep(away).await;
    let ready = tokio::spawn(accepts(postgres.url()));
    postgres.restart().await;
    let ready = ready.await?.context("the server did not come back")?;
    tokio::time::sleep_until((ready + AFTERWARDS).into()).await;
    Ok((callers.stop().await?, ready))
}

/// When the server accepts a connection again, by dialling it all the time.
async fn accepts(url: String) -> Option<Instant> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if tokio_postgres::connect(&url, NoTls).await.is_ok() {
            return Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}
