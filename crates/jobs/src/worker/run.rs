use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::{Instrument, Span, field};

use super::claim::Permits;
use super::finish::deliver;
use super::{Running, Shared};
use crate::adapter::{Claimed, Fence, Finish, Report};
use crate::context::JobContext;
use crate::job_error::{Class, JobError};
use crate::policy::Policy;
use crate::scrub::scrub;

/// How a handler came to its end.
enum End {
    Returned(Result<(), JobError>),
    Panicked(String),
    TimedOut,
    /// The worker had to stop before the handler was done.
    CutOff,
    /// The job was cancelled and the handler did not end by itself.
    Cancelled,
    /// The job is someone else's now.
    Lost,
}

/// How long a handler may go on after its job was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// Runs one claimed job and reports how it ended. The permits are held until the report is in the store, so that a
/// store in trouble slows the claims down.
pub(super) async fn run(
    shared: Arc<Shared>,
    fence: Fence,
    claimed: Claimed,
    running: Running,
    _permits: Permits,
) {
    let span = span(&claimed);
    async {
        let started = Instant::now();
        let meters = shared.meters.get(claimed.kind.as_str());
        if let Some(meters) = meters {
            meters.started(claimed.waited);
        }
        let (attempt, max_attempts) = (claimed.attempt, claimed.max_attempts);
        let in_batch = claimed.batch.is_some();
        let policy = shared
            .set
            .get(&claimed.kind)
            .map(|handler| handler.policy.clone())
            .unwrap_or_default();
        let end = drive(&shared, fence, claimed, &running).await;
        let took = started.elapsed();
        let completed = running.notes.completed.load(Ordering::SeqCst);
        let cancel = running.notes.cancel.load(Ordering::SeqCst) && !completed;
        let outcome = match judge(
            end,
            attempt,
            max_attempts,
            &policy,
            shared.stopping.is_cancelled(),
            cancel,
            || running.notes.take_result(),
        ) {
            Some(finish) => settle(&shared, Report { fence, finish }, completed, took).await,
            None => {
                tracing::warn!(
                    elapsed_ms = millis(took),
                    "job dropped: its lease or its worker is gone"
                );
                "lost"
            }
        };
        // It may have been the last of its batch; or its end may let another one in.
        if in_batch || shared.limited.load(Ordering::Relaxed) {
            shared.jobs.inner.wake.now();
        }
        if let Some(meters) = meters {
            meters.finished(outcome, took);
        }
        match outcome {
            "handed_back" => shared.handed_back.fetch_add(1, Ordering::Relaxed),
            "lost" | "unreported" => 0,
            _ => shared.finished.fetch_add(1, Ordering::Relaxed),
        };
    }
    .instrument(span)
    .await;
    shared.running().remove(&fence);
}

fn span(claimed: &Claimed) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "job",
        module = claimed.queue,
        job_id = %claimed.id,
        kind = claimed.kind,
        attempt = claimed.attempt,
        trace_id = field::Empty,
        request_id = field::Empty,
        traceparent = claimed.traceparent.as_deref(),
        otel.kind = "consumer",
        otel.name = %format_args!("job {}", claimed.kind),
    );
    if let Some(trace_id) = claimed.traceparent.as_deref().and_then(trace_id) {
        span.record("trace_id", trace_id);
    }
    if let Some(request_id) = &claimed.request_id {
        span.record("request_id", request_id);
    }
    span
}

/// The trace id in `00-<trace id>-<parent id>-<flags>`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let hex = id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()) && id.bytes().any(|c| c != b'0');
    hex.then_some(id)
}

async fn drive(shared: &Arc<Shared>, fence: Fence, claimed: Claimed, running: &Running) -> End {
    if shared.stopping.is_cancelled() {
        return End::CutOff;
    }
    let Some(handler) = shared.set.get(&claimed.kind) else {
        // Only the set's kinds are claimed.
        return End::CutOff;
    };
    let context = JobContext::new(
        shared.adapter().clone(),
        fence,
        &claimed,
        running.cancelled.clone(),
        running.notes.clone(),
    );
    tracing::debug!("job started");
    // A closure's first lines run before its future does, so the call is inside as well.
    let call = AssertUnwindSafe(async { handler.call(context, claimed.payload).await }).catch_unwind();
    tokio::select! {
        biased;
        result = tokio::time::timeout(handler.policy.timeout, call) => match result {
            Ok(Ok(result)) => End::Returned(result),
            Ok(Err(panic)) => End::Panicked(panic_text(panic.as_ref())),
            Err(_) => End::TimedOut,
        },
        () = overdue(running) => End::Cancelled,
        () = running.lost.cancelled() => End::Lost,
        () = shared.force.cancelled() => End::CutOff,
    }
}

/// When a handler has been told for long enough that its job is cancelled.
async fn overdue(running: &Running) {
    running.cancelled.cancelled().await;
    if !running.notes.cancel.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(CANCEL_GRACE).await;
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    format!("panicked: {text}")
}

/// What to report; `None` if there is nothing left to say.
fn judge(
    end: End,
    attempt: u32,
    max_attempts: u32,
    policy: &Policy,
    stopping: bool,
    cancel: bool,
    result: impl FnOnce() -> Option<String>,
) -> Option<Finish> {
    if cancel && !matches!(end, End::Lost) {
        return Some(Finish::Cancelled);
    }
    let again = |error: String| {
        let error = scrub(&error);
        if attempt >= max_attempts {
            Finish::Dead { error }
        } else {
            Finish::Retry {
                delay: policy.backoff.pause(attempt),
                error,
            }
        }
    };
    Some(match end {
        End::Returned(Ok(())) => Finish::Done { result: result() },
        End::Returned(Err(error)) => match error.class {
            Class::Fatal => Finish::Dead {
                error: scrub(&error.text()),
            },
            Class::Interrupted if stopping => Finish::HandBack,
            Class::Interrupted | Class::Retry => again(error.text()),
        },
        End::Panicked(text) => again(text),
        End::TimedOut => again(format!("did not end within {:?}", policy.timeout)),
        End::CutOff => Finish::HandBack,
        End::Cancelled => Finish::Cancelled,
        End::Lost => return None,
    })
}

/// Brings the report into the store and says in a word how the attempt ended.
async fn settle(shared: &Arc<Shared>, report: Report, completed: bool, took: Duration) -> &'static str {
    let finish = report.finish.clone();
    // The store decides whether the lease was lost; a sign that it was may have been overtaken by this very report.
    let took_effect = deliver(&shared.reports, report).await;
    let elapsed_ms = millis(took);
    match (took_effect, finish) {
        // The handler has ended the job in its own transaction.
        (Some(false), Finish::Done { .. }) if completed => {
            tracing::debug!(elapsed_ms, "job done");
            "done"
        }
        (Some(false), finish) if completed => {
            tracing::warn!(
                elapsed_ms,
                ?finish,
                "job was completed in a transaction and then failed: it stays done"
            );
            "done"
        }
        (Some(false), _) => {
            tracing::warn!(
                elapsed_ms,
                "job ended after its lease was lost: the result of this attempt does not count"
            );
            "fenced"
        }
        (None, _) => "unreported",
        (Some(true), Finish::Done { .. }) => {
            tracing::debug!(elapsed_ms, "job done");
            "done"
        }
        (Some(true), Finish::Retry { delay, error }) => {
            tracing::warn!(
                elapsed_ms,
                retry_in_ms = millis(delay),
                error,
                "job failed, will be tried again"
            );
            shared.jobs.inner.wake.after(delay);
            "retry"
        }
        (Some(true), Finish::Dead { error }) => {
            tracing::error!(elapsed_ms, error, "job failed for good");
            "dead"
        }
        (Some(true), Finish::Cancelled) => {
            tracing::info!(elapsed_ms, "job cancelled");
            "cancelled"
        }
        (Some(true), Finish::HandBack) => {
            tracing::info!(elapsed_ms, "job handed back");
            "handed_back"
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_are_taken_only_from_well_formed_traceparents() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        for bad in [
            "",
            "00",
            "00-abc-def-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "-é-",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
