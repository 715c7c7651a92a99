//! Hits in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zhuji_cache::{Cache, CacheConfig, CacheFactory};

use super::{KEYS, MOKA, SIZE};
use crate::report::{Better, Row};
use crate::rounds::{Samples, Side, order};
use crate::suite::{Options, Suite};

const GOAL: f64 = 0.8;
const TTL: Duration = Duration::from_secs(600);
const CAPACITY: u64 = 64 << 20;

/// What a module might keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    id: u64,
    title: String,
    year: u16,
    included: bool,
}

impl Record {
    fn new(id: u64) -> Self {
        Self {
            id,
            title: "Lead and iron in the water of old pipes: a systematic review of trials".to_owned(),
            year: 2024,
            included: true,
        }
    }
}

type Moka<V> = moka::future::Cache<String, V>;

/// A cache that has the value of every key.
trait Hits: Clone + Send + Sync + 'static {
    /// Whether the right thing was there.
    fn hit(&self, key: &str) -> impl Future<Output = bool> + Send;
}

#[derive(Clone)]
struct OurBytes(Cache);

impl Hits for OurBytes {
    async fn hit(&self, key: &str) -> bool {
        matches!(self.0.get_bytes(key).await, Ok(Some(value)) if value.len() == SIZE)
    }
}

#[derive(Clone)]
struct TheirBytes(Moka<Bytes>);

impl Hits for TheirBytes {
    async fn hit(&self, key: &str) -> bool {
        self.0.get(key).await.is_some_and(|value| value.len() == SIZE)
    }
}

#[derive(Clone)]
struct OurStruct(Cache);

impl Hits for OurStruct {
    async fn hit(&self, key: &str) -> bool {
        matches!(self.0.get::<Record>(key).await, Ok(Some(record)) if record.year == 2024)
    }
}

#[derive(Clone)]
struct OurShared(Cache);

impl Hits for OurShared {
    async fn hit(&self, key: &str) -> bool {
        matches!(self.0.get_shared::<Record>(key).await, Ok(Some(record)) if record.year == 2024)
    }
}

#[derive(Clone)]
struct TheirStruct(Moka<Arc<Record>>);

impl Hits for TheirStruct {
    async fn hit(&self, key: &str) -> bool {
        self.0.get(key).await.is_some_and(|record| record.year == 2024)
    }
}

type Keys = Arc<[String]>;

fn keys(prefix: &str) -> Keys {
    (0..KEYS).map(|n| format!("{prefix}{n}")).collect()
}

pub(super) async fn measure(options: &Options, suite: &mut Suite) -> anyhow::Result<()> {
    let config = CacheConfig {
        kind: Some("memory".to_owned()),
        ..CacheConfig::default()
    };
    let ours = CacheFactory::new().build(&config).await?;
    let module = ours.scoped("asl");
    let bytes: Moka<Bytes> = Moka::builder()
        .max_capacity(CAPACITY)
        .weigher(|key: &String, value: &Bytes| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
        .time_to_live(TTL)
        .build();
    let structs: Moka<Arc<Record>> = Moka::builder().max_capacity(CAPACITY).time_to_live(TTL).build();
    let (plain, full, records) = (keys("literature:"), keys("asl:literature:"), keys("record:"));
    let value = vec![b'x'; SIZE];
    for n in 0..KEYS {
        ours.set_bytes(&plain[n], &value, TTL).await?;
        module.set_bytes(&plain[n], &value, TTL).await?;
        bytes.insert(plain[n].clone(), value.clone().into()).await;
        bytes.insert(full[n].clone(), value.clone().into()).await;
        let record = Record::new(n as u64);
        ours.set(&records[n], &record, TTL).await?;
        structs.insert(records[n].clone(), record.into()).await;
    }
    let mut pairs = Pairs { options, suite };
    for threads in [1, 2] {
        let peer = (TheirBytes(bytes.clone()), &plain);
        pairs
            .measure("bytes", threads, (OurBytes(ours.clone()), &plain), peer)
            .await?;
        let peer = (TheirBytes(bytes.clone()), &full);
        let own = (OurBytes(module.clone()), &plain);
        pairs
            .measure("bytes through a module's handle", threads, own, peer)
            .await?;
        let peer = (TheirStruct(structs.clone()), &records);
        let own = (OurShared(ours.clone()), &records);
        pairs
            .measure("struct, shared", threads, own, peer.clone())
            .await?;
        let own = (OurStruct(ours.clone()), &records);
        pairs.measure("struct, a copy", threads, own, peer).await?;
    }
    Ok(())
}

struct Pairs<'a> {
    options: &'a Options,
    suite: &'a mut Suite,
}

impl Pairs<'_> {
    async fn measure(
        &mut self,
        what: &str,
        threads: usize,
        ours: (impl Hits, &Keys),
        theirs: (impl Hits, &Keys),
    ) -> anyhow::Result<()> {
        let plural = if threads == 1 { "" } else { "s" };
        let case = format!("memory hit, {what}, {threads} thread{plural}");
        if !self.options.wants(&case) {
            return Ok(());
        }
        let count = if self.options.quick { 100_000 } else { 300_000 };
        let mut samples = Samples::default();
        for round in 0..=self.options.short_rounds() {
            for side in order(round) {
                let nanos = match side {
                    Side::Ours => hits(&ours.0, ours.1, threads, count).await,
                    Side::Theirs => hits(&theirs.0, theirs.1, threads, count).await,
                }
                .with_context(|| case.clone())?;
                // The first round warms up.
                if round > 0 {
                    samples.add(side, nanos);
                }
            }
        }
        let row = Row::against_peer(case, "ns", Better::Less, MOKA, &samples);
        self.suite.rows.push(row.goal(GOAL));
        Ok(())
    }
}

/// Nanoseconds that one get takes, on so many threads at once.
async fn hits(cache: &impl Hits, keys: &Keys, threads: usize, count: usize) -> anyhow::Result<f64> {
    let tasks: Vec<_> = (0..threads)
        .map(|_| {
            let (cache, keys) = (cache.clone(), keys.clone());
            tokio::spawn(async move {
                let begin = Instant::now();
                let mut found = 0;
                for key in keys.iter().cycle().take(count) {
                    found += usize::from(cache.hit(key).await);
                }
                (found, begin.elapsed())
            })
        })
        .collect();
    let mut nanos = 0.0;
    for task in tasks {
        let (found, elapsed) = task.await?;
        ensure!(found == count, "{} of {count} gets were misses", count - found);
        nanos += elapsed.as_secs_f64() * 1e9 / count as f64;
    }
    Ok(nanos / threads as f64)
}
