//! A service with two small modules and no database: what `tests/platform.rs` runs, and a page to copy from.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use zhuji::axum::extract::{Path, State};
use zhuji::axum::routing::{get, post};
use zhuji::axum::{Json, Router};
use zhuji::config::Config;
use zhuji::http::{HttpResult, Problem};
use zhuji::jobs::{Job, JobError, JobSet};
use zhuji::{
    BoxError, Context, IsolatedErrorKind, IsolatedTask, Limits, Manifest, Module, Need, NoConfig, Platform,
};

/// Settings of the module `notes`.
#[derive(Config, Clone, Debug)]
#[config(title = "Notes", prefixes("NOTES_"))]
struct NotesConfig {
    /// What every note begins with.
    #[config(env = "NOTES_GREETING", default = "hello")]
    greeting: String,
}

struct Notes {
    cx: Context<NotesConfig>,
}

impl Module for Notes {
    const MANIFEST: Manifest = Manifest::new("notes")
        .needs(&[Need::Storage, Need::Cache, Need::Jobs])
        .isolated(&[IsolatedTask {
            name: "misbehave",
            run: misbehave,
        }]);
    type Config = NotesConfig;

    async fn init(cx: Context<NotesConfig>) -> Result<Self, BoxError> {
        Ok(Self { cx })
    }

    fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/{name}", get(read).put(write).delete(forget))
            .route("/slow/{ms}", get(slow))
            .route("/isolated/{how}", post(isolated))
            .with_state(self.clone())
    }

    fn jobs(self: &Arc<Self>, jobs: JobSet) -> JobSet {
        let (notes, other) = (self.clone(), self.clone());
        jobs.on(move |_, job: Copy| {
            let notes = notes.clone();
            async move {
                notes
                    .cx
                    .storage()
                    .copy(&job.name, &format!("{}.copy", job.name))
                    .await?;
                Ok(())
            }
        })
        .on(move |_, job: Forget| {
            let notes = other.clone();
            async move {
                if !notes.cx.storage().exists(&job.name).await? {
                    return Err(JobError::fatal(format!("there is no note {}", job.name)));
                }
                notes.cx.storage().delete(&job.name).await?;
                Ok(())
            }
        })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Copy {
    name: String,
}

impl Job for Copy {
    const KIND: &'static str = "copy";
}

/// A note that is not there can't be forgotten, however often it is tried.
#[derive(serde::Serialize, serde::Deserialize)]
struct Forget {
    name: String,
}

impl Job for Forget {
    const KIND: &'static str = "forget";
}

async fn forget(State(notes): State<Arc<Notes>>, Path(name): Path<String>) -> HttpResult<Json<String>> {
    let id = notes.cx.jobs().enqueue(&Forget { name }).await?;
    Ok(Json(id.to_string()))
}

async fn write(
    State(notes): State<Arc<Notes>>,
    Path(name): Path<String>,
    body: String,
) -> HttpResult<Json<String>> {
    let text = format!("{} {body}", notes.cx.config().greeting);
    let stored = notes.cx.storage().upload(&name, text).await?;
    notes.cx.cache().set("last", &name, None).await?;
    notes.cx.jobs().enqueue(&Copy { name }).await?;
    Ok(Json(stored.url))
}

async fn read(State(notes): State<Arc<Notes>>, Path(name): Path<String>) -> HttpResult<Vec<u8>> {
    Ok(notes.cx.storage().download(&name).await?.to_vec())
}

async fn slow(Path(ms): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "at last"
}

async fn isolated(State(notes): State<Arc<Notes>>, Path(how): Path<String>) -> HttpResult<String> {
    let input = stream::iter([Ok::<_, std::convert::Infallible>(how.into_bytes().into())]);
    let limits = Limits {
        time: Duration::from_secs(2),
        memory: 256 << 20,
        output: 1 << 20,
    };
    match notes.cx.isolated().run("misbehave", input, limits).await {
        Ok(output) => Ok(String::from_utf8_lossy(&output).into_owned()),
        Err(error) => {
            let kind = match error.kind() {
                IsolatedErrorKind::Failed(message) => message.clone(),
                kind => format!("{kind:?}"),
            };
            Err(Problem::unprocessable(error.to_string())
                .with("kind", kind)
                .with("about_the_input", error.is_about_the_input()))
        }
    }
}

/// Everything that a parser of hostile files can do wrong.
fn misbehave(input: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut how = String::new();
    input
        .read_to_string(&mut how)
        .map_err(|error| error.to_string())?;
    match how.as_str() {
        "loop" => loop {
            std::hint::spin_loop();
        },
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "allocate" => drop(vec![1_u8; 4 << 30]),
        "recurse" => return Ok(vec![u8::from(depth(1) == 0)]),
        "panic" => panic!("on purpose"),
        "refuse" => return Err("this is no note".to_owned()),
        "flood" => return Ok(vec![b'x'; 2 << 20]),
        "environment" => return Ok(format!("{} variables", std::env::vars_os().count()).into_bytes()),
        "write" => {
            std::fs::write("/tmp/zhuji-isolated-wrote", "x").map_err(|error| error.kind().to_string())?
        }
        _ => {}
    }
    Ok(format!("did {how}").into_bytes())
}

fn depth(n: u64) -> u64 {
    let here = [n; 64];
    if std::hint::black_box(n) == 0 {
        0
    } else {
        depth(n + 1) + std::hint::black_box(here)[0]
    }
}

/// A second module, to be switched off.
struct Ping;

impl Module for Ping {
    const MANIFEST: Manifest = Manifest::new("ping");
    type Config = NoConfig;

    async fn init(_: Context<NoConfig>) -> Result<Self, BoxError> {
        Ok(Self)
    }

    fn routes(self: &Arc<Self>) -> Router {
        Router::new().route("/", get(|| async { "pong" }))
    }
}

fn main() -> ExitCode {
    Platform::builder("tiny", env!("CARGO_PKG_VERSION"))
        .module::<Notes>()
        .module::<Ping>()
        .run()
}
