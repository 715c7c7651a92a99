//! An OpenAI-compatible endpoint that does what the question asks for: its first words name a fault.
//!
//! Written on a bare socket, because the faults are those of bytes: a head that never comes, a chunk that breaks off, a
//! character in two halves.

use super::KEY;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Asked {
    /// The last message.
    pub(crate) fn question(&self) -> &str {
        let messages = self.body["messages"].as_array().expect("a list");
        messages.last().expect("one at least")["content"]
            .as_str()
            .expect("a text")
    }
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
    tries: Mutex<HashMap<String, usize>>,
    hung_up: AtomicUsize,
    only_below: Option<&'static str>,
}

/// The endpoint; it ends when it is dropped.
pub(crate) struct Endpoint {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        Self::serve(Shared::default()).await
    }

    /// One that answers 404 everywhere but below this path.
    pub(crate) async fn only_below(path: &'static str) -> Self {
        Self::serve(Shared {
            only_below: Some(path),
            ..Shared::default()
        })
        .await
    }

    async fn serve(shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(shared);
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        // What the client does to its connection is its business.
                        let _ = answer(socket, &shared).await;
                    });
                }
            }
        });
        Self { port, shared, task }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often a question was asked.
    pub(crate) fn tries(&self, question: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.question() == question)
            .count()
    }

    /// Waits until a client has hung up on an answer.
    pub(crate) async fn hung_up_on(&self) {
        let start = Instant::now();
        while self.shared.hung_up.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody hung up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn delta(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn finish() -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
}

fn usage() -> String {
    event(
        &json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}}),
    )
}

/// A whole answer: "Lead in blood 铅 falls [1]."
fn whole() -> String {
    let text: String = ["Lead ", "in blood ", "铅 ", "falls [1]."]
        .iter()
        .map(|text| delta(text))
        .collect();
    format!("{text}{}{}data: [DONE]\n\n", finish(), usage())
}

fn status(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {line}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

async fn answer(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some(asked) = read(&mut socket).await? else {
        return Ok(());
    };
    shared
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked.clone());
    if shared
        .only_below
        .is_some_and(|path| !asked.path.starts_with(path))
    {
        let page = status("404 Not Found", "", "{\"detail\":\"Not Found\"}");
        return socket.write_all(page.as_bytes()).await;
    }
    let question = asked.question().to_owned();
    let attempt = {
        let mut tries = shared.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(question.clone()).or_default();
        *tries += 1;
        *tries
    };
    let first = attempt == 1;
    let refused = |code: &str| {
        let body = json!({"error": {"message": format!("no: {KEY}"), "code": "bad"}});
        status(code, "content-type: application/json\r\n", &body.to_string())
    };
    let fault = question.split(':').next().unwrap_or_default();
    let text = match fault {
        "429 then well" if first => status("429 Too Many Requests", "retry-after: 0\r\n", "slow down"),
        "429 for an hour" => status("429 Too Many Requests", "retry-after: 3600\r\n", "slow down"),
        "429 without money" => status(
            "429 Too Many Requests",
            "",
            r#"{"error":{"message":"no","code":"insufficient_quota"}}"#,
        ),
        "500 then well" if first => refused("500 Internal Server Error"),
        "500" => refused("500 Internal Server Error"),
        "401" => refused("401 Unauthorized"),
        "400" => refused("400 Bad Request"),
        "302" => status("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
        "reset then well" if first => return Ok(()),
        "no head" => return hold(&mut socket, shared).await,
        "no token" => {
            socket.write_all(EVENTS.as_bytes()).await?;
            // Comments keep a connection alive, and are no answer.
            return repeat(&mut socket, shared, ": working on it\n\n").await;
        }
        "stall" => {
            socket
                .write_all(format!("{EVENTS}{}", delta("Lead ")).as_bytes())
                .await?;
            return hold(&mut socket, shared).await;
        }
        "stall after the end" => {
            let text = format!("{EVENTS}{}{}", delta("Lead."), finish());
            socket.write_all(text.as_bytes()).await?;
            return hold(&mut socket, shared).await;
        }
        "endless" => {
            socket.write_all(EVENTS.as_bytes()).await?;
            return repeat(&mut socket, shared, &delta("word ")).await;
        }
        "cut in a chunk" => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            format!("{head}1000\r\n{}data: {{\"choi", delta("Lead "))
        }
        "ends early" => format!("{EVENTS}{}", delta("Lead ")),
        "ends at once" => EVENTS.to_owned(),
        "garbage" => format!("{EVENTS}{}data: {{{{{{ not JSON\n\n{}", delta("Lead "), whole()),
        "page" => status(
            "200 OK",
            "content-type: text/html\r\n",
            "<html><body>Welcome to the hotel's Wi-Fi</body></html>",
        ),
        "huge line" => format!("{EVENTS}{}data: {}", delta("Lead "), "x".repeat(3 << 20)),
        "error inside" => {
            let error = event(&json!({"error": {"message": format!("overloaded {KEY}"), "code": 503}}));
            format!("{EVENTS}{}{error}{}", delta("Lead "), whole())
        }
        "json" => {
            let body = json!({
                "choices": [{"message": {"role": "assistant", "content": "Lead in one piece."}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 90, "completion_tokens": 5}
            });
            status("200 OK", "content-type: application/json\r\n", &body.to_string())
        }
        "no usage" => format!("{EVENTS}{}{}data: [DONE]\n\n", delta("Lead."), finish()),
        "line ends" => format!("{EVENTS}\u{feff}: hello\r\n\r\n{}", whole().replace('\n', "\r\n")),
        "thinking" => {
            let thought =
                event(&json!({"choices": [{"delta": {"reasoning_content": "hm", "content": null}}]}));
            format!("{EVENTS}{thought}{}", whole())
        }
        _ => format!("{EVENTS}{}", whole()),
    };
    // In small pieces that end in the middle of lines and of characters.
    let pieces = if text.len() > 100_000 { 65_536 } else { 61 };
    for piece in text.as_bytes().chunks(pieces) {
        socket.write_all(piece).await?;
        socket.flush().await?;
        tokio::task::yield_now().await;
    }
    socket.shutdown().await
}

/// Reads one request.
async fn read(socket: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0_usize);
            if bytes.len() >= end + 4 + length {
                let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let body = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).expect("JSON");
                return Ok(Some(Asked { path, head, body }));
            }
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// Says nothing more, and notes when the client has gone.
async fn hold(socket: &mut TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut byte = [0];
    while socket.read(&mut byte).await.unwrap_or(0) > 0 {}
    shared.hung_up.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Says the same again and again, until the client has gone.
async fn repeat(socket: &mut TcpStream, shared: &Shared, text: &str) -> std::io::Result<()> {
    while socket.write_all(text.as_bytes()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.hung_up.fetch_add(1, Ordering::SeqCst);
    Ok(())
}
