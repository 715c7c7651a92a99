#![doc = include_str!("../README.md")]

mod buckets;
mod config;
mod describe;
mod error;
mod exporter;
mod process;
mod text;

pub use buckets::{BYTES, SECONDS};
pub use config::{MetricsConfig, MetricsListen};
pub use describe::{Metric, describe};
pub use error::{Error, ErrorKind, Result};
pub use exporter::{CONTENT_TYPE, MetricsExporter};
