//! SIGTERM while people work: behind a load balancer that looks at `/health/ready`, nobody notices.

use super::full;
use super::scenario::Kept;
use crate::support::{BOUNDARY, LITERATURES, Service, multipart, part_head, pdf};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// People at work at the same time.
const PEOPLE: usize = 4;
/// Uploads that are half sent when the signal comes.
const HALF_SENT: usize = 3;

/// Ends the first instance under load and takes it out of `fleet`. `ids` are records without a PDF; answers with those that
/// have one afterwards.
pub(super) async fn run(fleet: &mut Vec<Service>, ids: &[String]) -> Vec<Kept> {
    let (busy, half) = ids.split_first().expect("there are several");
    let load = Load::start(fleet, busy);
    load.answered(if full() { 400 } else { 40 }).await;

    let leaving = fleet.remove(0);
    let mut kept = Vec::new();
    let mut uploads = Vec::new();
    for (turn, id) in half[..HALF_SENT].iter().enumerate() {
        let (id, pages) = (id.clone(), turn + 2);
        let content = pdf(pages);
        uploads.push(HalfSent::begin(leaving.port, &id, &content).await);
        kept.push(Kept { id, content, pages });
    }
    leaving.signal(rustix::process::Signal::TERM);
    // The balancer has noticed, and the instance no longer waits for new requests but for these.
    load.without(leaving.port).await;
    let other_goes_on = !fleet.is_empty();
    for upload in uploads {
        let answer = upload.finish().await;
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{answer}\n{}",
            leaving.log().join("\n")
        );
    }
    assert!(leaving.ended().await.success());
    if other_goes_on {
        load.answered(load.count() + 20).await;
    }
    load.stop().await;
    let (id, content) = (busy.clone(), pdf(1));
    kept.push(Kept {
        id,
        content,
        pages: 1,
    });
    kept
}

/// An upload of which half the file is sent.
struct HalfSent {
    socket: TcpStream,
    rest: Vec<u8>,
}

impl HalfSent {
    async fn begin(port: u16, id: &str, content: &[u8]) -> Self {
        let mut body = multipart("file", "half.pdf", content);
        let rest = body.split_off(part_head("file", "half.pdf").len() + content.len() / 2);
        let head = format!(
            "POST {LITERATURES}/{id}/pdf HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\
             content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
            body.len() + rest.len()
        );
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        socket.write_all(head.as_bytes()).await.expect("it reads");
        socket.write_all(&body).await.expect("it reads");
        Self { socket, rest }
    }

    async fn finish(mut self) -> String {
        self.socket
            .write_all(&self.rest)
            .await
            .expect("it reads to the end");
        let mut answer = Vec::new();
        let whole = tokio::time::timeout(Duration::from_secs(30), self.socket.read_to_end(&mut answer)).await;
        whole.expect("it answers").expect("it answers to the end");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// An instance as the balancer sees it.
struct Target {
    port: u16,
    ready: AtomicBool,
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

struct Load {
    targets: Arc<Vec<Target>>,
    tally: Arc<Tally>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(fleet: &[Service], id: &str) -> Self {
        let target = |service: &Service| Target {
            port: service.port,
            ready: AtomicBool::new(true),
        };
        let targets: Arc<Vec<Target>> = Arc::new(fleet.iter().map(target).collect());
        let tally = Arc::new(Tally::default());
        let mut tasks = Vec::new();
        for index in 0..targets.len() {
            let (targets, tally, client) = (targets.clone(), tally.clone(), fleet[index].client.clone());
            tasks.push(tokio::spawn(async move {
                watch(&targets[index], &tally, &client).await
            }));
        }
        for person in 0..PEOPLE {
            let (targets, tally, client) = (targets.clone(), tally.clone(), fleet[0].client.clone());
            let id = id.to_owned();
            tasks.push(tokio::spawn(async move {
                work(person, &targets, &tally, &client, &id).await
            }));
        }
        Self {
            targets,
            tally,
            tasks,
        }
    }

    fn count(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have been answered.
    async fn answered(&self, count: u64) {
        self.until(|| self.count() >= count).await;
    }

    /// Waits until the balancer no longer sends anything to this instance.
    async fn without(&self, port: u16) {
        let target = self
            .targets
            .iter()
            .find(|target| target.port == port)
            .expect("it is one of them");
        self.until(|| !target.ready.load(Ordering::Relaxed)).await;
    }

    async fn until(&self, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", self.failures());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn failures(&self) -> Vec<String> {
        self.tally
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asserts that every request was answered, and well.
    async fn stop(self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        let failures = Arc::clone(&self.tally);
        for task in self.tasks {
            task.await.expect("nobody panics");
        }
        let failures = failures
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        assert!(failures.is_empty(), "{failures:?}");
    }
}

/// Asks an instance whether it is ready, as a balancer does.
async fn watch(target: &Target, tally: &Tally, client: &Client) {
    while !tally.stop.load(Ordering::Relaxed) {
        let asked = client
            .get(format!("http://127.0.0.1:{}/health/ready", target.port))
            .send()
            .await;
        let ready = asked.is_ok_and(|answer| answer.status() == 200);
        target.ready.store(ready, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A person who does one thing after another, at an instance that is ready.
async fn work(person: usize, targets: &[Target], tally: &Tally, client: &Client, id: &str) {
    for turn in person.. {
        if tally.stop.load(Ordering::Relaxed) {
            return;
        }
        let ready: Vec<&Target> = targets
            .iter()
            .filter(|target| target.ready.load(Ordering::Relaxed))
            .collect();
        let Some(target) = ready.get(turn % ready.len().max(1)) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let outcome = match request(client, target.port, turn, id).send().await {
            Ok(answer) if answer.status().is_client_error() || answer.status().is_server_error() => {
                let status = answer.status();
                Err(format!("{status} {}", answer.text().await.unwrap_or_default()))
            }
            Ok(answer) => answer.bytes().await.map_err(|error| format!("{error:?}")),
            Err(error) => Err(format!("{error:?}")),
        };
        match outcome {
            Ok(_) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => tally
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("request {turn} to port {}: {why}", target.port)),
        }
    }
}

fn request(client: &Client, port: u16, turn: usize, id: &str) -> RequestBuilder {
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    match turn % 8 {
        0 | 1 => client.get(url(&format!("{LITERATURES}?page={}&per_page=10", turn % 3 + 1))),
        2 | 3 => client.get(url(&format!("{LITERATURES}?query=blood%20lead"))),
        4 | 5 => client.get(url(&format!("{LITERATURES}/{id}"))),
        6 => client.get(url("/health")),
        _ => client
            .post(url(&format!("{LITERATURES}/{id}/pdf")))
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(multipart("file", "busy.pdf", &pdf(1))),
    }
}
