//! Carrying out the lifecycle rules: OSS does it by itself, a directory needs somebody who goes through it.

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rustix::{
    fs::{self, AtFlags},
    io::Errno,
};
use tokio::task::JoinHandle;

use super::{
    attributes,
    errors::from_io,
    inner::{self, Inner},
    list, rules, write,
};
use crate::{Key, LifecycleRule, Result, Swept};

/// Sweeps at once and then again and again, until it is dropped with the adapter.
#[derive(Debug)]
pub(super) struct Sweeper {
    task: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Sweeper {
    pub(super) fn start(inner: &Arc<Inner>, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(again_and_again(Arc::downgrade(inner), every, Arc::clone(&stop)));
        Self { task, stop }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // A sweep that is under way looks at this; the task that waits for the next one is aborted.
        self.stop.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

async fn again_and_again(inner: Weak<Inner>, every: Duration, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (inner, stop) = (inner.clone(), Arc::clone(&stop));
        let work = move || {
            let Some(inner) = inner.upgrade() else { return };
            match sweep(&inner, false, &stop) {
                Ok(swept) if swept.objects + swept.leftovers > 0 => {
                    let Swept {
                        objects,
                        bytes,
                        leftovers,
                        ..
                    } = swept;
                    tracing::info!(
                        objects,
                        bytes,
                        leftovers,
                        "swept the storage directory by its rules"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "could not sweep the storage directory"),
            }
        };
        if tokio::task::spawn_blocking(work).await.is_err() {
            return;
        }
    }
}

/// Removes what has expired and what interrupted uploads left; blocking.
pub(super) fn sweep(inner: &Inner, dry_run: bool, stop: &AtomicBool) -> Result<Swept> {
    let mut rules = rules::load(&inner.root)?.lifecycle.unwrap_or_default();
    rules.retain(LifecycleRule::may_expire);
    let mut walk = Walk {
        inner,
        rules,
        now: Timestamp::now(),
        swept: Swept {
            dry_run,
            ..Swept::default()
        },
        stop,
    };
    if !dry_run {
        inner.writable("sweep", "storage directory")?.keep_alive();
        walk.swept.leftovers = inner::leftovers(&inner.root, true);
    }
    if !walk.rules.is_empty() {
        walk.folder("")?;
    }
    Ok(walk.swept)
}

struct Walk<'a> {
    inner: &'a Inner,
    rules: Vec<LifecycleRule>,
    now: Timestamp,
    swept: Swept,
    stop: &'a AtomicBool,
}

impl Walk<'_> {
    /// One folder (`""` or with a final `/`).
    fn folder(&mut self, path: &str) -> Result<()> {
        let failed = |error| from_io("sweep", path, error);
        let Some((dir, names)) = list::folder(&self.inner.root, path).map_err(failed)? else {
            return Ok(());
        };
        for name in names {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if name.ends_with('/') {
                // Only where a rule could apply below.
                if self
                    .rules
                    .iter()
                    .any(|rule| rule.prefix.starts_with(&name) || name.starts_with(&rule.prefix))
                {
                    self.folder(&name)?;
                }
                continue;
            }
            let Ok(key) = Key::new(&name) else { continue };
            match fs::statat(dir.as_fd(), &name[path.len()..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.object(&key, &stat)?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }

    fn object(&mut self, key: &Key, stat: &fs::Stat) -> Result<()> {
        let Ok(modified) = Timestamp::from_nanosecond(attributes::mtime(stat)) else {
            return Ok(());
        };
        if !self
            .rules
            .iter()
            .any(|rule| rule.has_expired(key, modified, self.now))
        {
            return Ok(());
        }
        let Inner { root, sidecars, .. } = self.inner;
        let gone = self.swept.dry_run
            || write::remove_version(root, key, sidecars, stat)
                .map_err(|error| from_io("sweep", key, error))?;
        if gone {
            self.swept.note(key, stat.st_size as u64);
        }
        Ok(())
    }
}
