//! The cache against moka and two ways of talking to Redis.

mod load;
mod memory;
mod outage;
mod server;

use zhuji_testkit::TestRedis;

use crate::suite::{Options, Suite, record_metrics};

/// What is cached: so many bytes.
const SIZE: usize = 128;
/// Under so many keys, all of them there.
const KEYS: usize = 1000;

const MOKA: &str = "moka 0.12 (future)";
const MANAGER: &str = "redis 1.8 ConnectionManager";
const DEADPOOL: &str = "deadpool-redis 0.23, pool 8";

/// Runs the suite, prints its table and writes `cache.json`.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut suite = Suite::begin("cache", options)?;
    // Before the cache, which looks for the recorder when it is made.
    record_metrics()?;
    let redis = TestRedis::start().await;
    memory::measure(options, &mut suite).await?;
    load::measure(&redis, options, &mut suite).await?;
    server::measure(&redis, options, &mut suite).await?;
    if outage::CASES.iter().any(|case| options.wants(case)) {
        outage::measure(&redis, options, &mut suite).await?;
    }
    suite.note(format!(
        "{KEYS} keys, values of {SIZE} bytes. Bytes: both sides hand out a `Bytes` that shares the stored memory; ours has taken a\n\
         format byte off it, and has stored it with an end of its own. Struct: the peer keeps it and clones an Arc, and so does\n\
         ours when it is shared (`get_shared`); for a copy of its own (`get`) ours reads it from its JSON at each hit. Redis: one server on loopback; ours and ConnectionManager use one multiplexed\n\
         connection each. Ours with timeout, breaker, statistics and metrics."
    ));
    suite.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::is_in;

    #[test]
    fn the_names_have_the_versions() {
        for (name, package) in [(MOKA, "moka"), (MANAGER, "redis"), (DEADPOOL, "deadpool-redis")] {
            assert!(is_in(name, package), "{name}");
        }
    }
}
