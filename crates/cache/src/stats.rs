use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::adapter::AdapterStats;
use crate::tally::Tally;

/// Counters of one cache (all its scopes together) since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none, or none of the wanted type.
    pub misses: u64,
    /// Reads and writes that failed.
    pub errors: u64,
    /// Loaders run by `get_or_load`.
    pub loads: u64,
    /// Loaders that returned an error.
    pub load_errors: u64,
    /// Callers of `get_or_load` that were served by another caller's load.
    pub shared_loads: u64,
    /// Reads of [`get_or_refresh`](crate::Cache::get_or_refresh) that were answered with a value due to be loaded again;
    /// each also counts as a hit.
    pub stale_hits: u64,
    /// Stored values that could not be read as the wanted type; each also counts as a miss.
    pub decode_errors: u64,
    /// What the adapter tells about itself.
    pub adapter: AdapterStats,
}

/// The metric handles are looked up once: a lookup per call would cost as much as the cache hit itself.
pub(crate) struct Tallies {
    hits: Tally,
    misses: Tally,
    errors: Tally,
    loads: Tally,
    load_errors: Tally,
    shared_loads: Tally,
    decode_errors: Tally,
    stale_hits: Tally,
    load_seconds: Histogram,
    entries: Gauge,
    bytes: Gauge,
    evictions: Counter,
    local_hits: Counter,
    invalidations: Counter,
    flushes: Counter,
}

impl Tallies {
    pub(crate) fn new() -> Self {
        describe();
        let request = |outcome: &'static str| {
            Tally::new(metrics::counter!("zhuji_cache_requests_total", "outcome" => outcome))
        };
        let load = |outcome: &'static str| {
            Tally::new(metrics::counter!("zhuji_cache_loads_total", "outcome" => outcome))
        };
        Self {
            hits: request("hit"),
            misses: request("miss"),
            errors: request("error"),
            loads: load("ok"),
            load_errors: load("error"),
            shared_loads: load("shared"),
            decode_errors: Tally::new(metrics::counter!("zhuji_cache_decode_errors_total")),
            stale_hits: Tally::new(metrics::counter!("zhuji_cache_stale_hits_total")),
            load_seconds: metrics::histogram!("zhuji_cache_load_seconds"),
            entries: metrics::gauge!("zhuji_cache_entries"),
            bytes: metrics::gauge!("zhuji_cache_bytes"),
            evictions: metrics::counter!("zhuji_cache_evictions_total"),
            local_hits: metrics::counter!("zhuji_cache_local_hits_total"),
            invalidations: metrics::counter!("zhuji_cache_invalidations_total"),
            flushes: metrics::counter!("zhuji_cache_flushes_total"),
        }
    }

    pub(crate) fn hit(&self) {
        self.hits.add();
    }

    pub(crate) fn miss(&self) {
        self.misses.add();
    }

    pub(crate) fn error(&self) {
        self.errors.add();
    }

    pub(crate) fn decode_error(&self) {
        self.decode_errors.add();
        self.misses.add();
    }

    pub(crate) fn stale_hit(&self) {
        self.stale_hits.add();
    }

    pub(crate) fn shared_load(&self) {
        self.shared_loads.add();
    }

    pub(crate) fn load(&self, took: Duration, good: bool) {
        if good {
            self.loads.add();
        } else {
            self.load_errors.add();
        }
        self.load_seconds.record(took.as_secs_f64());
    }

    /// Also brings the gauges up to date; the health check calls it regularly.
    pub(crate) fn snapshot(&self, adapter: AdapterStats) -> CacheStats {
        self.entries.set(adapter.entries as f64);
        self.bytes.set(adapter.bytes as f64);
        self.evictions.absolute(adapter.evictions);
        self.local_hits.absolute(adapter.local_hits);
        self.invalidations.absolute(adapter.invalidations);
        self.flushes.absolute(adapter.flushes);
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            errors: self.errors.get(),
            loads: self.loads.get() + self.load_errors.get(),
            load_errors: self.load_errors.get(),
            shared_loads: self.shared_loads.get(),
            stale_hits: self.stale_hits.get(),
            decode_errors: self.decode_errors.get(),
            adapter,
        }
    }
}

impl std::fmt::Debug for Tallies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tallies").finish_non_exhaustive()
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "zhuji_cache_requests_total",
        "Cache reads by outcome, and failed writes"
    );
    describe_counter!("zhuji_cache_loads_total", "Loads by get_or_load, by outcome");
    describe_counter!(
        "zhuji_cache_decode_errors_total",
        "Stored values that were not of the wanted type"
    );
    describe_counter!(
        "zhuji_cache_stale_hits_total",
        "Reads answered with a value that was due to be loaded again"
    );
    describe_counter!(
        "zhuji_cache_local_hits_total",
        "Reads of the tiered cache answered from this process's memory"
    );
    describe_counter!(
        "zhuji_cache_invalidations_total",
        "Keys dropped from memory because another instance wrote them"
    );
    describe_counter!(
        "zhuji_cache_flushes_total",
        "Times memory was emptied because invalidations may have been missed"
    );
    describe_histogram!("zhuji_cache_load_seconds", Unit::Seconds, "Time the loaders took");
    describe_gauge!("zhuji_cache_entries", "Entries held in this process");
    describe_gauge!("zhuji_cache_bytes", Unit::Bytes, "Bytes held in this process");
    describe_counter!(
        "zhuji_cache_evictions_total",
        "Entries dropped to make room in this process"
    );
    describe_counter!(
        "zhuji_cache_operations_total",
        "Calls to the cache server by operation and outcome"
    );
    describe_histogram!(
        "zhuji_cache_operation_seconds",
        Unit::Seconds,
        "Time the cache server took to answer"
    );
    describe_gauge!(
        "zhuji_cache_breaker_open",
        "1 while calls are kept away from the cache server"
    );
}
