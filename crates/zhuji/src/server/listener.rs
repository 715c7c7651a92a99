//! Accepting connections, and ending them.
//!
//! `axum::serve` waits without a bound for connections that never finish their request or their stream; here every
//! connection ends at the latest at the deadline of the shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::respond::App;
use super::stall::StallGuard;
use crate::settings::HttpConfig;

/// How long a kept-alive connection may still bring a request once the draining has begun. Its answer carries
/// `connection: close`, so that a busy client leaves by itself and no request meets a closed socket.
const LINGER: Duration = Duration::from_millis(400);
/// After this accept error (out of file descriptors, mostly) the loop pauses rather than spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running listener.
pub(crate) struct Listener {
    address: SocketAddr,
    stop_accepting: CancellationToken,
    finish: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

/// How the connections ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopOutcome {
    /// Connections that were cut at the deadline.
    pub(crate) cut: usize,
}

/// Accepts connections on `socket` for `app` until stopped.
pub(crate) fn listen(socket: TcpListener, app: App, config: &HttpConfig) -> std::io::Result<Listener> {
    let listener = Listener {
        address: socket.local_addr()?,
        stop_accepting: CancellationToken::new(),
        finish: CancellationToken::new(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let accept = Accept {
        app,
        header_timeout: config.header_timeout,
        stall_timeout: config.stall_timeout,
        slots: Arc::new(Semaphore::new(config.max_connections.max(1) as usize)),
        finish: listener.finish.clone(),
        abort: listener.abort.clone(),
        tasks: listener.tasks.clone(),
    };
    listener
        .tasks
        .spawn(accept.run(socket, listener.stop_accepting.clone()));
    Ok(listener)
}

impl Listener {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits for the connections to finish; at `deadline` those that are left are cut.
    pub(crate) async fn stop(self, deadline: Instant) -> StopOutcome {
        self.stop_accepting.cancel();
        self.finish.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok() {
            return StopOutcome { cut: 0 };
        }
        let cut = self.tasks.len();
        self.abort.cancel();
        self.tasks.wait().await;
        StopOutcome { cut }
    }
}

struct Accept {
    app: App,
    header_timeout: Duration,
    stall_timeout: Duration,
    slots: Arc<Semaphore>,
    finish: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Accept {
    async fn run(self, socket: TcpListener, stop: CancellationToken) {
        loop {
            // A slot first: with all of them taken, clients wait in the kernel's queue instead of in our memory.
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                slot = self.slots.clone().acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.spawn(stream, peer, slot),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Whoever has connected already is served: closing the socket now would reset them. Asked of the kernel
        // itself, because tokio may not have heard yet that somebody waits.
        let Ok(socket) = socket.into_std() else { return };
        while let Ok(slot) = self.slots.clone().try_acquire_owned() {
            let Ok((stream, peer)) = socket.accept() else {
                break;
            };
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.spawn(stream, peer, slot);
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        // Answers are written in one piece; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let app = self.app.clone();
        let (finish, abort) = (self.finish.clone(), self.abort.clone());
        let header_timeout = self.header_timeout;
        let stream = StallGuard::new(stream, self.stall_timeout);
        self.tasks.spawn(async move {
            let open = Open::new();
            let service = service_fn(move |request| app.clone().respond(request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(header_timeout)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = abort.cancelled() => None,
                () = async { finish.cancelled().await; tokio::time::sleep(LINGER).await } => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection.as_mut() => Some(ended),
                        () = abort.cancelled() => None,
                    }
                }
            };
            if let Some(Err(error)) = ended {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop((open, slot));
        });
    }
}

/// Counts an open connection for as long as it lives.
struct Open(metrics::Gauge);

impl Open {
    fn new() -> Self {
        let gauge = metrics::gauge!("zhuji_http_connections");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
