//! What an attempt looks like in the log.

use std::sync::Arc;

use zhuji_jobs::{EnqueueOptions, JobState};

use crate::common::{Bench, PATIENCE, Seen, bench, note, state};
use crate::{recorder, start};

/// Every span and its fields, as text.
#[derive(Clone, Default)]
struct Spans(Arc<std::sync::Mutex<String>>);

impl Spans {
    fn add(&self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("zhuji_jobs")
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| self.add(field, value));
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values
            .record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| self.add(field, value));
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn an_attempt_runs_in_a_span_with_the_names_the_log_knows() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let Bench { jobs, .. } = &bench("memory").await;
    let asl = jobs.scoped("asl");
    let worker = start(&asl, recorder(&Seen::default()));
    let options = EnqueueOptions::default()
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .request_id("req-7");
    let id = asl.enqueue_with(&note("x"), options).await.unwrap();
    state(&asl, id, JobState::Done).await;
    worker.stop(PATIENCE).await;
    let seen = spans.0.lock().unwrap().clone();
    for part in [
        "module=\"asl\"",
        &format!("job_id={id}"),
        "kind=\"note\"",
        "attempt=1",
        "trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"",
        "request_id=\"req-7\"",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
}
