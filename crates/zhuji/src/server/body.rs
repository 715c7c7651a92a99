//! A request body that can't wait for ever, and that does not slam the door on a client that is still sending.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::BoxError;
use crate::http::Problem;

/// A refused upload is read on to its end within these bounds: a client that is still sending would otherwise see a
/// reset connection in place of the answer that says what is wrong.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_BYTES: u64 = 64 << 20;

/// A body with a limit on the silence between two pieces.
pub(crate) struct GuardedBody {
    // `None` once it has ended or failed.
    inner: Option<Incoming>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    // A client that waits for `100 Continue` has sent nothing yet, and must not be asked to.
    waits_for_continue: bool,
}

impl GuardedBody {
    pub(crate) fn new(inner: Incoming, idle: Duration, waits_for_continue: bool) -> Self {
        Self {
            inner: Some(inner),
            idle,
            timer: None,
            waits_for_continue,
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        this.waits_for_continue = false;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if let Some(timer) = &mut this.timer {
                timer.as_mut().reset(Instant::now() + this.idle);
            }
            return Poll::Ready(match frame {
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(error)) => {
                    this.inner = None;
                    Some(Err(error.into()))
                }
                None => {
                    this.inner = None;
                    None
                }
            });
        }
        let idle = this.idle;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        this.inner = None;
        let detail = format!(
            "Nothing was received for {} s; the upload was given up.",
            idle.as_secs()
        );
        Poll::Ready(Some(Err(
            Problem::new(http::StatusCode::REQUEST_TIMEOUT, detail).into()
        )))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        let Some(rest) = self.inner.take() else { return };
        if rest.is_end_stream() || self.waits_for_continue {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(rest)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, |data| data.len() as u64);
        if seen > DRAIN_BYTES {
            return;
        }
    }
}
