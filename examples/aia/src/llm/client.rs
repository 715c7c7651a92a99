use super::decoder::{Decoder, Queue};
use super::error::{LlmError, LlmErrorKind};
use super::retry::{pause, retry_after};
use super::wire::{ChatRequest, Piece, told};
use crate::config::AiaConfig;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use rustls::RootCertStore;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use zhuji::config::{Secret, Url};
use zhuji::{BoxError, LlmConfig};

/// How much of a refusal is read, and how long for.
const REFUSAL_BYTES: usize = 16 << 10;
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// How much of what an endpoint says goes into the log.
const TOLD_CHARS: usize = 300;
/// After the announced end, so long is waited for the connection's own end: only then can it be used again.
const TAIL: Duration = Duration::from_millis(50);

/// The endpoint that is asked. Its `Debug` and its errors hold no key.
pub(crate) struct Llm {
    http: Client,
    /// Where to ask; the second is for a base without a version where the first is not found.
    urls: Vec<Url>,
    /// Which of them answered last.
    found: AtomicUsize,
    key: Secret,
    authorization: HeaderValue,
    attempts: u32,
    first_token: Duration,
    idle: Duration,
}

impl fmt::Debug for Llm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Llm").finish_non_exhaustive()
    }
}

impl Llm {
    /// The client for these settings; nothing without a key.
    ///
    /// # Errors
    /// A key that no header can hold, no root certificates.
    pub(crate) fn new(endpoint: &LlmConfig, config: &AiaConfig) -> Result<Option<Self>, BoxError> {
        let Some(key) = endpoint.api_key.clone() else {
            return Ok(None);
        };
        // The error is not kept: it would show the key.
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| "LLM_API_KEY can't be sent: it holds a line break or another control character")?;
        authorization.set_sensitive(true);
        Ok(Some(Self {
            http: client(&endpoint.base_url, config.connect_timeout)?,
            urls: addresses(&endpoint.base_url),
            found: AtomicUsize::new(0),
            key,
            authorization,
            attempts: config.llm_attempts,
            first_token: config.first_token_timeout,
            idle: config.idle_timeout,
        }))
    }

    /// Asks, and asks again as long as that can help and `deadline` allows it. Answers when the endpoint has begun to.
    ///
    /// # Errors
    /// The last try's.
    pub(crate) async fn ask(&self, request: &ChatRequest, deadline: Instant) -> Result<Reply<'_>, LlmError> {
        let body = serde_json::to_vec(request).map_err(|error| {
            LlmError::new(
                LlmErrorKind::Refused,
                format!("the question can't be written: {error}"),
            )
        })?;
        let body = Bytes::from(body);
        let mut failures = 0;
        loop {
            let error = match self.attempt(&body).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            failures += 1;
            let pause = pause(failures, error.retry_after);
            if failures >= self.attempts || !error.kind.is_retryable() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            metrics::counter!("aia_llm_retries_total").increment(1);
            tracing::debug!(%error, failures, pause_ms = pause.as_millis(), "asking the language model again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, body: &Bytes) -> Result<Reply<'_>, LlmError> {
        let first_by = Instant::now() + self.first_token;
        let at = self.found.load(Ordering::Relaxed);
        let mut response = self.send(at, body, first_by).await?;
        let other = (at + 1) % self.urls.len();
        if other != at && [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&response.status())
        {
            let second = self.send(other, body, first_by).await?;
            if second.status() != StatusCode::NOT_FOUND {
                self.found.store(other, Ordering::Relaxed);
                response = second;
            }
        }
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        Ok(Reply {
            llm: self,
            response,
            decoder: Decoder::default(),
            queue: Queue::new(),
            first_by: Some(first_by),
            finished: false,
        })
    }

    async fn send(&self, at: usize, body: &Bytes, by: Instant) -> Result<Response, LlmError> {
        let request = self
            .http
            .post(self.urls[at].clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream, application/json")
            .body(body.clone())
            .send();
        match timeout_at(by, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(LlmError::new(LlmErrorKind::Connect, self.scrubbed(&chain(error)))),
            Err(_elapsed) => Err(self.late(LlmErrorKind::FirstToken)),
        }
    }

    /// What an answer that is not 2xx says.
    async fn refusal(&self, mut response: Response) -> LlmError {
        let status = response.status();
        let asked_for = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let asked_for = asked_for.and_then(|header| retry_after(header, jiff::Timestamp::now()));
        let mut body = Vec::new();
        let read = async {
            while body.len() < REFUSAL_BYTES
                && let Ok(Some(bytes)) = response.chunk().await
            {
                body.extend_from_slice(&bytes);
            }
        };
        // What has arrived by then is used; the status is known anyway.
        let _ = timeout(REFUSAL_TIME, read).await;
        body.truncate(REFUSAL_BYTES);
        let error = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let said = match error.as_ref().and_then(|body| body.get("error")) {
            Some(error) => told(error),
            None => String::from_utf8_lossy(&body).into_owned(),
        };
        let exhausted = said.contains("insufficient_quota");
        let kind = match status.as_u16() {
            401..=403 => LlmErrorKind::Denied,
            // The account has no money left, which waiting does not mend.
            429 if exhausted => LlmErrorKind::Denied,
            429 => LlmErrorKind::RateLimited,
            500..=599 => LlmErrorKind::Server,
            _ => LlmErrorKind::Refused,
        };
        LlmError {
            kind,
            reason: self.scrubbed(&format!("status {}: {said}", status.as_u16())),
            retry_after: asked_for,
        }
    }

    fn late(&self, kind: LlmErrorKind) -> LlmError {
        let (limit, what) = match kind {
            LlmErrorKind::FirstToken => (self.first_token, "no token"),
            _ => (self.idle, "nothing more"),
        };
        LlmError::new(kind, format!("{what} within {} ms", limit.as_millis()))
    }

    /// One line for the log, without the key, should the endpoint repeat it.
    fn scrubbed(&self, text: &str) -> String {
        let text = text.replace(self.key.expose(), "***");
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match text.char_indices().nth(TOLD_CHARS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// An answer that is arriving. Dropping it closes the connection, which is how an endpoint learns that nobody listens.
pub(crate) struct Reply<'a> {
    llm: &'a Llm,
    response: Response,
    decoder: Decoder,
    queue: Queue,
    /// When the first token must be there; nothing once it is.
    first_by: Option<Instant>,
    /// The endpoint has said why the answer ends: whatever happens to the connection now, the answer is whole.
    finished: bool,
}

impl Reply<'_> {
    /// The next piece; nothing at the end of a whole answer.
    ///
    /// # Errors
    /// Too late, cut off, not understood, or the endpoint's own; nothing comes after.
    ///
    /// # Cancellation
    /// Safe: no piece is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, LlmError> {
        loop {
            match self.queue.pop_front() {
                Some(Ok(piece)) => {
                    match piece {
                        Piece::Text(_) | Piece::Thinking => self.first_by = None,
                        Piece::Finish(_) => self.finished = true,
                        Piece::Usage(_) => {}
                    }
                    return Ok(Some(piece));
                }
                Some(Err(mut error)) => {
                    error.reason = self.llm.scrubbed(&error.reason);
                    return Err(error);
                }
                None if self.decoder.has_ended() => {
                    let _ = timeout(TAIL, self.response.chunk()).await;
                    return Ok(None);
                }
                None => {}
            }
            if let Err(error) = self.receive().await {
                return if self.finished { Ok(None) } else { Err(error) };
            }
        }
    }

    async fn receive(&mut self) -> Result<(), LlmError> {
        let idle_by = Instant::now() + self.llm.idle;
        let (by, kind) = match self.first_by {
            Some(first_by) => (first_by, LlmErrorKind::FirstToken),
            None => (idle_by, LlmErrorKind::Idle),
        };
        match timeout_at(by, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => self.decoder.push(&bytes, &mut self.queue),
            Ok(Ok(None)) => {
                self.decoder.finish(&mut self.queue);
                let is_over = self
                    .queue
                    .iter()
                    .any(|piece| matches!(piece, Ok(Piece::Finish(_)) | Err(_)));
                if !is_over && !self.finished {
                    let error = match self.first_by {
                        Some(_) if self.queue.is_empty() => {
                            (LlmErrorKind::Protocol, "it ended without an answer")
                        }
                        _ => (LlmErrorKind::Cut, "it ended before the answer's end"),
                    };
                    self.queue.push_back(Err(LlmError::new(error.0, error.1)));
                }
            }
            Ok(Err(error)) => {
                return Err(LlmError::new(LlmErrorKind::Cut, self.llm.scrubbed(&chain(error))));
            }
            Err(_elapsed) => return Err(self.llm.late(kind)),
        }
        Ok(())
    }
}

/// An error and its causes, without the address, which could hold a password.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// `{base}/chat/completions`, and for a base that is a host alone `{base}/v1/chat/completions` besides: vendors give their
/// address with the version or without it.
fn addresses(base: &Url) -> Vec<Url> {
    let path = base.path().trim_end_matches('/');
    let versions: &[&str] = if path.is_empty() { &["", "/v1"] } else { &[""] };
    let paths = versions
        .iter()
        .map(|version| format!("{path}{version}/chat/completions"));
    paths
        .map(|path| {
            let mut url = base.clone();
            url.set_path(&path);
            url
        })
        .collect()
}

fn client(base: &Url, connect: Duration) -> Result<Client, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    if base.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "the system has no root certificates; install ca-certificates or set SSL_CERT_FILE".into(),
            );
        }
    }
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("zhuji-aia/", env!("CARGO_PKG_VERSION")))
        // A redirected request would carry the key to another address.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .pool_idle_timeout(Duration::from_secs(25))
        .tcp_nodelay(true);
    if base.scheme() == "http" {
        // Without TLS it is on this machine or beside it: no proxy is to see the key.
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhuji::config::load_from_pairs;

    fn llm(base: &str) -> Llm {
        let endpoint = load_from_pairs::<LlmConfig>([("LLM_API_KEY", "sk-hush"), ("LLM_BASE_URL", base)]);
        let config = load_from_pairs::<AiaConfig>([] as [(&str, &str); 0]).expect("all have defaults");
        Llm::new(&endpoint.expect("they are complete"), &config)
            .expect("they can be used")
            .expect("there is a key")
    }

    #[test]
    fn a_base_may_have_a_version_or_none() {
        for (base, expected) in [
            (
                "https://api.deepseek.com",
                &[
                    "https://api.deepseek.com/chat/completions",
                    "https://api.deepseek.com/v1/chat/completions",
                ][..],
            ),
            (
                "http://127.0.0.1:8000/v1/",
                &["http://127.0.0.1:8000/v1/chat/completions"],
            ),
            (
                "https://dashscope.aliyuncs.com/compatible-mode/v1",
                &["https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"],
            ),
        ] {
            let found: Vec<String> = addresses(&base.parse().expect("an address"))
                .iter()
                .map(Url::to_string)
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_key_is_in_no_text() {
        let llm = llm("http://127.0.0.1:1");
        let text = llm.scrubbed("Incorrect API key provided: sk-hush\r\n");
        assert_eq!(text, "Incorrect API key provided: ***  ");
        assert!(llm.scrubbed(&"文".repeat(1_000)).chars().count() <= TOLD_CHARS + 1);
        assert!(!format!("{llm:?}").contains("hush"));
        assert!(!format!("{:?}", llm.authorization).contains("hush"));
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused_without_being_shown() {
        let endpoint = LlmConfig {
            api_key: Some(Secret::new("sk-hush\nhush")),
            base_url: "http://127.0.0.1:1".parse().expect("an address"),
        };
        let config = load_from_pairs::<AiaConfig>([] as [(&str, &str); 0]).expect("all have defaults");
        let error = Llm::new(&endpoint, &config)
            .expect_err("it can't be sent")
            .to_string();
        assert!(
            error.contains("LLM_API_KEY") && !error.contains("hush"),
            "{error}"
        );
    }
}
