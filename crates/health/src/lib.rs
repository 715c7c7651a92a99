#![doc = include_str!("../README.md")]

mod check;
mod heartbeat;
mod monitor;
mod phase;
mod settings;
mod snapshot;
mod state;

pub use async_trait::async_trait;
pub use check::{Check, Outcome};
pub use monitor::{HealthBuilder, HealthMonitor, Observation};
pub use phase::{Phase, Probe};
pub use settings::HealthSettings;
pub use snapshot::{CheckState, CheckStatus, DatabaseState, Snapshot, Status};
