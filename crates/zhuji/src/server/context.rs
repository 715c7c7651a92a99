//! What the platform knows of the request that is being answered.

use zhuji_jobs::Origin;
use zhuji_logging::TraceContext;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The request that the current task answers.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The id in `x-request-id`, from the client if it sent a well-formed one.
    pub request_id: String,
    /// The trace, continued from `traceparent` or begun here.
    pub trace: TraceContext,
}

impl RequestContext {
    /// Runs `work` as part of this request.
    pub(crate) async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}

/// The request being answered, if the calling task answers one. A task spawned from a handler does not.
pub fn current_request() -> Option<RequestContext> {
    CURRENT.try_with(Clone::clone).ok()
}

pub(crate) fn current_request_id() -> Option<String> {
    CURRENT.try_with(|context| context.request_id.clone()).ok()
}

/// The current request as the cause of the jobs that it enqueues.
pub(crate) fn job_origin() -> Origin {
    let request = current_request();
    Origin {
        traceparent: request.as_ref().map(|request| request.trace.to_traceparent()),
        request_id: request.map(|request| request.request_id),
    }
}
