//! From ended spans to the collector, behind everything else: nobody waits for it, and what it can't keep up with is
//! dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::counter;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::config::{OtelConfig, pairs};
use super::encode::{Resource, request};
use super::span::Closed;
use crate::error::{Error, ErrorKind};

/// Tries at one message. The next ones are waiting behind it.
const TRIES: u32 = 3;
/// The pause before the second try; doubled for the third.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(3);

/// Where ended spans go in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue(Sender<Closed>);

impl Queue {
    /// Never waits: without room the span is dropped.
    pub(super) fn put(&self, span: Closed) {
        if self.0.try_send(span).is_err() {
            dropped("queue_full", 1);
        }
    }
}

fn dropped(reason: &'static str, spans: usize) {
    counter!("zhuji_otel_dropped_spans_total", "reason" => reason).increment(spans as u64);
}

/// The task that sends.
pub(super) struct Exporter {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Exporter {
    /// Starts it on the current runtime.
    pub(super) fn start(
        config: &OtelConfig,
        target: Url,
        resource: Resource,
    ) -> Result<(Self, Queue), Error> {
        let (send, receive) = channel(config.queue as usize);
        let stop = CancellationToken::new();
        let worker = Worker {
            http: client(&target)?,
            headers: headers(config),
            target,
            timeout: Duration::from_millis(config.timeout_ms),
            batch: config.batch as usize,
            delay: Duration::from_millis(config.delay_ms),
            resource,
            stop: stop.clone(),
            failing: false,
        };
        let task = tokio::spawn(worker.run(receive));
        Ok((Self { task, stop }, Queue(send)))
    }

    /// Sends what is left, until `deadline`.
    pub(super) async fn stop(mut self, deadline: Instant) {
        self.stop.cancel();
        if timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the last traces could not be sent in time");
        }
    }
}

struct Worker {
    http: reqwest::Client,
    target: Url,
    headers: HeaderMap,
    timeout: Duration,
    batch: usize,
    delay: Duration,
    resource: Resource,
    stop: CancellationToken,
    /// So that a collector that is down is one warning, not one with every message.
    failing: bool,
}

impl Worker {
    async fn run(mut self, mut spans: Receiver<Closed>) {
        let mut batch = Vec::with_capacity(self.batch);
        loop {
            self.fill(&mut spans, &mut batch).await;
            if batch.is_empty() {
                return;
            }
            self.send(&batch).await;
            batch.clear();
            if self.stop.is_cancelled() {
                // Nothing more comes in; what is there goes out, unless nobody takes it.
                spans.close();
                if self.failing {
                    dropped("unreachable", spans.len());
                    return;
                }
            }
        }
    }

    /// Waits for a first span, and then a while for others. Empty only at the end.
    async fn fill(&self, spans: &mut Receiver<Closed>, batch: &mut Vec<Closed>) {
        let room = self.batch;
        tokio::select! {
            biased;
            count = spans.recv_many(batch, room) => if count == 0 { return },
            () = self.stop.cancelled() => return,
        }
        let end = Instant::now() + self.delay;
        while batch.len() < room {
            let left = room - batch.len();
            tokio::select! {
                biased;
                count = spans.recv_many(batch, left) => if count == 0 { return },
                () = tokio::time::sleep_until(end) => return,
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn send(&mut self, batch: &[Closed]) {
        let body = bytes::Bytes::from(request(&self.resource, batch));
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let failure = match self.post(body.clone()).await {
                Ok(()) => {
                    counter!("zhuji_otel_exported_spans_total").increment(batch.len() as u64);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the collector takes traces again");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            let last = attempt == TRIES || !failure.again || self.stop.is_cancelled();
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!(
                    collector = %self.target,
                    error = failure.why,
                    "traces can't be sent, and are dropped meanwhile; the service goes on without \
                     (OTEL_EXPORTER_OTLP_ENDPOINT)"
                );
            }
            if last {
                dropped(if failure.again { "unreachable" } else { "refused" }, batch.len());
                return;
            }
            let wait = failure.after.unwrap_or(pause).min(LONGEST_PAUSE);
            let wait = wait.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
            pause *= 2;
        }
    }

    async fn post(&self, body: bytes::Bytes) -> Result<(), Failure> {
        let sent = self
            .http
            .post(self.target.clone())
            .headers(self.headers.clone())
            .header(http::header::CONTENT_TYPE, "application/x-protobuf")
            .timeout(self.timeout)
            .body(body)
            .send()
            .await;
        let answer = sent.map_err(|error| Failure {
            why: chain(&error.without_url()),
            again: true,
            after: None,
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get(http::header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Err(Failure {
            why: format!("it answered {status}"),
            again: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            after: after.map(Duration::from_secs),
        })
    }
}

struct Failure {
    why: String,
    /// Whether another try may help.
    again: bool,
    /// When, if the collector said so.
    after: Option<Duration>,
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The settings were checked when they were read.
fn headers(config: &OtelConfig) -> HeaderMap {
    let given = config
        .headers
        .as_ref()
        .and_then(|headers| pairs(headers.expose()));
    let given = given.into_iter().flatten();
    given
        .filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        })
        .collect()
}

fn client(target: &Url) -> Result<reqwest::Client, Error> {
    let failed = |why: &str| Error::new(ErrorKind::Process, format!("traces can't be sent: {why}"));
    let mut roots = rustls::RootCertStore::empty();
    if target.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let error = failed("the system has no root certificates");
            return Err(error.try_this("install ca-certificates or set SSL_CERT_FILE"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS can't be set up").because(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("zhuji/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .build()
        .map_err(|error| failed("the HTTP client can't be built").because(error))
}
