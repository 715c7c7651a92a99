//! Many objects from one place to another: what `cp --recursive` and `sync` share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::json;
use zhuji_config::ByteSize;
use zhuji_storage::Entry;

use super::meter::Meter;
use super::{object, say, selected};
use crate::args::Transfer;
use crate::failure::Failure;
use crate::location::{Access, Location, Place};

/// What is to be done.
pub(crate) struct Order<'a> {
    pub(crate) from: &'a Place,
    pub(crate) to: &'a Location,
    /// Each object with the key it gets.
    pub(crate) entries: Vec<(Entry, String)>,
    /// Whether what is already there may be left as it is.
    pub(crate) compare: bool,
    /// Whether the target loses what the source has not.
    pub(crate) delete: bool,
    pub(crate) how: &'a Transfer,
}

#[derive(Default)]
struct Done {
    copied: u64,
    bytes: u64,
    already_there: u64,
    deleted: u64,
    failed: u64,
}

enum Outcome {
    Copied(u64),
    AlreadyThere,
}

impl Order<'_> {
    pub(crate) async fn carry_out(self) -> Result<ExitCode, Failure> {
        if self.how.dry_run {
            return self.rehearse().await;
        }
        let state = state_directory(self.how);
        if self.entries.iter().any(|(entry, _)| entry.size >= object::LARGE) {
            create(&state)?;
        }
        let to = self.to.locate(Access::Fill)?.open().await?;
        let present = self.present(&to).await?;
        let bytes = self.entries.iter().map(|(entry, _)| entry.size).sum();
        let meter = Arc::new(Meter::new(self.entries.len() as u64, bytes));
        let mut done = Done::default();
        let transfers = self.entries.iter().map(|(entry, target)| {
            let (order, to, state, meter) = (&self, &to, &state, &meter);
            let present = present.get(target);
            async move {
                let result = order.one(to, entry, target, present, state, meter).await;
                meter.object();
                result.map_err(|failure| Failure::failed(format!("{}: {failure}", entry.key)))
            }
        });
        {
            let mut transfers =
                pin!(futures_util::stream::iter(transfers).buffer_unordered(usize::from(self.how.parallel)));
            while let Some(result) = transfers.next().await {
                match result {
                    Ok(Outcome::Copied(bytes)) => {
                        done.copied += 1;
                        done.bytes += bytes;
                    }
                    Ok(Outcome::AlreadyThere) => done.already_there += 1,
                    Err(failure) => {
                        done.failed += 1;
                        meter.complain(&failure.to_string());
                    }
                }
            }
        }
        meter.finish();
        // Never before everything else is safe.
        if self.delete && done.failed == 0 {
            let extra = self.extra(&to, &present);
            for (key, result) in extra.iter().zip(to.storage.delete_many(&extra).await) {
                match result {
                    Ok(()) => done.deleted += 1,
                    Err(error) => {
                        done.failed += 1;
                        eprintln!("{key}: {error}");
                    }
                }
            }
        }
        done.report(self.how.json, self.delete)
    }

    async fn one(
        &self,
        to: &Place,
        entry: &Entry,
        target: &str,
        present: Option<&Entry>,
        state: &Path,
        meter: &Arc<Meter>,
    ) -> Result<Outcome, Failure> {
        if let Some(present) = present
            && object::same(self.from, to, entry, present).await?
        {
            meter.bytes(entry.size);
            return Ok(Outcome::AlreadyThere);
        }
        let stored = object::copy(self.from, to, entry, target, state, meter).await?;
        if self.how.verify {
            object::read_back(to, &stored).await?;
        }
        Ok(Outcome::Copied(stored.size))
    }

    /// What the target has, as far as it matters.
    async fn present(&self, to: &Place) -> Result<HashMap<String, Entry>, Failure> {
        if !self.delete && (!self.compare || self.how.force) {
            return Ok(HashMap::new());
        }
        let mut present: HashMap<_, _> = selected(to, true)
            .await?
            .into_iter()
            .map(|entry| (entry.key.clone(), entry))
            .collect();
        if self.how.force {
            // Only to know what to delete: a size that fits nothing makes everything different.
            present.values_mut().for_each(|entry| entry.size = u64::MAX);
        }
        Ok(present)
    }

    fn extra(&self, to: &Place, present: &HashMap<String, Entry>) -> Vec<String> {
        let wanted: std::collections::HashSet<&str> =
            self.entries.iter().map(|(_, target)| target.as_str()).collect();
        let mut extra: Vec<String> = present
            .keys()
            // The object that only shares its name with the folder is no part of it.
            .filter(|key| !wanted.contains(key.as_str()) && **key != to.key)
            .cloned()
            .collect();
        extra.sort();
        extra
    }

    /// Says what would be done, and creates nothing, not even the store.
    async fn rehearse(&self) -> Result<ExitCode, Failure> {
        let to = match self.to.locate(Access::Read) {
            Ok(located) => Some(located.open().await?),
            Err(_) => None,
        };
        let present = match &to {
            Some(to) => self.present(to).await?,
            None => HashMap::new(),
        };
        let mut done = Done::default();
        let mut lines = Vec::new();
        for (entry, target) in &self.entries {
            if let (Some(to), Some(present)) = (&to, present.get(target))
                && object::same(self.from, to, entry, present).await?
            {
                done.already_there += 1;
                continue;
            }
            done.copied += 1;
            done.bytes += entry.size;
            lines.push(format!("would copy {} to {target}", entry.key));
        }
        if self.delete {
            let extra = to.as_ref().map(|to| self.extra(to, &present)).unwrap_or_default();
            done.deleted = extra.len() as u64;
            lines.extend(extra.iter().map(|key| format!("would delete {key}")));
        }
        if self.how.json {
            say(&done.json(true));
        } else {
            lines.iter().for_each(|line| say(line));
            say(&format!(
                "{} would be copied, {}",
                done.copied,
                done.rest(self.delete)
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Done {
    fn rest(&self, delete: bool) -> String {
        let mut rest = format!("{} are already there", self.already_there);
        if delete {
            rest.push_str(&format!(", {} deleted", self.deleted));
        }
        rest
    }

    fn json(&self, dry_run: bool) -> String {
        json!({
            "copied": self.copied, "bytes": self.bytes, "already_there": self.already_there,
            "deleted": self.deleted, "failed": self.failed, "dry_run": dry_run,
        })
        .to_string()
    }

    fn report(&self, json: bool, delete: bool) -> Result<ExitCode, Failure> {
        if json {
            say(&self.json(false));
        } else {
            say(&format!(
                "{} objects copied ({}), {}",
                self.copied,
                ByteSize::new(self.bytes),
                self.rest(delete)
            ));
        }
        match self.failed {
            0 => Ok(ExitCode::SUCCESS),
            failed => Err(Failure::failed(format!(
                "{failed} objects failed; run the command again, what is done is not done twice"
            ))),
        }
    }
}

fn state_directory(how: &Transfer) -> PathBuf {
    how.state.clone().unwrap_or_else(|| {
        let named = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        named("XDG_STATE_HOME")
            .or_else(|| named("HOME").map(|home| home.join(".local/state")))
            .unwrap_or_else(std::env::temp_dir)
            .join("zhuji/transfers")
    })
}

fn create(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| {
        Failure::failed(format!(
            "{}: {error}; name a directory for half-done transfers with --state",
            directory.display()
        ))
    })
}
