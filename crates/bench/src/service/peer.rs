//! The peer: the least that behaves the same, written as one would without Zhuji.
//!
//! `axum::serve`, tokio-postgres behind deadpool, `tokio::fs`. It answers `/health` from memory, streams a PDF to a
//! temporary file, renames it, and updates the row and inserts the job in one transaction. It keeps no metrics and no
//! log, knows no request ids, no deadlines and no orderly end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::multipart::{Field, Multipart};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use deadpool_postgres::{Manager, Pool};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio_postgres::NoTls;
use uuid::Uuid;

/// What it is called in the report.
pub(super) const NAME: &str = "axum 0.8";

/// Its tables: the records as ours has them, which is the product's choice and not the platform's, and a plain table of
/// jobs. The bench creates them, as it also puts the records in.
pub(super) const SCHEMA: &[&str] = &[
    include_str!("../../../../examples/literature/src/asl/migrations/0001_literatures.sql"),
    "create table jobs (
        id uuid primary key,
        kind text not null,
        payload jsonb not null,
        state text not null default 'queued',
        attempt integer not null default 0,
        run_at timestamptz not null default now(),
        created_at timestamptz not null default now(),
        lease_until timestamptz
    );
    create index jobs_queued on jobs (run_at) where state = 'queued'",
];

const MAX_PDF_BYTES: usize = 512 << 20;
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

type App = State<Arc<Shared>>;
/// Everything that goes wrong is a status; a minimal service says no more.
type Result<T> = std::result::Result<T, StatusCode>;

struct Shared {
    pool: Pool,
    folder: PathBuf,
    connected: AtomicBool,
}

/// Serves until it is killed. Reads `PORT`, `DATABASE_URL` and `STORAGE_LOCAL_DIR`.
pub(super) async fn run() -> anyhow::Result<()> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let database = std::env::var("DATABASE_URL")?.parse()?;
    let folder = PathBuf::from(std::env::var("STORAGE_LOCAL_DIR")?);
    tokio::fs::create_dir_all(folder.join("tmp")).await?;
    tokio::fs::create_dir_all(folder.join("pdfs")).await?;
    let pool = Pool::builder(Manager::new(database, NoTls))
        .max_size(16)
        .build()?;
    let app = Arc::new(Shared {
        pool,
        folder,
        connected: AtomicBool::new(false),
    });
    app.connected.store(ping(&app.pool).await, Ordering::Relaxed);
    tokio::spawn(watch(app.clone()));
    let router = Router::new()
        .route("/health", get(health))
        .route(
            "/pdf/{id}",
            post(upload).layer(DefaultBodyLimit::max(MAX_PDF_BYTES)),
        )
        .with_state(app);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn watch(app: Arc<Shared>) {
    loop {
        tokio::time::sleep(HEALTH_INTERVAL).await;
        app.connected.store(ping(&app.pool).await, Ordering::Relaxed);
    }
}

async fn ping(pool: &Pool) -> bool {
    match pool.get().await {
        Ok(client) => client.simple_query("select 1").await.is_ok(),
        Err(_) => false,
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    database: &'static str,
    timestamp: String,
}

async fn health(State(app): App) -> Response {
    let (status, code, database) = if app.connected.load(Ordering::Relaxed) {
        ("ok", StatusCode::OK, "connected")
    } else {
        ("error", StatusCode::SERVICE_UNAVAILABLE, "disconnected")
    };
    let timestamp = format!("{:.3}", jiff::Timestamp::now());
    (
        code,
        Json(Health {
            status,
            database,
            timestamp,
        }),
    )
        .into_response()
}

#[derive(Serialize)]
struct Uploaded {
    success: bool,
    url: String,
    size: u64,
}

async fn upload(State(app): App, UrlPath(id): UrlPath<Uuid>, mut form: Multipart) -> Result<Json<Uploaded>> {
    while let Some(field) = form.next_field().await.map_err(|_| StatusCode::BAD_REQUEST)? {
        if field.name() == Some("file") {
            return store(&app, id, field).await.map(Json);
        }
    }
    Err(StatusCode::BAD_REQUEST)
}

async fn store(app: &Shared, id: Uuid, field: Field<'_>) -> Result<Uploaded> {
    let file_name = field.file_name().unwrap_or("file.pdf").to_owned();
    let name = Uuid::new_v4();
    let (temporary, key) = (
        app.folder.join(format!("tmp/{name}")),
        format!("pdfs/{id}-{name}.pdf"),
    );
    let size = match receive(field, &temporary).await {
        Ok(size) => size,
        Err(status) => {
            let _ = tokio::fs::remove_file(&temporary).await;
            return Err(status);
        }
    };
    let stored = app.folder.join(&key);
    tokio::fs::rename(&temporary, &stored).await.map_err(internal)?;
    let url = format!("/uploads/{key}");
    match record(app, id, &file_name, &key, &url, size).await {
        Ok(replaced) => {
            if let Some(replaced) = replaced {
                let _ = tokio::fs::remove_file(app.folder.join(replaced)).await;
            }
            Ok(Uploaded {
                success: true,
                url,
                size,
            })
        }
        Err(status) => {
            let _ = tokio::fs::remove_file(&stored).await;
            Err(status)
        }
    }
}

async fn receive(mut field: Field<'_>, path: &Path) -> Result<u64> {
    let mut file = tokio::fs::File::create(path).await.map_err(internal)?;
    let mut size = 0;
    while let Some(chunk) = field.chunk().await.map_err(|error| error.status())? {
        if size == 0 && !chunk.starts_with(b"%PDF-") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        size += chunk.len() as u64;
        file.write_all(&chunk).await.map_err(internal)?;
    }
    file.flush().await.map_err(internal)?;
    if size == 0 {
        Err(StatusCode::BAD_REQUEST)
    } else {
        Ok(size)
    }
}

/// Row and job in one transaction. Answers the key of the PDF that was there before.
async fn record(
    app: &Shared,
    id: Uuid,
    name: &str,
    key: &str,
    url: &str,
    size: u64,
) -> Result<Option<String>> {
    let size = i64::try_from(size).map_err(internal)?;
    let job = Uuid::new_v4();
    let mut client = app
        .pool
        .get()
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let transaction = client.transaction().await.map_err(internal)?;
    let update =
        "update literatures set pdf_url = $2, pdf_oss_key = $3, pdf_file_name = $4, pdf_file_size = $5,
                      extraction_state = 'pending', extraction_pages = null, extraction_error = null,
                      extraction_job = $6, updated_at = now()
                  from (select id, pdf_oss_key from literatures where id = $1 for update) as old
                  where literatures.id = old.id returning old.pdf_oss_key";
    let update = transaction.prepare_cached(update).await.map_err(internal)?;
    let row = transaction
        .query_opt(&update, &[&id, &url, &key, &name, &size, &job.to_string()])
        .await
        .map_err(internal)?
        .ok_or(StatusCode::NOT_FOUND)?;
    let replaced: Option<String> = row.get(0);
    if replaced.is_some() {
        let delete = "delete from extracted_texts where literature_id = $1";
        let delete = transaction.prepare_cached(delete).await.map_err(internal)?;
        transaction.execute(&delete, &[&id]).await.map_err(internal)?;
    }
    let insert = "insert into jobs (id, kind, payload) values ($1, 'extract-pdf', $2)";
    let insert = transaction.prepare_cached(insert).await.map_err(internal)?;
    let payload = serde_json::json!({ "record": id, "key": key });
    transaction
        .execute(&insert, &[&job, &payload])
        .await
        .map_err(internal)?;
    transaction.commit().await.map_err(internal)?;
    Ok(replaced)
}

fn internal<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}
