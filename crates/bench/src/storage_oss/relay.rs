//! A wire that is 20 ms long, there and back: every byte arrives 10 ms after it was sent, and a connection takes one
//! round trip more before it carries anything. Bandwidth is not limited.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

const ONE_WAY: Duration = Duration::from_millis(10);
/// Pieces under way in one direction.
const UNDER_WAY: usize = 4096;

pub(super) async fn run(listener: TcpListener, port: u16) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(async move {
            tokio::time::sleep(2 * ONE_WAY).await;
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            tokio::spawn(carry(client_in, server_out));
            tokio::spawn(carry(server_in, client_out));
        });
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, BytesMut)>(UNDER_WAY);
    let writer = tokio::spawn(async move {
        while let Some((due, piece)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    });
    loop {
        let mut piece = BytesMut::with_capacity(64 * 1024);
        if from.read_buf(&mut piece).await? == 0
            || sender.send((Instant::now() + ONE_WAY, piece)).await.is_err()
        {
            break;
        }
    }
    drop(sender);
    writer.await?
}
