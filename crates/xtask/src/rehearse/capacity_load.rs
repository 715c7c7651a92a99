//! An open-loop load generator: requests are due at fixed times, whether or not the earlier ones have been answered, and
//! their latency counts from the moment they were due. A server that stalls is charged for everybody who waited.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::failure::{Failure, Result};

/// An answer that takes longer counts as none.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection that was idle for longer is not used again: the service may be about to close it.
const MOST_IDLE: Duration = Duration::from_secs(5);

/// One kind of request; `Arc`ed, because thousands are in flight.
pub(super) type Request = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// What a kind of request is called, and how it is made from its number.
#[derive(Clone)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) request: Request,
    /// Whether the address in `location` is fetched as well, as part of the same.
    pub(super) follow: bool,
}

/// Latencies of what was answered well, from due to answered.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Kind, and how long.
    pub(super) answered: Vec<(&'static str, Duration)>,
    pub(super) failures: Vec<String>,
    /// From the first request's due time to the last answer.
    pub(super) elapsed: Duration,
    /// The longest that this program itself was behind its schedule.
    pub(super) behind: Duration,
}

/// Sends `rate` requests a second for so long, the kinds in the order that `turn` tells.
pub(super) async fn run(
    address: SocketAddr,
    rate: u32,
    time: Duration,
    kinds: &[Kind],
    turn: impl Fn(u64) -> usize,
) -> Outcome {
    let pool = Arc::new(Pool {
        address,
        idle: Mutex::new(Vec::new()),
    });
    let gap = Duration::from_secs(1) / rate;
    let count = u64::from(rate) * time.as_secs();
    let begin = Instant::now() + Duration::from_millis(50);
    let mut outcome = Outcome::default();
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let due = begin + gap * u32::try_from(number).unwrap_or(u32::MAX);
        tokio::time::sleep_until(due).await;
        // The timer is as fine as a millisecond: what is due within it goes out together.
        outcome.behind = outcome.behind.max(due.elapsed());
        let kind = kinds[turn(number)].clone();
        let pool = Arc::clone(&pool);
        tasks.spawn(async move {
            let request = (kind.request)(number);
            let answered = tokio::time::timeout(DEADLINE, pool.ask(&request, kind.follow)).await;
            let answered =
                answered.unwrap_or_else(|_| Err(format!("no answer in {} s", DEADLINE.as_secs()).into()));
            (kind.name, answered.map(|()| due.elapsed()))
        });
        while let Some(done) = tasks.try_join_next() {
            outcome.count(done);
        }
    }
    while let Some(done) = tasks.join_next().await {
        outcome.count(done);
    }
    outcome.elapsed = begin.elapsed();
    outcome
}

type Done = std::result::Result<(&'static str, Result<Duration>), tokio::task::JoinError>;

impl Outcome {
    fn count(&mut self, done: Done) {
        match done {
            Ok((kind, Ok(took))) => self.answered.push((kind, took)),
            Ok((kind, Err(failure))) => self.failures.push(format!("{kind}: {failure}")),
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// The latency that so many of a thousand do not exceed; of one kind, or of all.
    pub(super) fn per_mille(&self, kind: Option<&str>, share: usize) -> Duration {
        let of_kind = |name: &str| kind.is_none_or(|kind| kind == name);
        let mut times: Vec<Duration> = self
            .answered
            .iter()
            .filter(|(name, _)| of_kind(name))
            .map(|(_, took)| *took)
            .collect();
        times.sort_unstable();
        let rank = (times.len() * share).div_ceil(1000);
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Connections that are kept alive; a new one is opened when all are busy.
struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    async fn ask(&self, request: &[u8], follow: bool) -> Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) if connection.used.elapsed() < MOST_IDLE => connection,
            _ => Connection::open(self.address).await?,
        };
        let answer = connection.ask(request).await?;
        match (answer.status, answer.location) {
            (200, _) => {}
            (302 | 307, Some(address)) if follow => {
                let answer = connection.ask(&get(path_of(&address))).await?;
                if answer.status != 200 {
                    return Err(format!("status {} at the signed address", answer.status).into());
                }
            }
            (status, _) => return Err(format!("status {status}").into()),
        }
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(())
    }
}

pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A file as `multipart/form-data`.
pub(super) fn post_file(path: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    let tail = "\r\n--x--\r\n";
    let length = head.len() + content.len() + tail.len();
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         content-length: {length}\r\n\r\n{head}"
    )
    .into_bytes();
    text.extend_from_slice(content);
    text.extend_from_slice(tail.as_bytes());
    text
}

fn path_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

#[derive(Debug)]
struct Answer {
    status: u16,
    location: Option<String>,
}

#[derive(Debug)]
struct Connection {
    used: Instant,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            used: Instant::now(),
            stream,
            buffer: Vec::with_capacity(8192),
        })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed in place of an answer".into());
            }
            if let Some(answer) = parse(&self.buffer)? {
                self.used = Instant::now();
                return Ok(answer);
            }
        }
    }
}

/// The answer, once it is there to its end.
fn parse(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| Failure::new("the answer is not HTTP/1.1"))?;
    let (mut length, mut location) = (None, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("location") {
            location = Some(value.trim().to_owned());
        }
    }
    // The service knows the length of all that it answers here.
    let length = length.ok_or_else(|| Failure::new("the answer has no content-length"))?;
    if bytes.len() < end + 4 + length {
        return Ok(None);
    }
    Ok(Some(Answer { status, location }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_complete() {
        let whole = b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\nLocation: http://h:1/a?b=c\r\n\r\nok";
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).expect("it is HTTP").is_none(), "{cut}");
        }
        let answer = parse(whole).expect("it is HTTP").expect("it is complete");
        assert_eq!(answer.status, 302);
        assert_eq!(path_of(&answer.location.expect("it has one")), "/a?b=c");
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn the_rank_is_the_next_higher_one() {
        let mut outcome = Outcome::default();
        assert_eq!(outcome.per_mille(None, 990), Duration::ZERO);
        outcome.answered = (1..=200).map(|ms| ("a", Duration::from_millis(ms))).collect();
        outcome.answered.push(("b", Duration::from_secs(9)));
        assert_eq!(outcome.per_mille(Some("a"), 500), Duration::from_millis(100));
        assert_eq!(outcome.per_mille(Some("a"), 999), Duration::from_millis(200));
        assert_eq!(outcome.per_mille(None, 999), Duration::from_secs(9));
    }

    #[tokio::test]
    async fn a_server_that_stalls_is_charged_for_everybody_who_waited() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move {
            // One connection is served at a time; the first request takes a second.
            let mut stall = Duration::from_secs(1);
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 256];
                if socket.read(&mut request).await.unwrap_or(0) > 0 {
                    tokio::time::sleep(std::mem::take(&mut stall)).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    socket.write_all(answer).await.expect("it reads");
                }
            }
        });
        let request: Request = Arc::new(|_| get("/"));
        let kinds = [Kind {
            name: "get",
            request,
            follow: false,
        }];
        let outcome = run(address, 20, Duration::from_secs(1), &kinds, |_| 0).await;
        server.abort();
        // Whoever came in the stalled second waited for half of it and more on average: a generator that waits for
        // answers would have seen one slow request and no other.
        assert!(
            outcome.per_mille(None, 500) > Duration::from_millis(300),
            "{outcome:?}"
        );
    }
}
