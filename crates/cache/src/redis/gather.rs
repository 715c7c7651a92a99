//! Commands that come together leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writer lets all that is ready to run go first, once, before it sends: what they ask for meanwhile
/// leaves in the same packet. Under load that saves most of the system calls on both sides. Where nothing came together
/// lately it sends at once, most of the time, so that a command alone does not lose a turn of the scheduler. Waiting for
/// the kernel to fill a packet (Nagle) would cost time on the wire.
pub(super) struct Gather<S> {
    inner: S,
    /// How much was to be sent when the others were let go; `None` if they were not since the last time all was sent.
    before: Option<usize>,
    /// Sendings before the others are let go again.
    alone: u8,
}

/// After nothing came together.
const ALONE: u8 = 7;

impl<S> Gather<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            before: None,
            alone: 0,
        }
    }

    /// Ready when it is time to send these many bytes.
    fn turn(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<()> {
        match self.before {
            Some(before) => {
                if self.alone == 0 && length <= before {
                    self.alone = ALONE;
                }
                Poll::Ready(())
            }
            None if self.alone > 0 => {
                self.alone -= 1;
                self.before = Some(length);
                Poll::Ready(())
            }
            None => {
                self.before = Some(length);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.turn(cx, buf.len()) {
            Poll::Ready(()) => Pin::new(&mut self.inner).poll_write(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.turn(cx, bufs.iter().map(|buf| buf.len()).sum()) {
            Poll::Ready(()) => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.before = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_meanwhile_is_sent_before_the_writer_goes_on() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Gather::new(near);
        let other = tokio::spawn(async {});
        near.write_all(b"one").await.unwrap();
        assert!(other.is_finished(), "it had its turn");
        near.flush().await.unwrap();
        near.write_all(b"two").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "onetwo");
    }
}
