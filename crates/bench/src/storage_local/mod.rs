//! Suite `storage-local`: files on disk, against the system calls themselves and against other people's crates that
//! promise as much (or less: what they leave out is said in the name).

mod contenders;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use tokio::task::JoinSet;

use self::contenders::Files;
use crate::field::{Field, turns};
use crate::report::Better;
use crate::suite::{Options, Suite};
use crate::versions;

const SMALL: usize = 4096;
const LARGE: usize = 64 << 20;
/// Names that one caller writes in turn: most writes replace a file, as most disks are not empty.
const NAMES: usize = 16;

const OURS: &str = "ours";
const SYSTEM_CALLS: &str = "system calls";
const OBJECT_STORE: &str = "object_store";
/// It syncs the file, and never its directory.
const OPENDAL: &str = "opendal";

/// What a write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// The end of the process.
    Rename,
    /// The end of the power.
    Fsync,
}

/// What a peer is called in the table.
fn told_name(name: &str) -> String {
    match name {
        OBJECT_STORE => format!("{name} {}", versions::of(name)),
        OPENDAL => format!("{name} {}, directory not synced", versions::of(name)),
        _ => name.to_owned(),
    }
}

/// opendal has no write that is as durable as ours, and none that is not synced at all.
fn goal(peer: &str, put: bool) -> Option<f64> {
    match peer {
        SYSTEM_CALLS => Some(0.95),
        peer if put && peer.starts_with(OPENDAL) => None,
        _ => Some(1.0),
    }
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut suite = Suite::begin("storage-local", options)?;
    std::fs::create_dir_all(suite.workspace.results())?;
    let folder = tempfile::Builder::new()
        .prefix("storage-local-")
        .tempdir_in(suite.workspace.results())?;
    for durability in [Durability::Fsync, Durability::Rename] {
        let (names, told): (&[&str], _) = match durability {
            Durability::Fsync => (&[OURS, SYSTEM_CALLS, OBJECT_STORE, OPENDAL], "fsync"),
            // opendal has no atomic write without a sync of the file.
            Durability::Rename => (&[OURS, SYSTEM_CALLS, OBJECT_STORE], "rename"),
        };
        let mut files = Vec::new();
        for name in names {
            let root = folder
                .path()
                .join(told)
                .join(name.split(' ').next().unwrap_or(name));
            files.push(Arc::new(Files::open(name, root, durability).await?));
        }
        let cases = [
            ("put 4 KiB", SMALL, 1, true),
            ("put 4 KiB", SMALL, 16, true),
            ("put 64 MiB", LARGE, 1, true),
            ("get 4 KiB", SMALL, 1, false),
            ("get 4 KiB", SMALL, 16, false),
            ("get 64 MiB", LARGE, 1, false),
        ];
        for (told_case, size, callers, put) in cases {
            let case = format!("{told_case}, {callers} in flight, {told}");
            // Reading is the same, however it was written.
            if !options.wants(&case) || (!put && durability == Durability::Rename) {
                continue;
            }
            let case = case.trim_end_matches(if put { "" } else { ", fsync" });
            let seconds = if options.quick { 0.3 } else { 0.6 };
            let bytes = Bytes::from(vec![7; size]);
            let mut field = Field::new(names.iter().map(|name| told_name(name)));
            for files in &files {
                // What is read is there, and what is written replaces something.
                fill(files, callers, &bytes).await?;
            }
            for round in 0..options.rounds() {
                for index in turns(round, files.len()) {
                    let rate = measure(&files[index], callers, seconds, &bytes, put).await?;
                    let per_second = if size == LARGE {
                        rate * (LARGE >> 20) as f64
                    } else {
                        rate
                    };
                    field.add(index, per_second);
                }
            }
            let unit = if size == LARGE { "MiB/s" } else { "ops/s" };
            suite
                .rows
                .extend(field.rows(case, unit, Better::More, |peer| goal(peer, put)));
        }
    }
    suite.end()
}

fn names(size: usize) -> usize {
    if size == LARGE { 2 } else { NAMES }
}

fn key(caller: usize, number: usize, size: usize) -> String {
    format!("pdfs/{caller}/{size}-{}.pdf", number % names(size))
}

async fn fill(files: &Arc<Files>, callers: usize, bytes: &Bytes) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (files, bytes) = (Arc::clone(files), bytes.clone());
        tasks.spawn(async move {
            for number in 0..names(bytes.len()) {
                files.put(key(caller, number, bytes.len()), bytes.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Operations per second.
async fn measure(
    files: &Arc<Files>,
    callers: usize,
    seconds: f64,
    bytes: &Bytes,
    put: bool,
) -> anyhow::Result<f64> {
    let size = bytes.len();
    if put {
        let bytes = bytes.clone();
        return call(files, callers, seconds, move |files, caller, number| {
            let bytes = bytes.clone();
            async move { files.put(key(caller, number, size), bytes).await }
        })
        .await;
    }
    call(files, callers, seconds, move |files, caller, number| async move {
        let length = files.get(key(caller, number, size)).await?;
        ensure!(length == size, "{length} bytes were read, not {size}");
        Ok(())
    })
    .await
}

async fn call<F, Fut>(files: &Arc<Files>, callers: usize, seconds: f64, one: F) -> anyhow::Result<f64>
where
    F: Fn(Arc<Files>, usize, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (files, one) = (Arc::clone(files), one.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                one(Arc::clone(&files), caller, count).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
