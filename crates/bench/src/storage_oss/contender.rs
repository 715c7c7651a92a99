//! A contender in a process of its own: what it is told on standard input, it does, and answers what it took. So
//! processor time and memory are its own. The scripts around `oss2` and `ali-oss` speak the same lines.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::clients::Client;
use super::server::{BYTE, SKEWED};

/// One line of standard input.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "task")]
pub(super) enum Task {
    /// So many callers store objects of this size for so long.
    Put {
        size: u64,
        callers: usize,
        seconds: f64,
    },
    Get {
        size: u64,
        callers: usize,
        seconds: f64,
    },
    /// One object, from or to a stream.
    PutStream {
        size: u64,
    },
    GetStream {
        size: u64,
    },
    /// Objects of 4 KiB, some of which take long.
    PutMany {
        count: usize,
        in_batches: bool,
    },
}

/// One line of standard output.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Took {
    pub(super) count: u64,
    pub(super) seconds: f64,
    /// Processor seconds of this process.
    pub(super) cpu: f64,
    /// The most memory above what was resident before, in bytes.
    pub(super) peak: f64,
    pub(super) error: Option<String>,
}

pub(super) fn run(name: &str, endpoint: &str) -> anyhow::Result<()> {
    // Some peer's TLS asks for a provider of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = Arc::new(runtime.block_on(Client::new(name, endpoint))?);
    for line in std::io::stdin().lock().lines() {
        let task: Task = serde_json::from_str(&line?)?;
        let took = runtime
            .block_on(perform(&client, task))
            .unwrap_or_else(|error| Took {
                error: Some(format!("{error:#}")),
                ..Took::default()
            });
        println!("{}", serde_json::to_string(&took)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

async fn perform(client: &Arc<Client>, task: Task) -> anyhow::Result<Took> {
    // Lets the high-water mark begin at what is resident now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (before, cpu, begin) = (memory("VmRSS:"), cpu_time(), Instant::now());
    let count = match task {
        Task::Put {
            size,
            callers,
            seconds,
        } => {
            let bytes = Bytes::from(vec![BYTE; size as usize]);
            call(client, callers, seconds, move |client, key| {
                let bytes = bytes.clone();
                async move { client.put(format!("{key}-{size}"), bytes).await }
            })
            .await?
        }
        Task::Get {
            size,
            callers,
            seconds,
        } => {
            call(client, callers, seconds, move |client, key| async move {
                client.get(format!("{key}-{size}"), size).await
            })
            .await?
        }
        Task::PutStream { size } => {
            client.put_stream(format!("stream-{size}"), size).await?;
            1
        }
        Task::GetStream { size } => {
            client.get_stream(format!("stream-{size}"), size).await?;
            1
        }
        Task::PutMany { count, in_batches } => {
            let keys = (0..count).map(|index| format!("{SKEWED}/{index}-4096")).collect();
            let bytes = Bytes::from(vec![BYTE; 4096]);
            client.put_many(keys, bytes, in_batches).await?;
            count as u64
        }
    };
    Ok(Took {
        count,
        seconds: begin.elapsed().as_secs_f64(),
        cpu: cpu_time() - cpu,
        peak: (memory("VmHWM:") - before).max(0.0),
        error: None,
    })
}

/// A call that is under way at the end is waited for and counted.
async fn call<F, Fut>(client: &Arc<Client>, callers: usize, seconds: f64, one: F) -> anyhow::Result<u64>
where
    F: Fn(Arc<Client>, String) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (client, one) = (Arc::clone(client), one.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                one(Arc::clone(&client), format!("pdfs/{caller}/{count}")).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(count)
}

/// Of all threads of this process.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A field of `/proc/self/status`, in bytes.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0.0) * 1024.0
}
