//! The exporter against collectors that are well, slow, broken or away. What a real one makes of the messages is tested with
//! the reference service.

#![cfg(feature = "otel")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};
use zhuji_logging::{ServiceInfo, TraceContext};
use zhuji_metrics::MetricsExporter;

use super::encode::Resource;
use super::export::{Exporter, Queue};
use super::layer::{TraceLayer, wanted};
use super::sampler::Sampler;
use super::*;

/// Answers as it is told, and remembers what it was sent.
#[derive(Clone, Default)]
struct Collector {
    answers: Arc<Mutex<Vec<StatusCode>>>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    headers: Arc<Mutex<HeaderMap>>,
}

impl Collector {
    async fn start(answers: &[StatusCode]) -> (Self, String) {
        let collector = Self::default();
        *collector.answers.lock().unwrap() = answers.to_vec();
        let this = collector.clone();
        let take = move |headers: HeaderMap, body: bytes::Bytes| async move {
            *this.headers.lock().unwrap() = headers;
            this.bodies.lock().unwrap().push(body.to_vec());
            let mut answers = this.answers.lock().unwrap();
            if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0]
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum_serve(listener, app).await });
        (collector, url)
    }

    fn asked(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    fn holds(&self, text: &str) -> usize {
        let bodies = self.bodies.lock().unwrap().concat();
        bodies
            .windows(text.len())
            .filter(|window| *window == text.as_bytes())
            .count()
    }
}

/// Our own listener is what is at hand.
async fn axum_serve(listener: TcpListener, app: Router) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let service = hyper_util::service::TowerToHyperService::new(app.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

struct Traced {
    exporter: Exporter,
    subscriber: tracing::Dispatch,
}

fn traced(endpoint: &str, more: &[(&str, &str)]) -> Traced {
    let given = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let config: OtelConfig =
        zhuji_config::load_from_pairs(given.into_iter().chain(more.iter().copied())).unwrap();
    let resource = Resource::new(&resource(&config, &ServiceInfo::new("tested", "1")));
    let (exporter, queue): (_, Queue) = Exporter::start(&config, config.target().unwrap(), resource).unwrap();
    let sampler = Sampler::new(&config);
    let layer = TraceLayer { queue, sampler }.with_filter(filter_fn(wanted));
    Traced {
        exporter,
        subscriber: tracing::Dispatch::new(Registry::default().with(layer)),
    }
}

impl Traced {
    /// A request with a step of its own, as `server::respond` makes it.
    fn request(&self, caller: Option<TraceContext>, path: &str) -> TraceContext {
        let trace = caller.map_or_else(TraceContext::new, |caller| caller.child());
        tracing::dispatcher::with_default(&self.subscriber, || {
            let span = tracing::info_span!(
                "request",
                trace_id = %trace.trace_id(),
                span_id = %trace.span_id(),
                traceparent = caller.map(tracing::field::display),
            );
            let decided = decided(&span, trace);
            span.in_scope(|| {
                let _step =
                    tracing::info_span!("step", password = "hush-hush", url = "postgres://a:hush-hush@b/c")
                        .entered();
                tracing::error!(error = "secret=hush-hush", "it broke");
            });
            answered(
                &span,
                Answered {
                    method: "GET",
                    path,
                    route: None,
                    status: StatusCode::OK,
                },
            );
            decided
        })
    }

    async fn stop(self) {
        self.exporter.stop(Instant::now() + Duration::from_secs(10)).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not come about"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// With metrics of its own, on one thread, so that they are those of the test.
fn measured<F: Future<Output = ()>>(test: impl FnOnce(MetricsExporter) -> F) {
    let (exporter, recorder) = MetricsExporter::recorder("test", "1").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(test(exporter)));
}

#[test]
fn spans_arrive_with_the_headers_and_without_secrets() {
    measured(|metrics| async move {
        let (collector, url) = Collector::start(&[StatusCode::OK]).await;
        let traced = traced(
            &url,
            &[(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20of-the-collector",
            )],
        );
        traced.request(None, "/here");
        until(|| collector.holds("/here") == 1).await;
        traced.request(None, "/at-the-end");
        traced.stop().await;
        assert_eq!((collector.holds("/at-the-end"), collector.holds("step")), (1, 2));
        assert!(collector.holds("it broke") > 0 && collector.holds("service.name") > 0);
        assert_eq!(collector.holds("hush-hush"), 0);
        let headers = collector.headers.lock().unwrap().clone();
        assert_eq!(headers["authorization"], "Bearer of-the-collector");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert!(metrics.render().contains("zhuji_otel_exported_spans_total 4"));
    });
}

#[test]
fn who_is_not_sampled_is_not_sent_and_says_so_to_those_it_calls() {
    measured(|_| async move {
        let (collector, url) = Collector::start(&[StatusCode::OK]).await;
        let traced = traced(&url, &[]);
        let silent = traced.request(Some(TraceContext::new().with_sampled(false)), "/silent");
        let heard = traced.request(Some(TraceContext::new()), "/heard");
        traced.stop().await;
        assert_eq!((collector.holds("/silent"), collector.holds("/heard")), (0, 1));
        assert_eq!((silent.sampled(), heard.sampled()), (false, true));
    });
}

#[test]
fn outside_of_requests_and_jobs_there_is_no_trace() {
    measured(|_| async move {
        let (collector, url) = Collector::start(&[StatusCode::OK]).await;
        let traced = traced(&url, &[]);
        tracing::dispatcher::with_default(&traced.subscriber, || {
            let _alone = tracing::info_span!("background").entered();
            let _below = tracing::info_span!("lonely").entered();
        });
        traced.stop().await;
        assert_eq!(collector.asked(), 0);
    });
}

#[test]
fn a_collector_in_trouble_is_asked_again_and_one_that_refuses_is_not() {
    measured(|metrics| async move {
        let trouble = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK];
        let (collector, url) = Collector::start(&trouble).await;
        let patient = traced(&url, &[]);
        patient.request(None, "/again");
        until(|| collector.asked() == 2).await;
        patient.stop().await;
        assert_eq!(collector.holds("/again"), 2, "the same message");
        assert!(metrics.render().contains("zhuji_otel_exported_spans_total 2"));

        let (collector, url) = Collector::start(&[StatusCode::BAD_REQUEST]).await;
        let refused = traced(&url, &[]);
        refused.request(None, "/refused");
        until(|| {
            metrics
                .render()
                .contains("zhuji_otel_dropped_spans_total{reason=\"refused\"} 2")
        })
        .await;
        refused.stop().await;
        assert_eq!(collector.asked(), 1);
    });
}

#[test]
fn a_collector_that_is_away_costs_one_warning_and_no_time() {
    measured(|metrics| async move {
        let warnings = Arc::new(AtomicUsize::new(0));
        let counted = Registry::default().with(Warnings(warnings.clone()));
        let _guard = tracing::subscriber::set_default(counted);
        // Nobody listens there.
        let nobody = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let traced = traced(&format!("http://{nobody}"), &[("OTEL_BSP_MAX_QUEUE_SIZE", "8")]);
        let start = Instant::now();
        for _ in 0..1000 {
            traced.request(None, "/busy");
        }
        assert!(start.elapsed() < Duration::from_secs(5), "requests don't wait");
        let dropped = "zhuji_otel_dropped_spans_total{reason=\"queue_full\"} 1992";
        assert!(metrics.render().contains(dropped), "{}", metrics.render());
        let unreachable = "zhuji_otel_dropped_spans_total{reason=\"unreachable\"} 8";
        until(|| metrics.render().contains(unreachable)).await;
        traced.request(None, "/late");
        let start = Instant::now();
        traced.stop().await;
        assert!(start.elapsed() < Duration::from_secs(8), "the end comes");
        assert_eq!(warnings.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_collector_that_never_answers_does_not_hold_the_end_up() {
    measured(|_| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let traced = traced(&url, &[]);
        traced.request(None, "/silence");
        let start = Instant::now();
        traced.exporter.stop(start + Duration::from_millis(300)).await;
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(listener);
    });
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN && event.metadata().target().starts_with("zhuji")
        {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
