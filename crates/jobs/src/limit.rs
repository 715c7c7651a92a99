use std::time::Duration;

use serde::Serialize;

/// What all workers of a queue keep to together, wherever they run.
///
/// A limit of a queue is set with [`WorkerSettings::limit`](crate::WorkerSettings::limit), one of a kind with
/// [`Policy::limit`](crate::Policy::limit). The worker that was started last decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limit {
    /// Jobs running at once, in the whole fleet.
    pub running: Option<u32>,
    /// Jobs started in a span of time, in the whole fleet.
    pub rate: Option<Rate>,
}

/// So many in so long. What was not used in one span may be used in the next, up to one span's worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rate {
    /// So many …
    pub count: u32,
    /// … in so long.
    #[serde(rename = "per_seconds", serialize_with = "crate::record::seconds")]
    pub per: Duration,
}

impl Limit {
    /// No limit.
    pub fn none() -> Self {
        Self::default()
    }

    /// At most this many at once; 0 means 1 (to hold a queue back there is
    /// [`JobsAdmin::pause`](crate::JobsAdmin::pause)).
    #[must_use]
    pub fn running(mut self, jobs: u32) -> Self {
        self.running = Some(jobs.clamp(1, i32::MAX as u32));
        self
    }

    /// At most `count` starts (at least 1) in every `per` (at least a millisecond), evenly spread once the first
    /// `count` are used up.
    #[must_use]
    pub fn rate(mut self, count: u32, per: Duration) -> Self {
        self.rate = Some(Rate {
            count: count.clamp(1, i32::MAX as u32),
            per: per.max(Duration::from_millis(1)),
        });
        self
    }

    /// Whether it is no limit at all.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
