//! One suite over every adapter: what the queue promises must hold wherever the jobs are.

// An unwrap in a test is an assertion; clippy only knows that inside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod fleet;
mod ownership;
mod queueing;
mod running;
mod span;

use std::time::Duration;

use zhuji_health::Outcome;
use zhuji_jobs::{ErrorKind, JobSet, Jobs, JobsConfig, JobsFactory, WorkerHandle, WorkerSettings};

use admin::*;
use common::{Note, Seen};
use fleet::*;
use ownership::*;
use queueing::*;
use running::*;

pub(crate) fn recorder(seen: &Seen<String>) -> JobSet {
    let seen = seen.clone();
    JobSet::new().on(async move |_, job: Note| {
        seen.add(job.text);
        Ok(())
    })
}

pub(crate) fn start(jobs: &Jobs, set: JobSet) -> WorkerHandle {
    jobs.worker(set, WorkerSettings::default()).start()
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("memory").await })* }
        mod postgres { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() { super::$case("postgres").await })* }
    };
}

suite!(
    a_job_runs_and_is_done,
    a_failure_is_tried_again,
    a_fatal_error_and_the_last_attempt_are_the_end,
    a_panic_and_a_timeout_are_failed_attempts,
    data_that_does_not_fit_is_a_failed_attempt,
    delays_and_priorities_are_kept,
    a_unique_key_lets_one_unfinished_job_in,
    what_a_stopping_worker_hands_back_runs_elsewhere_with_the_same_number,
    a_late_completion_is_fenced,
    the_last_attempts_lost_worker_is_the_end,
    a_lease_is_renewed_as_long_as_the_handler_runs,
    a_worker_that_vanishes_is_replaced_after_its_lease,
    a_thousand_jobs_and_four_workers_each_once,
    the_process_limit_holds_over_all_workers,
    queues_and_kinds_keep_apart,
    lost_claims_are_given_back,
    no_two_claims_of_a_job_have_the_same_fence,
    the_end_of_an_attempt_leaves_the_next_one_its_lease,
    old_finished_jobs_are_forgotten,
    what_can_not_be_stored_is_refused,
    the_context_carries_the_trace,
    jobs_are_listed_page_by_page,
    a_job_tells_its_history_progress_and_result,
    a_waiting_job_is_cancelled_at_once,
    a_running_job_is_told_that_it_is_cancelled,
    a_cancelled_jobs_lost_or_failed_attempt_is_its_end,
    a_paused_queue_waits_until_it_is_resumed,
    dead_jobs_are_replayed_or_dropped,
    a_queues_limit_holds_over_the_fleet,
    a_rate_holds_over_the_fleet,
    a_limited_kind_does_not_hold_up_others,
    every_tick_fires_once_in_a_fleet,
    two_schedulers_fire_a_tick_once_and_missed_ones_once,
    an_entry_fires_only_where_the_program_has_it,
    what_follows_a_batch_runs_when_all_of_it_has_ended,
);

#[tokio::test]
async fn settings_that_can_not_work_are_refused() {
    let kind = |kind: &str| JobsConfig {
        kind: kind.into(),
        ..JobsConfig::default()
    };
    for (config, part) in [
        (kind("postgres"), "DATABASE_URL"),
        (kind("redis"), "postgres, memory"),
        (
            JobsConfig {
                lease: Duration::ZERO,
                ..kind("memory")
            },
            "JOBS_LEASE",
        ),
    ] {
        let error = JobsFactory::new().build(&config, None).await.expect_err(part);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
    let jobs = JobsFactory::new()
        .build(&kind("memory"), None)
        .await
        .expect("needs nothing");
    assert_eq!(
        (jobs.adapter_name(), jobs.health_check().run().await),
        ("memory", Outcome::Up)
    );
}
