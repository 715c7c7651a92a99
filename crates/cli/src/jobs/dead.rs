//! `zhuji jobs dead …`.

use std::collections::BTreeMap;

use serde_json::json;
use zhuji_jobs::{DeadFilter, JobFilter, JobState, JobsAdmin};

use super::args::{DeadList, Drop, Filter, Replay};
use super::look;
use super::table::lines;
use crate::failure::Failure;
use crate::storage::say;

/// Jobs looked at in one step of a dry run.
const STEP: usize = 1000;

impl Filter {
    fn dead(&self) -> DeadFilter {
        DeadFilter {
            queue: self.queue.clone(),
            kind: self.kind.clone(),
        }
    }
}

pub(super) async fn list(jobs: &JobsAdmin, args: &DeadList) -> Result<(), Failure> {
    look::list(jobs, &args.filter, Some(JobState::Dead), &args.page).await
}

pub(super) async fn replay(jobs: &JobsAdmin, args: &Replay) -> Result<(), Failure> {
    if args.dry_run {
        return would(jobs, &args.filter, "replayed", args.json.json).await;
    }
    let count = jobs.replay_dead(args.filter.dead()).await?;
    did(count, "replayed", args.json.json);
    Ok(())
}

pub(super) async fn drop(jobs: &JobsAdmin, args: &Drop) -> Result<(), Failure> {
    if args.dry_run {
        return would(jobs, &args.filter, "dropped", args.json.json).await;
    }
    let count = jobs.drop_dead(args.filter.dead()).await?;
    did(count, "dropped", args.json.json);
    Ok(())
}

fn did(count: u64, what: &str, as_json: bool) {
    say(&if as_json {
        json!({ what: count }).to_string()
    } else {
        format!("{count} dead jobs {what}")
    });
}

/// Counts by queue and kind what a change would be about.
async fn would(jobs: &JobsAdmin, filter: &Filter, what: &str, as_json: bool) -> Result<(), Failure> {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut next = JobFilter {
        queue: filter.queue.clone(),
        kind: filter.kind.clone(),
        state: Some(JobState::Dead),
        after: None,
        limit: STEP,
    };
    loop {
        let page = jobs.list(next.clone()).await?;
        for job in page.jobs {
            *counts.entry((job.queue, job.kind)).or_default() += 1;
        }
        match page.next {
            Some(after) => next.after = Some(after),
            None => break,
        }
    }
    let total: u64 = counts.values().sum();
    if as_json {
        let of = |((queue, kind), count): (&(String, String), &u64)| json!({ "queue": queue, "kind": kind, "count": count });
        let by: Vec<_> = counts.iter().map(of).collect();
        say(&json!({ "dry_run": true, what: total, "by": by }).to_string());
        return Ok(());
    }
    let rows: Vec<_> = counts
        .into_iter()
        .map(|((queue, kind), count)| [queue, kind, count.to_string()])
        .collect();
    if !rows.is_empty() {
        lines(["QUEUE", "KIND", "DEAD"], &rows)
            .iter()
            .for_each(|line| say(line));
    }
    say(&format!("{total} dead jobs would be {what}"));
    Ok(())
}
