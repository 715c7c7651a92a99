//! A bound on everything in a form that is not the file.
//!
//! The multipart reader keeps what stands before the first part, and the headers of each part, in memory until they end;
//! a body that is one endless header would fill it. The file itself passes through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use super::Problem;
use crate::BoxError;

/// Enough for the headers of all parts and for short text fields beside the file.
const BESIDE_THE_FILE: u64 = 256 << 10;
const UNLIMITED: u64 = u64::MAX;

/// What may still be read; shared by the stream and by whoever knows where in the form it stands.
#[derive(Clone)]
pub(super) struct FormBudget(Arc<AtomicU64>);

impl FormBudget {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BESIDE_THE_FILE)))
    }

    /// The file begins: its own limit is somebody else's.
    pub(super) fn lift(&self) {
        self.0.store(UNLIMITED, Ordering::Relaxed);
    }

    /// The file has ended: what follows is beside it again.
    pub(super) fn restore(&self) {
        self.0.store(BESIDE_THE_FILE, Ordering::Relaxed);
    }

    fn spend(&self, bytes: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left == UNLIMITED {
            return true;
        }
        self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        // The piece in which the budget ends may hold the beginning of the file; the next one is too much.
        left > 0
    }
}

/// A body that ends with a problem when the budget is spent.
pub(super) struct Budgeted<S> {
    pub(super) body: S,
    pub(super) budget: FormBudget,
}

impl<S, E> Stream for Budgeted<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<BoxError>,
{
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_next(cx));
        Poll::Ready(next.map(|piece| {
            let piece = piece.map_err(Into::into)?;
            if self.budget.spend(piece.len() as u64) {
                return Ok(piece);
            }
            let detail = format!(
                "The form holds more than {} KiB beside the file.",
                BESIDE_THE_FILE >> 10
            );
            Err(Problem::too_large(detail).into())
        }))
    }
}
