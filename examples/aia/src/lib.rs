#![doc = include_str!("../README.md")]

mod answer;
mod config;
mod conversations;
mod documents;
mod events;
mod ledger;
mod llm;
mod messages;
mod meters;
mod parameters;
mod passages;
mod prompt;
mod reading;
mod sweep;
mod tokens;
mod usage;

use llm::Llm;
use reading::ReadDocument;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tracing::Instrument;
use zhuji::axum::Router;
use zhuji::axum::routing::{get, post};
use zhuji::db::Migration;
use zhuji::http::{HttpResult, Problem};
use zhuji::jobs::JobSet;
use zhuji::{BoxError, Context, Manifest, Module, Need};

pub use config::AiaConfig;

const MIGRATIONS: &[Migration<'static>] = &[Migration {
    version: 1,
    name: "assistant",
    sql: include_str!("migrations/0001_assistant.sql"),
}];

/// The module's state: what it was given, and the language model.
#[derive(Debug)]
pub struct Aia {
    cx: Context<AiaConfig>,
    /// Nothing without a key: then everything but questions is answered.
    llm: Option<Llm>,
    /// A permit for each answer that is being written.
    answers: Arc<Semaphore>,
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

impl Module for Aia {
    const MANIFEST: Manifest = Manifest::new("aia")
        .needs(&[Need::Database, Need::Storage, Need::Cache, Need::Jobs])
        .migrations(MIGRATIONS)
        .isolated(&[pdf_text::TASK]);

    type Config = AiaConfig;

    async fn init(cx: Context<AiaConfig>) -> Result<Self, BoxError> {
        meters::describe_all();
        let llm = Llm::new(cx.llm(), cx.config())?;
        if llm.is_none() {
            tracing::warn!(
                "LLM_API_KEY is not set: documents and conversations can be read, questions get 503"
            );
        }
        cx.spawn(sweep::run(cx.clone()));
        let answers = Arc::new(Semaphore::new(cx.config().max_answers as usize));
        Ok(Self { cx, llm, answers })
    }

    fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/documents", get(documents::list).post(documents::upload))
            .route("/documents/{id}/file", get(documents::open))
            .route("/documents/{id}", get(documents::show).delete(documents::delete))
            .route(
                "/conversations",
                get(conversations::list).post(conversations::create),
            )
            .route(
                "/conversations/{id}",
                get(conversations::show).delete(conversations::delete),
            )
            .route(
                "/conversations/{id}/messages",
                post(messages::ask).get(messages::list),
            )
            .route("/usage", get(usage::today))
            .with_state(self.clone())
    }

    fn jobs(self: &Arc<Self>, jobs: JobSet) -> JobSet {
        let module = self.clone();
        jobs.on(move |context, job: ReadDocument| {
            let module = module.clone();
            async move { reading::run(&module.cx, &context, &job).await }
        })
    }

    /// Waits until the answers that the shutdown has broken off are stored.
    async fn stop(self: Arc<Self>, deadline: Instant) {
        let all = self.answers.acquire_many(self.cx.config().max_answers);
        let _ = tokio::time::timeout_at(deadline.into(), all).await;
    }
}
