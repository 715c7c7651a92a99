use std::time::Duration;

use crate::ttl::Ttl;

/// How long "there is none" is kept at most, unless the call says otherwise.
const ABSENT_TTL: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(10);

/// How [`get_or_load`](crate::Cache::get_or_load) stores what it loaded. A plain [`Duration`] or `None` (the default
/// time to live) will do where nothing else is wanted.
///
/// ```
/// use std::time::Duration;
/// use zhuji_cache::LoadOptions;
///
/// let hourly = LoadOptions::new(Duration::from_secs(3600))
///     .absent_ttl(Duration::from_secs(5))
///     .once_per_fleet();
/// # let _ = hourly;
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    pub(crate) ttl: Ttl,
    pub(crate) absent_ttl: Option<Ttl>,
    pub(crate) lease: Option<Duration>,
}

impl LoadOptions {
    /// Values live for `ttl`.
    pub fn new(ttl: impl Into<Ttl>) -> Self {
        Self {
            ttl: ttl.into(),
            ..Self::default()
        }
    }

    /// How long `None` lives, when an `Option` is loaded: "there is none" is worth caching, but usually not for as long
    /// as a value. Default: the time to live, at most 30 s.
    pub fn absent_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.absent_ttl = Some(ttl.into());
        self
    }

    /// One load in the whole fleet instead of one in each process: for what is costly to load. Who misses takes a lease
    /// in the shared store or waits until the value is there. Best effort: when the store is out of reach, or a load
    /// takes longer than the lease (10 s, see [`lease`](Self::lease)), each process loads for itself.
    pub fn once_per_fleet(self) -> Self {
        self.lease(LEASE)
    }

    /// [`once_per_fleet`](Self::once_per_fleet) with another lease: how long the others wait for a process that loads,
    /// and so for one that died loading.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease.max(Duration::from_millis(10)));
        self
    }

    pub(crate) fn absent(&self, ttl: Duration) -> Ttl {
        self.absent_ttl.unwrap_or_else(|| Ttl::exact(ttl.min(ABSENT_TTL)))
    }
}

impl From<Ttl> for LoadOptions {
    fn from(ttl: Ttl) -> Self {
        Self::new(ttl)
    }
}

impl From<Duration> for LoadOptions {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}

impl From<Option<Duration>> for LoadOptions {
    fn from(ttl: Option<Duration>) -> Self {
        Self::new(ttl)
    }
}
