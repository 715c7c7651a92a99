//! Bytes on sockets: reading, writing at a pace, and the two ways of ending.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::Shared;

/// At most this much is sent at once, so that a limit on the rate shows.
const PIECE: usize = 16 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reset,
    Close,
}

/// Whatever the socket said: the other side is told in the same way.
impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// One client's connection and the one behind it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) client: TcpStream,
    pub(super) server: Option<TcpStream>,
    /// Read from the client, not yet passed on.
    pub(super) from_client: BytesMut,
    pub(super) from_server: BytesMut,
}

impl Link {
    pub(super) fn new(client: TcpStream, shared: Arc<Shared>) -> Self {
        // Only slower without it.
        let _ = client.set_nodelay(true);
        Self {
            shared,
            client,
            server: None,
            from_client: BytesMut::new(),
            from_server: BytesMut::new(),
        }
    }

    pub(super) async fn connect(&mut self) -> Result<(), End> {
        if self.server.is_none() {
            let upstream: SocketAddr = self.shared.control.borrow().upstream;
            let server = TcpStream::connect(upstream).await?;
            server.set_nodelay(true)?;
            self.server = Some(server);
        }
        Ok(())
    }

    pub(super) fn server(&self) -> Result<&TcpStream, End> {
        self.server.as_ref().ok_or(End::Reset)
    }

    pub(super) fn end(self, end: End) {
        if end == End::Reset {
            for stream in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
                // A socket that is gone already needs no reset.
                let _ = stream.set_zero_linger();
            }
        }
    }

    /// Waits so long, or until the client is gone.
    pub(super) async fn stall(&self, time: Duration) -> Result<(), End> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = gone(&self.client) => Err(End::Reset),
        }
    }
}

/// Returns when the other side has closed. What it still sends stays in the socket.
async fn gone(stream: &TcpStream) {
    let mut byte = [0];
    while matches!(stream.peek(&mut byte).await, Ok(1..)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads what there is; 0 at the end.
pub(super) async fn read(stream: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.reserve(PIECE);
    loop {
        stream.readable().await?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes all of it, while the proxy isn't paused and no faster than it allows.
pub(super) async fn write(
    stream: &TcpStream,
    bytes: &[u8],
    shared: &Shared,
    limit: Option<u64>,
) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        shared.while_paused().await;
        let mut rest = piece;
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let slowest = [limit, shared.control.borrow().bytes_per_second]
            .into_iter()
            .flatten()
            .min();
        if let Some(rate) = slowest {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64)).await;
        }
    }
    Ok(())
}
