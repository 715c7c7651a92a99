//! Every metric of the crate, in one place.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::adapter::Rescued;
use crate::record::QueueCounts;

pub(crate) fn describe() {
    describe_counter!(
        "zhuji_jobs_enqueued_total",
        "Jobs put into the queue (in transactions: before their commit)"
    );
    describe_counter!("zhuji_jobs_finished_total", "Attempts that ended, by outcome");
    describe_histogram!("zhuji_jobs_run_seconds", Unit::Seconds, "Time an attempt took");
    describe_histogram!(
        "zhuji_jobs_wait_seconds",
        Unit::Seconds,
        "Time a job could have run and did not"
    );
    describe_gauge!("zhuji_jobs_running", "Attempts under way in this process");
    describe_gauge!("zhuji_jobs_by_state", "Jobs in the store by queue and state");
    describe_gauge!(
        "zhuji_jobs_oldest_ready_seconds",
        Unit::Seconds,
        "How long the longest-waiting job waits"
    );
    describe_counter!(
        "zhuji_jobs_rescued_total",
        "Jobs whose worker was lost, by what became of them"
    );
    describe_counter!("zhuji_jobs_swept_total", "Finished jobs forgotten");
    describe_counter!(
        "zhuji_jobs_store_errors_total",
        "Calls to the store that failed, by operation"
    );
}

pub(crate) fn enqueued(queue: &str, kind: &'static str, count: usize) {
    counter!("zhuji_jobs_enqueued_total", "queue" => queue.to_owned(), "kind" => kind)
        .increment(count as u64);
}

/// What is counted of one kind in one queue, looked up once and not at every job.
pub(crate) struct KindMeters {
    queue: String,
    kind: &'static str,
    wait: Histogram,
    run: Histogram,
    running: Gauge,
    done: Counter,
}

impl KindMeters {
    pub(crate) fn new(queue: &str, kind: &'static str) -> Self {
        // At 0 until it is counted: a queue with nothing in it is in no answer of the store.
        counted(&[QueueCounts {
            queue: queue.to_owned(),
            ..QueueCounts::default()
        }]);
        Self {
            queue: queue.to_owned(),
            kind,
            wait: histogram!("zhuji_jobs_wait_seconds", "queue" => queue.to_owned(), "kind" => kind),
            run: histogram!("zhuji_jobs_run_seconds", "queue" => queue.to_owned(), "kind" => kind),
            running: gauge!("zhuji_jobs_running", "queue" => queue.to_owned()),
            done: ended(queue, kind, "done"),
        }
    }

    pub(crate) fn started(&self, waited: Duration) {
        self.wait.record(waited.as_secs_f64());
        self.running.increment(1.0);
    }

    pub(crate) fn finished(&self, outcome: &'static str, took: Duration) {
        match outcome {
            "done" => self.done.increment(1),
            outcome => ended(&self.queue, self.kind, outcome).increment(1),
        }
        self.run.record(took.as_secs_f64());
        self.running.decrement(1.0);
    }
}

fn ended(queue: &str, kind: &'static str, outcome: &'static str) -> Counter {
    counter!(
        "zhuji_jobs_finished_total",
        "queue" => queue.to_owned(), "kind" => kind, "outcome" => outcome
    )
}

pub(crate) fn counted(counts: &[QueueCounts]) {
    for queue in counts {
        for (state, count) in [
            ("ready", queue.ready),
            ("scheduled", queue.scheduled),
            ("running", queue.running),
            ("stuck", queue.stuck),
            ("dead", queue.dead),
        ] {
            gauge!("zhuji_jobs_by_state", "queue" => queue.queue.clone(), "state" => state).set(count as f64);
        }
        gauge!("zhuji_jobs_oldest_ready_seconds", "queue" => queue.queue.clone())
            .set(queue.oldest_ready.as_secs_f64());
    }
}

pub(crate) fn rescued(rescued: Rescued) {
    counter!("zhuji_jobs_rescued_total", "outcome" => "ready").increment(rescued.ready);
    counter!("zhuji_jobs_rescued_total", "outcome" => "dead").increment(rescued.dead);
}

pub(crate) fn swept(count: u64) {
    counter!("zhuji_jobs_swept_total").increment(count);
}

pub(crate) fn store_error(operation: &'static str) {
    counter!("zhuji_jobs_store_errors_total", "operation" => operation).increment(1);
}
