//! pg-boss, a process of its own on Node.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::contender::{BATCH, Contender};
use super::postgres_pool;

/// The newest whose Node is that of the long-term releases; later ones want 22.12.
const VERSION: &str = "10.4.2";
const SCRIPT: &str = include_str!("pg_boss.mjs");
/// Fetching it, when it is not there yet.
const NPM: Duration = Duration::from_secs(60);

pub(super) struct PgBoss {
    pool: PgPool,
    node: Mutex<Node>,
}

struct Node {
    // Ends with it.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    #[serde(flatten)]
    rest: Value,
}

impl PgBoss {
    /// Fetches it once, into a folder below `cache`.
    pub(super) async fn connect(url: &str, cache: &Path) -> anyhow::Result<Self> {
        let folder = cache.join("pg-boss");
        std::fs::create_dir_all(&folder)?;
        if !folder
            .join("node_modules/pg-boss/package.json")
            .exists_with(VERSION)
        {
            let package = json!({ "private": true, "dependencies": { "pg-boss": VERSION } });
            std::fs::write(folder.join("package.json"), package.to_string())?;
            let npm = Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--silent"])
                .current_dir(&folder)
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            let output = tokio::time::timeout(NPM, npm)
                .await
                .context("npm install took too long")?
                .context("npm")?;
            ensure!(
                output.status.success(),
                "npm install: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let script = folder.join("bench.mjs");
        std::fs::write(&script, SCRIPT)?;
        let mut child = Command::new("node")
            .arg(&script)
            .arg(url)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let node = Node {
            _child: child,
            input: input.context("a pipe")?,
            output: BufReader::new(output.context("a pipe")?).lines(),
        };
        let this = Self {
            pool: postgres_pool(url).await?,
            node: Mutex::new(node),
        };
        this.ask(json!({ "command": "enqueue", "batches": 0, "batch": 0 }))
            .await?;
        Ok(this)
    }

    async fn ask(&self, command: Value) -> anyhow::Result<Value> {
        let mut node = self.node.lock().await;
        node.input.write_all(format!("{command}\n").as_bytes()).await?;
        let line = node.output.next_line().await?.context("node has ended")?;
        let answer: Answer = serde_json::from_str(&line).context(line)?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer.rest),
        }
    }
}

trait HasVersion {
    fn exists_with(&self, version: &str) -> bool;
}

impl HasVersion for std::path::PathBuf {
    fn exists_with(&self, version: &str) -> bool {
        std::fs::read_to_string(self)
            .is_ok_and(|package| package.contains(&format!("\"version\": \"{version}\"")))
    }
}

#[async_trait(?Send)]
impl Contender for PgBoss {
    fn name(&self) -> String {
        format!("pg-boss {VERSION} (Node)")
    }

    async fn clear(&self) -> anyhow::Result<()> {
        sqlx::query("TRUNCATE pgboss.job").execute(&self.pool).await?;
        Ok(())
    }

    async fn enqueue(&self, batches: usize) -> anyhow::Result<()> {
        let command = json!({ "command": "enqueue", "batches": batches, "batch": BATCH });
        self.ask(command).await.map(drop)
    }

    async fn settle(&self) -> anyhow::Result<()> {
        sqlx::query("VACUUM (ANALYZE) pgboss.job")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn work(&self, jobs: usize) -> anyhow::Result<Duration> {
        let answer = self.ask(json!({ "command": "work", "jobs": jobs })).await?;
        let ms = answer["ms"].as_f64().context("no time in the answer")?;
        Ok(Duration::from_secs_f64(ms / 1e3))
    }

    async fn starts(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        let answer = self
            .ask(json!({ "command": "starts", "ms": duration.as_millis() as u64 }))
            .await?;
        let starts: Vec<f64> = serde_json::from_value(answer["starts"].clone())?;
        Ok(starts
            .into_iter()
            .map(|ms| Duration::from_secs_f64(ms / 1e3))
            .collect())
    }
}
