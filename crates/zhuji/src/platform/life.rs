//! A service's life: up, running, and down within one budget.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use zhuji_logging::ServiceInfo;
use zhuji_metrics::{MetricsExporter, MetricsListen};

use super::{Composition, Operated, Platform, Settings, collect};
use crate::error::{Error, ErrorKind};
use crate::meters;
use crate::otel::{self, Traces};
use crate::server::{AdminToken, App, Endpoints, Listener, listen};
use crate::shutdown::{Budget, Signals};
use crate::watch::Watch;

/// Of what is left of the budget after the drain delay, requests and jobs may use this much.
const WORK_SHARE: f64 = 0.7;
/// What modules may use of what is left then.
const MODULES_SHARE: f64 = 0.6;

pub(super) fn serve(platform: Platform, set: &[(String, String)]) -> Result<ExitCode, Error> {
    let settings = collect(&platform, set)?;
    let runtime = runtime()?;
    let code = runtime.block_on(run(platform, settings));
    // Whatever still blocks a thread has had its deadline.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// The runtime of every command that talks to something.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    // On one core, too: with a single worker a blocking exporter or a long parse would stop the probes.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Process, "the async runtime could not be started").because(error)
        })
}

async fn run(platform: Platform, settings: Settings) -> Result<ExitCode, Error> {
    let mut signals = Signals::install().map_err(|error| {
        Error::new(ErrorKind::Process, "the signal handlers could not be installed").because(error)
    })?;
    let (log, traces) = otel::init(&settings.log, &settings.otel, service_info(&platform, &settings))?;
    zhuji_logging::install_panic_hook();
    let exporter = MetricsExporter::install(platform.name, platform.version)
        .map_err(|error| Error::new(ErrorKind::Process, "the metrics could not be set up").because(error))?;

    meters::describe_all();
    let outcome = live(platform, settings, &log, traces, exporter, &mut signals).await;
    if let Err(error) = &outcome {
        tracing::error!(error = %error, "the service could not be started");
    }
    log.flush();
    outcome
}

async fn live(
    platform: Platform,
    mut settings: Settings,
    log: &zhuji_logging::LogHandle,
    traces: Traces,
    exporter: MetricsExporter,
    signals: &mut Signals,
) -> Result<ExitCode, Error> {
    let shared_port = settings.metrics.listen == MetricsListen::Same;
    let admin_token = settings.service.admin_token.clone();
    let admin_token = admin_token.map(|token| Arc::new(AdminToken::new(token)));
    let endpoints = |metrics| {
        Arc::new(Endpoints {
            metrics,
            log: Some(log.clone()),
            admin_token: admin_token.clone(),
            ..Endpoints::default()
        })
    };
    let public = endpoints(shared_port.then(|| exporter.clone()));
    let app = App::new(public.clone(), settings.http.body_idle_timeout);
    // The listener opens first: probes get an answer while migrations run.
    let socket = bind(&settings.service.host, settings.service.port, "PORT").await?;
    let listener = start(socket, app.clone(), &settings)?;
    let operator = endpoints(Some(exporter.clone()));
    let metrics_listener = match settings.metrics.listen {
        MetricsListen::Address(address) => {
            let app = App::new(operator.clone(), settings.http.body_idle_timeout);
            // Nothing but probes and metrics there.
            app.open(Router::new());
            Some(start(
                bind(&address.ip().to_string(), address.port(), "METRICS_LISTEN").await?,
                app,
                &settings,
            )?)
        }
        _ => None,
    };

    let service = Composition::new(&platform.factories, &mut settings, listener.address().port());
    let mut service = tokio::select! {
        service = service => service?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the start was complete");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let health = service.start_health(platform.version).await;
    let operated = Operated {
        name: platform.name,
        version: platform.version,
        token: admin_token,
        log: log.clone(),
        health: health.clone(),
        metrics: exporter,
    };
    let router = service.router(platform.pages, &settings, operated);
    service.start_workers(settings.service.role);
    // A second `set` can't happen: both cells are made above.
    let _ = public.health.set(health.clone());
    let _ = operator.health.set(health.clone());
    app.open(router);
    health.mark_ready();
    let _watch = Watch::start(&settings);
    tracing::info!(
        address = %listener.address(),
        mode = settings.service.mode().as_str(),
        modules = service.names().join(","),
        "listening"
    );

    let name = signals.next().await;
    tracing::info!(signal = name, "shutting down");
    let budget = Budget::start(settings.service.shutdown_timeout);
    let orderly = async {
        health.mark_draining();
        app.drain();
        tokio::time::sleep(settings.service.drain_delay.min(budget.left().mul_f64(0.5))).await;
        let clean = stop(service, listener, metrics_listener, health, budget).await;
        // What the last requests and jobs have left behind. A collector that is away must not cost the clean end.
        traces.flush(budget.phase(0.5)).await;
        clean
    };
    let clean = tokio::select! {
        clean = orderly => clean,
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: ending at once");
            false
        }
    };
    tracing::info!(clean, "stopped");
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything after the drain delay; says whether nothing was cut off.
async fn stop(
    mut service: Composition,
    listener: Listener,
    metrics_listener: Option<Listener>,
    health: zhuji_health::HealthMonitor,
    budget: Budget,
) -> bool {
    let work = budget.phase(WORK_SHARE);
    // Together: a request may wait for nothing that a job does, and the time is short.
    let (requests, jobs) = tokio::join!(listener.stop(work), service.stop_workers(work));
    if requests.cut > 0 {
        tracing::warn!(connections = requests.cut, "connections were cut at the deadline");
    }
    service.stop_modules(budget.phase(MODULES_SHARE)).await;
    health.shutdown().await;
    let pools = service.close(budget.phase(0.8)).await;
    if let Some(listener) = metrics_listener {
        listener.stop(budget.phase(0.5)).await;
    }
    requests.cut == 0 && jobs && pools
}

async fn bind(host: &str, port: u16, variable: &str) -> Result<TcpListener, Error> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("stop what listens there, or choose another {variable}"),
            std::io::ErrorKind::PermissionDenied => format!("choose a {variable} above 1023"),
            _ => format!("check HOST and {variable}"),
        };
        Error::new(ErrorKind::Listen, format!("can't listen on {host}:{port}"))
            .because(error)
            .try_this(next)
    })
}

fn start(socket: TcpListener, app: App, settings: &Settings) -> Result<Listener, Error> {
    listen(socket, app, &settings.http)
        .map_err(|error| Error::new(ErrorKind::Listen, "the listener has no address").because(error))
}

fn service_info(platform: &Platform, settings: &Settings) -> ServiceInfo {
    ServiceInfo::new(platform.name, platform.version)
        .with_env(format!("{:?}", settings.service.env).to_lowercase())
}
