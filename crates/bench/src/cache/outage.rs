//! Redis is killed while callers ask, and comes back empty.

use std::time::{Duration, Instant};

use zhuji_testkit::TestRedis;

use super::server::Contender;
use crate::field::Field;
use crate::outage::Callers;
use crate::report::{Better, Row};
use crate::suite::{Options, Suite};

pub(super) const CASES: [&str; 3] = [
    "Redis killed for 3 s: longest call",
    "Redis killed for 3 s: longest call with a loader",
    "Redis killed for 3 s: back to the first good answer",
];

const CALLERS: usize = 32;
/// The contender that has one, behind ours and the peers.
const LOADING: usize = 3;
const AWAY: Duration = Duration::from_secs(3);
const AFTERWARDS: Duration = Duration::from_millis(1200);
/// Ours' timeout of 100 ms, with a tenth for a timer on a busy machine; with a loader before the load and after it.
const LONGEST_MS: f64 = 110.0;
const LONGEST_LOADING_MS: f64 = 220.0;

pub(super) async fn measure(redis: &TestRedis, options: &Options, suite: &mut Suite) -> anyhow::Result<()> {
    let ours = Contender::ours(redis).await?;
    // A breaker of its own, so that neither tells the other that the server is away.
    let loading = Contender::OursLoading(Contender::ours(redis).await?);
    let contenders = [
        Contender::Ours(ours),
        Contender::manager(redis).await?,
        Contender::deadpool(redis)?,
        loading,
    ];
    // The last is no peer.
    let names = || contenders[..LOADING].iter().map(Contender::name);
    let (mut longest, mut back) = (Field::new(names()), Field::new(names()));
    let (mut longest_loading, mut told) = (Vec::new(), Vec::new());
    for _ in 0..if options.quick { 2 } else { 5 } {
        // All at once: one outage for everyone, and each asks too little to be in the others' way.
        let callers: Vec<Callers> = contenders.iter().map(|one| one.callers(CALLERS)).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.stop().await;
        tokio::time::sleep(AWAY).await;
        redis.restart().await;
        let ready = Instant::now();
        tokio::time::sleep(AFTERWARDS).await;
        told.clear();
        for (at, callers) in callers.into_iter().enumerate() {
            let lived = callers.stop().await?;
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            if at == LOADING {
                longest_loading.push(millis(lived.longest));
            } else {
                longest.add(at, millis(lived.longest));
                back.add(at, millis(lived.back_after(ready).unwrap_or(AFTERWARDS)));
            }
            told.push(format!("  {}: {}", contenders[at].name(), lived.told()));
        }
    }
    suite.rows.push(Row::against_target(
        CASES[0],
        "ms",
        Better::Less,
        LONGEST_MS,
        longest.of(0),
    ));
    suite
        .rows
        .extend(longest.rows(CASES[0], "ms", Better::Less, |_| None));
    suite.rows.push(Row::against_target(
        CASES[1],
        "ms",
        Better::Less,
        LONGEST_LOADING_MS,
        &longest_loading,
    ));
    suite
        .rows
        .extend(back.rows(CASES[2], "ms", Better::Less, |_| None));
    suite.note(format!(
        "Redis killed: {CALLERS} callers each, 5 ms between the calls of each, all contenders in the same outage. Calls of the last:"
    ));
    for told in told {
        suite.note(told);
    }
    Ok(())
}
