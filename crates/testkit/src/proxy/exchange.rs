//! Requests and answers, one after the other, each with what was planned for it.

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::Shared;
use super::fault::{Chosen, Moment, ProxyFault};
use super::http1::{
    ChunkScanner, Framing, answer_framing, closes, head_length, is_xml, method, request_framing, status,
};
use super::wire::{End, Link, read, write};

const LARGEST_HEAD: usize = 256 * 1024;

pub(super) async fn run(link: &mut Link) -> End {
    loop {
        match exchange(link).await {
            Ok(true) => {}
            Ok(false) => return End::Close,
            Err(end) => return end,
        }
    }
}

/// One request and its answer. Whether the connection can take another.
async fn exchange(link: &mut Link) -> Result<bool, End> {
    if !begins(link).await? {
        return Ok(false);
    }
    let shared = link.shared.clone();
    let mut chosen = shared.begin_exchange();
    act(link, &chosen, Moment::BeforeRequest).await?;
    let latency = shared.control.borrow().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if let ProxyFault::Delay(by) = chosen.fault {
        link.stall(by).await?;
    }

    let Some(head) = read_head(&link.client, &mut link.from_client).await? else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(&head).into_owned();
    let (method, framing) = (method(&text).to_owned(), request_framing(&text));
    if chosen.fault == ProxyFault::CorruptRequest && is_xml(&text) {
        chosen.fault = ProxyFault::Pass;
    }
    let mut go_on = !closes(&text);
    if let ProxyFault::Answer(status) = chosen.fault {
        let mut body = Body::new(framing);
        while body.next(&link.client, &mut link.from_client).await?.is_some() {}
        let answer = error_answer(status, &method);
        write(&link.client, answer.as_bytes(), &shared, None).await?;
        return Ok(go_on);
    }

    link.connect().await?;
    pass_head(link, &head, &chosen, Direction::Up, framing).await?;
    // The server may have refused before it had read all; its answer says why.
    go_on &= pass_body(link, &chosen, Direction::Up, framing).await?;

    let (head, text) = loop {
        let server = link.server.as_ref().ok_or(End::Reset)?;
        let Some(head) = read_head(server, &mut link.from_server).await? else {
            return Err(End::Close);
        };
        let text = String::from_utf8_lossy(&head).into_owned();
        if !(100..200).contains(&status(&text)) {
            break (head, text);
        }
        write(&link.client, &head, &shared, None).await?;
    };
    act(link, &chosen, Moment::BeforeAnswer).await?;
    if chosen.fault == ProxyFault::CorruptAnswer && is_xml(&text) {
        chosen.fault = ProxyFault::Pass;
    }
    let framing = answer_framing(&text, &method);
    pass_head(link, &head, &chosen, Direction::Down, framing).await?;
    go_on &= pass_body(link, &chosen, Direction::Down, framing).await?;
    Ok(go_on && !closes(&text) && framing != Framing::UntilClose)
}

/// Waits for the first byte of a request. False if either side has closed the connection instead.
async fn begins(link: &Link) -> Result<bool, End> {
    if !link.from_client.is_empty() {
        return Ok(true);
    }
    let mut byte = [0];
    let Some(server) = &link.server else {
        return Ok(link.client.peek(&mut byte).await? > 0);
    };
    let mut other = [0];
    tokio::select! {
        biased;
        found = link.client.peek(&mut byte) => Ok(found? > 0),
        // A server that closes an idle connection, or says something nobody asked for.
        _ = server.peek(&mut other) => Ok(false),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    /// From the client to the server.
    Up,
    Down,
}

impl Direction {
    fn head(self) -> Moment {
        match self {
            Self::Up => Moment::RequestHead,
            Self::Down => Moment::AnswerHead,
        }
    }

    fn body(self) -> Moment {
        match self {
            Self::Up => Moment::RequestBody,
            Self::Down => Moment::AnswerBody,
        }
    }

    fn target(self, link: &Link) -> Result<&TcpStream, End> {
        match self {
            Self::Up => link.server(),
            Self::Down => Ok(&link.client),
        }
    }
}

/// Does what is planned for this moment, if anything is.
async fn act(link: &Link, chosen: &Chosen, moment: Moment) -> Result<(), End> {
    match chosen.at(moment) {
        Some(ProxyFault::Reset(_)) => Err(End::Reset),
        Some(ProxyFault::Close(_)) => Err(End::Close),
        Some(ProxyFault::Stall(_, time)) => link.stall(*time).await,
        Some(ProxyFault::Refuse(time)) => {
            link.shared.refuse_for(*time).await;
            Err(End::Reset)
        }
        _ => Ok(()),
    }
}

async fn pass_head(
    link: &Link,
    head: &[u8],
    chosen: &Chosen,
    direction: Direction,
    framing: Framing,
) -> Result<(), End> {
    let target = direction.target(link)?;
    let here = chosen.at(direction.head()).is_some();
    // What has no body is hit here.
    let moment = match framing.is_empty() {
        true if !here => direction.body(),
        _ => direction.head(),
    };
    if chosen.at(moment).is_none() {
        write(target, head, &link.shared, None).await?;
        return Ok(());
    }
    let (first, second) = head.split_at(head.len() / 2);
    write(target, first, &link.shared, None).await?;
    act(link, chosen, moment).await?;
    write(target, second, &link.shared, None).await?;
    Ok(())
}

/// Whether the other side took all of it.
async fn pass_body(
    link: &mut Link,
    chosen: &Chosen,
    direction: Direction,
    framing: Framing,
) -> Result<bool, End> {
    let moment = direction.body();
    // Of a body without a length nobody knows the middle.
    let mut hit = match framing {
        Framing::Length(length) => (length.saturating_sub(1) as f64 * chosen.part) as u64,
        _ => 64,
    };
    let mut hits = chosen.at(moment).is_some() && !framing.is_empty();
    let limit = match chosen.fault {
        ProxyFault::Throttle(rate) => Some(rate),
        _ => None,
    };
    let mut body = Body::new(framing);
    loop {
        let mut buffer = match direction {
            Direction::Up => std::mem::take(&mut link.from_client),
            Direction::Down => std::mem::take(&mut link.from_server),
        };
        let source = match direction {
            Direction::Up => &link.client,
            Direction::Down => link.server()?,
        };
        let piece = body.next(source, &mut buffer).await;
        match direction {
            Direction::Up => link.from_client = buffer,
            Direction::Down => link.from_server = buffer,
        }
        let Some(mut piece) = piece? else {
            return Ok(true);
        };
        let target = direction.target(link)?;
        if hits && hit < piece.len() as u64 {
            hits = false;
            let at = hit as usize;
            if matches!(
                chosen.fault,
                ProxyFault::CorruptRequest | ProxyFault::CorruptAnswer
            ) {
                piece[at] ^= 1;
            } else {
                let rest = piece.split_off(at);
                if write(target, &piece, &link.shared, limit).await.is_err() {
                    return Ok(false);
                }
                act(link, chosen, moment).await?;
                piece = rest;
            }
        } else if hits {
            hit -= piece.len() as u64;
        }
        if write(target, &piece, &link.shared, limit).await.is_err() {
            return Ok(false);
        }
    }
}

/// The head at the front of what comes, or `None` if the connection ends before it began.
async fn read_head(source: &TcpStream, buffer: &mut BytesMut) -> Result<Option<BytesMut>, End> {
    loop {
        if let Some(length) = head_length(buffer) {
            return Ok(Some(buffer.split_to(length)));
        }
        if buffer.len() > LARGEST_HEAD {
            return Err(End::Reset);
        }
        if read(source, buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(End::Close)
            };
        }
    }
}

/// Takes one body out of what comes.
struct Body {
    framing: Framing,
    scanner: ChunkScanner,
    done: bool,
}

impl Body {
    fn new(framing: Framing) -> Self {
        Self {
            framing,
            scanner: ChunkScanner::default(),
            done: framing.is_empty(),
        }
    }

    async fn next(&mut self, source: &TcpStream, buffer: &mut BytesMut) -> Result<Option<BytesMut>, End> {
        if self.done {
            return Ok(None);
        }
        if buffer.is_empty() && read(source, buffer).await? == 0 {
            self.done = true;
            return match self.framing {
                Framing::UntilClose => Ok(None),
                _ => Err(End::Close),
            };
        }
        let length = match &mut self.framing {
            Framing::UntilClose => buffer.len(),
            Framing::Length(left) => {
                let length = (*left).min(buffer.len() as u64);
                *left -= length;
                self.done = *left == 0;
                length as usize
            }
            Framing::Chunked => {
                let (length, done) = self.scanner.scan(buffer);
                self.done = done;
                length
            }
        };
        Ok(Some(buffer.split_to(length)))
    }
}

/// What OSS, or a gateway in front of it, says when it is not well.
fn error_answer(status: u16, method: &str) -> String {
    let (reason, code) = match status {
        429 => ("Too Many Requests", "TooManyRequests"),
        500 => ("Internal Server Error", "InternalError"),
        502 => ("Bad Gateway", "BadGateway"),
        503 => ("Service Unavailable", "ServiceUnavailable"),
        504 => ("Gateway Timeout", "GatewayTimeout"),
        _ => ("Error", "Error"),
    };
    let id = format!("{:024X}", fastrand::u128(..) >> 32);
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Injected by the fault \
         proxy.</Message><RequestId>{id}</RequestId><HostId>proxy.localhost</HostId></Error>"
    );
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/xml\r\nx-oss-request-id: {id}\r\ncontent-length: \
         {}\r\n\r\n",
        body.len()
    );
    if method == "HEAD" { head } else { head + &body }
}

impl Shared {
    fn begin_exchange(&self) -> Chosen {
        self.exchanges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.plan.next()
    }
}
