//! Bytes in both directions, without knowing what they mean.

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::fault::{Chosen, Moment, ProxyFault};
use super::wire::{End, Link, read, write};

/// Where a direction is hit.
const HIT_AFTER: u64 = 1024;

pub(super) async fn run(link: &mut Link) -> End {
    link.shared
        .exchanges
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let chosen = link.shared.plan.next();
    match connect(link, &chosen).await {
        Ok(()) => {}
        Err(end) => return end,
    }
    let Ok(server) = link.server() else {
        return End::Reset;
    };
    let up = pass(link, &link.client, server, &chosen, Moment::RequestBody);
    let down = pass(link, server, &link.client, &chosen, Moment::AnswerBody);
    tokio::select! {
        Err(end) = up => end,
        Err(end) = down => end,
        else => End::Close,
    }
}

async fn connect(link: &mut Link, chosen: &Chosen) -> Result<(), End> {
    match chosen.at(Moment::BeforeRequest) {
        Some(ProxyFault::Reset(_)) => return Err(End::Reset),
        Some(ProxyFault::Close(_)) => return Err(End::Close),
        Some(ProxyFault::Stall(_, time)) => link.stall(*time).await?,
        Some(ProxyFault::Refuse(time)) => {
            link.shared.refuse_for(*time).await;
            return Err(End::Reset);
        }
        _ => {}
    }
    if let ProxyFault::Delay(by) = chosen.fault {
        link.stall(by).await?;
    }
    link.shared.while_paused().await;
    link.connect().await
}

/// One direction until its end, which is passed on too.
async fn pass(
    link: &Link,
    from: &TcpStream,
    to: &TcpStream,
    chosen: &Chosen,
    moment: Moment,
) -> Result<(), End> {
    let mut buffer = BytesMut::new();
    let mut left = chosen.at(moment).is_some().then_some(HIT_AFTER);
    let limit = match chosen.fault {
        ProxyFault::Throttle(rate) => Some(rate),
        _ => None,
    };
    while read(from, &mut buffer).await? > 0 {
        let mut piece = buffer.split();
        let latency = link.shared.control.borrow().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match left {
            Some(hit) if hit < piece.len() as u64 => {
                left = None;
                let rest = piece.split_off(hit as usize);
                write(to, &piece, &link.shared, limit).await?;
                piece = rest;
                match &chosen.fault {
                    ProxyFault::Reset(_) => return Err(End::Reset),
                    ProxyFault::Close(_) => return Err(End::Close),
                    ProxyFault::Stall(_, time) => link.stall(*time).await?,
                    // The only others that hit a body are those that corrupt it.
                    _ => piece[0] ^= 1,
                }
            }
            Some(hit) => left = Some(hit - piece.len() as u64),
            None => {}
        }
        write(to, &piece, &link.shared, limit).await?;
    }
    shut(to);
    Ok(())
}

/// Tells one side that the other has nothing more to say; it may still answer.
fn shut(to: &TcpStream) {
    let _ = rustix::net::shutdown(to, rustix::net::Shutdown::Write);
}
