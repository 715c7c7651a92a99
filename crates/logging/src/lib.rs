#![doc = include_str!("../README.md")]

mod config;
mod error;
mod fields;
mod filter;
mod handle;
mod init;
mod json;
mod layer;
mod panic;
mod pretty;
mod recent;
mod redact;
mod request_id;
mod service;
mod trace_context;

pub use config::{LogConfig, LogFormat};
pub use error::{Error, ErrorKind, Result};
pub use filter::LogFilter;
pub use handle::LogHandle;
pub use init::{init, init_with, layer, subscriber_with_writer};
pub use layer::LogLayer;
pub use panic::{install_panic_hook, panic_count};
pub use recent::RecentError;
pub use redact::{is_sensitive_name, redact};
pub use request_id::RequestId;
pub use service::ServiceInfo;
pub use trace_context::{NotATraceparent, SpanId, TraceContext, TraceId};
