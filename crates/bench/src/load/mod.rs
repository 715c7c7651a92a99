//! A cheap HTTP/1.1 load generator: raw kept-alive sockets, the same for both sides.

mod connection;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

pub(crate) use connection::Connection;
pub(crate) use upload::{Pdf, multipart};

/// What got through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends `GET path` over so many kept-alive connections, each with one request in flight, for so long.
pub(crate) async fn requests(
    address: SocketAddr,
    path: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Load> {
    let request: Arc<[u8]> = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: */*\r\n\r\n")
        .into_bytes()
        .into();
    let stop = Arc::new(AtomicBool::new(false));
    let opened = open(address, connections).await?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in opened {
        let (request, stop) = (request.clone(), stop.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.send(&request).await?;
                if answer.status != 200 {
                    bail!("status {} under load", answer.status);
                }
                count += 1;
            }
            Ok(count)
        });
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(Load {
        count,
        elapsed: begin.elapsed(),
    })
}

/// Uploads `pdf` once to each of `paths`, with so many uploads in flight, each on a kept-alive connection.
pub(crate) async fn uploads(
    address: SocketAddr,
    paths: Vec<String>,
    pdf: &Pdf,
    in_flight: usize,
) -> anyhow::Result<Load> {
    let count = paths.len();
    let paths = Arc::new(paths);
    let next = Arc::new(AtomicUsize::new(0));
    let opened = open(address, in_flight).await?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in opened {
        let (paths, next, pdf) = (paths.clone(), next.clone(), pdf.clone());
        tasks.spawn(async move {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = connection
                    .upload(path, &pdf)
                    .await
                    .with_context(|| format!("POST {path}"))?;
                if answer.status != 200 {
                    bail!(
                        "POST {path}: status {}: {}",
                        answer.status,
                        String::from_utf8_lossy(answer.body)
                    );
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Load {
        count,
        elapsed: begin.elapsed(),
    })
}

async fn open(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut opened = Vec::with_capacity(count);
    for _ in 0..count {
        opened.push(Connection::open(address).await?);
    }
    Ok(opened)
}
