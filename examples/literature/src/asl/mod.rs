//! The module `asl`: records of literature, imported from Excel, with a PDF each whose text is extracted.
//!
//! It names no adapter and reads no environment variable: everything it touches comes with its [`Context`].

#[cfg(test)]
mod checks;
mod config;
mod excel;
mod extraction;
#[cfg(test)]
mod fixtures;
mod import;
mod list;
mod owner;
mod pdf_routes;
mod record;
mod sweep;
mod total;

use extraction::ExtractPdf;
use pdf_text as pdf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::Instrument;
use zhuji::axum::Router;
use zhuji::axum::routing::{get, post};
use zhuji::db::Migration;
use zhuji::http::{HttpResult, Problem};
use zhuji::jobs::JobSet;
use zhuji::{BoxError, Context, Manifest, Module, Need};

pub(crate) use config::AslConfig;

const MIGRATIONS: &[Migration<'static>] = &[
    Migration {
        version: 1,
        name: "literatures",
        sql: include_str!("migrations/0001_literatures.sql"),
    },
    Migration {
        version: 2,
        name: "store_owner",
        sql: include_str!("migrations/0002_store_owner.sql"),
    },
];

/// The module's state: what it was given.
#[derive(Debug)]
pub(crate) struct Asl {
    cx: Context<AslConfig>,
    imports: Semaphore,
}

/// Does `work` in a task of its own, so that it comes to its end even if the client hangs up. That task knows nothing of
/// the request but its span.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = HttpResult<T>> + Send + 'static,
) -> HttpResult<T> {
    tokio::spawn(work.in_current_span())
        .await
        .map_err(|error| Problem::internal().caused_by(&error))?
}

impl Module for Asl {
    const MANIFEST: Manifest = Manifest::new("asl")
        .needs(&[Need::Database, Need::Storage, Need::Cache, Need::Jobs])
        .migrations(MIGRATIONS)
        .isolated(&[excel::TASK, pdf::TASK]);

    type Config = AslConfig;

    async fn init(cx: Context<AslConfig>) -> Result<Self, BoxError> {
        cx.spawn(sweep::run(cx.clone()));
        Ok(Self {
            cx,
            imports: Semaphore::new(import::AT_ONCE),
        })
    }

    fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/literatures", get(list::search))
            .route("/literatures/import", post(import::import))
            .route("/literatures/{id}", get(record::show).delete(record::delete))
            .route(
                "/literatures/{id}/pdf",
                get(pdf_routes::open).post(pdf_routes::upload),
            )
            .with_state(self.clone())
    }

    fn jobs(self: &Arc<Self>, jobs: JobSet) -> JobSet {
        let module = self.clone();
        jobs.on(move |context, job: ExtractPdf| {
            let module = module.clone();
            async move { extraction::run(&module.cx, &context, &job).await }
        })
    }
}
