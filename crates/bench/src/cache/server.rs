//! GET from Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use zhuji_cache::{Cache, CacheConfig, CacheFactory};
use zhuji_testkit::TestRedis;

use super::{DEADPOOL, KEYS, MANAGER, SIZE};
use crate::callers::{Calls, call};
use crate::field::{Field, turns};
use crate::outage::{Callers, Failure};
use crate::report::Better;
use crate::suite::{Options, Suite};

const CALLERS: [usize; 3] = [1, 32, 256];
const OF_MANAGER: f64 = 0.9;
const OF_DEADPOOL: f64 = 3.0;
const POOL: usize = 8;
const TTL: Duration = Duration::from_secs(3600);

/// A client of the server.
#[derive(Clone)]
pub(super) enum Contender {
    Ours(Cache),
    /// With a loader, so that it has an answer whatever happens.
    OursLoading(Cache),
    Manager(ConnectionManager),
    Deadpool(deadpool_redis::Pool),
}

impl Contender {
    pub(super) async fn ours(redis: &TestRedis) -> anyhow::Result<Cache> {
        let config = CacheConfig {
            kind: Some("redis".to_owned()),
            redis_url: Some(redis.url().into()),
            ..CacheConfig::default()
        };
        Ok(CacheFactory::new().build(&config).await?)
    }

    pub(super) async fn manager(redis: &TestRedis) -> anyhow::Result<Self> {
        let client = redis::Client::open(redis.url())?;
        Ok(Self::Manager(client.get_connection_manager().await?))
    }

    pub(super) fn deadpool(redis: &TestRedis) -> anyhow::Result<Self> {
        let pool = deadpool_redis::Config::from_url(redis.url())
            .builder()?
            .max_size(POOL)
            .runtime(deadpool_redis::Runtime::Tokio1)
            .build()?;
        Ok(Self::Deadpool(pool))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::OursLoading(_) => "ours with a loader",
            Self::Manager(_) => MANAGER,
            Self::Deadpool(_) => DEADPOOL,
        }
    }

    async fn get(self, key: Key) -> Result<(), Failure> {
        match self {
            Self::Ours(cache) => match cache.get_bytes(&key.ours()).await {
                Ok(value) => check(value.as_deref()),
                Err(error) => Err(format!("{:?}", error.kind())),
            },
            Self::OursLoading(cache) => {
                let load = async || Ok::<_, std::convert::Infallible>(vec![b'x'; SIZE]);
                match cache.get_or_load(&key.loading(), TTL, load).await {
                    Ok(value) => check(Some(&value)),
                    Err(_) => Err("a load that cannot fail".to_owned()),
                }
            }
            Self::Manager(mut manager) => told(manager.get(key.theirs()).await),
            Self::Deadpool(pool) => {
                let mut connection = pool.get().await.map_err(|_| "no connection".to_owned())?;
                told(connection.get(key.theirs()).await)
            }
        }
    }

    async fn get_any(self) -> Result<(), Failure> {
        self.get(Key::any()).await
    }

    async fn calls(&self, callers: usize, duration: Duration) -> anyhow::Result<Calls> {
        let this = self.clone();
        let calls = call(callers, duration, move || this.clone().get_any()).await;
        calls.with_context(|| format!("{}, {callers} callers", self.name()))
    }

    /// So many callers that go on whatever happens.
    pub(super) fn callers(&self, count: usize) -> Callers {
        let this = self.clone();
        Callers::start(count, move || this.clone().get_any())
    }
}

/// One of the keys, in turn.
#[derive(Clone, Copy)]
struct Key(usize);

impl Key {
    fn any() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed) % KEYS)
    }

    fn ours(self) -> String {
        format!("ours:{}", self.0)
    }

    fn theirs(self) -> String {
        format!("them:{}", self.0)
    }

    fn loading(self) -> String {
        format!("load:{}", self.0)
    }
}

fn told(got: redis::RedisResult<Option<Vec<u8>>>) -> Result<(), Failure> {
    match got {
        Ok(value) => check(value.as_deref()),
        Err(error) if error.is_timeout() => Err("timeout".to_owned()),
        Err(_) => Err("cut off or refused".to_owned()),
    }
}

/// A restarted server is empty; any other value than the stored one is wrong.
fn check(value: Option<&[u8]>) -> Result<(), Failure> {
    match value {
        Some(value) if value.len() != SIZE => Err(format!("{} bytes", value.len())),
        _ => Ok(()),
    }
}

pub(super) async fn measure(redis: &TestRedis, options: &Options, suite: &mut Suite) -> anyhow::Result<()> {
    let case = |callers: usize| {
        let plural = if callers == 1 { "" } else { "s" };
        format!("Redis GET of {SIZE} bytes, {callers} caller{plural}")
    };
    if !CALLERS.iter().any(|callers| options.wants(&case(*callers))) {
        return Ok(());
    }
    let ours = Contender::ours(redis).await?;
    let contenders = Arc::new([
        Contender::Ours(ours.clone()),
        Contender::manager(redis).await?,
        Contender::deadpool(redis)?,
    ]);
    let mut connection = redis::Client::open(redis.url())?
        .get_multiplexed_async_connection()
        .await?;
    let value = vec![b'x'; SIZE];
    for key in (0..KEYS).map(Key) {
        ours.set_bytes(&key.ours(), &value, TTL).await?;
        connection.set::<_, _, ()>(key.theirs(), &value).await?;
    }
    let cell = Duration::from_millis(if options.quick { 170 } else { 500 });
    for callers in CALLERS
        .into_iter()
        .filter(|callers| options.wants(&case(*callers)))
    {
        let mut rate = Field::new(contenders.iter().map(Contender::name));
        for round in 0..=options.short_rounds() {
            for at in turns(round, contenders.len()) {
                let cell = if round == 0 { cell / 2 } else { cell };
                let calls = contenders[at].calls(callers, cell).await?;
                if round > 0 {
                    rate.add(at, calls.per_second());
                }
            }
        }
        let goal = |peer: &str| match (callers, peer) {
            (1, _) => None,
            (_, MANAGER) => Some(OF_MANAGER),
            _ => Some(OF_DEADPOOL),
        };
        suite
            .rows
            .extend(rate.rows(&case(callers), "req/s", Better::More, goal));
    }
    Ok(())
}
