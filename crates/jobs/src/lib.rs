#![doc = include_str!("../README.md")]

mod adapter;
mod admin;
mod batch;
mod config;
mod context;
mod error;
mod factory;
mod health;
mod job;
mod job_error;
mod job_set;
mod jobs;
mod limit;
mod memory;
mod meters;
mod origin;
mod policy;
mod postgres;
mod record;
mod schedule;
mod scrub;
mod wake;
mod worker;

pub use adapter::{
    ClaimRequest, Claimed, Claims, Fence, Finish, Hint, JobsAdapter, NewJob, Renewed, Report, Rescued,
    SweepRequest, WorkerId,
};
pub use admin::{
    AdminAdapter, AttemptOutcome, AttemptRecord, Cancellation, DeadFilter, DeadStep, JobDetail, JobFilter,
    JobPage, JobsAdmin, QueueRecord, ScheduleRecord,
};
pub use batch::{Batch, BatchId, BatchRecord, NewBatch};
pub use config::JobsConfig;
pub use context::JobContext;
pub use error::{Error, ErrorKind, Result};
pub use factory::JobsFactory;
pub use job::{EnqueueOptions, Job, JobId};
pub use job_error::JobError;
pub use job_set::JobSet;
pub use jobs::Jobs;
pub use limit::{Limit, Rate};
pub use memory::MemoryAdapter;
pub use origin::Origin;
pub use policy::{Backoff, Policy};
pub use postgres::PostgresAdapter;
pub use record::{JobRecord, JobState, Progress, QueueCounts};
pub use schedule::{DueSchedules, Firing, NewSchedule, Schedule, ScheduleAdapter};
pub use worker::{StopReport, Worker, WorkerHandle, WorkerSettings};
