#![doc = include_str!("../README.md")]

mod checks;
mod cli;
mod context;
pub mod doctor;
mod error;
pub mod http;
mod isolated;
mod meters;
mod module;
mod otel;
mod platform;
mod probe;
mod server;
mod settings;
mod shutdown;
mod watch;

pub use axum;
pub use checks::CheckSet;
pub use context::Context;
pub use error::{Error, ErrorKind};
pub use isolated::{Isolated, IsolatedError, IsolatedErrorKind, IsolatedTask, Limits};
pub use module::{Manifest, Module, Need};
pub use otel::{OtelConfig, OtlpProtocol, SamplerKind, TracesExporter};
pub use platform::Platform;
pub use server::{RequestContext, current_request};
pub use settings::{AppEnv, DeploymentMode, HttpConfig, LlmConfig, NoConfig, Role, ServiceConfig};
pub use zhuji_cache as cache;
pub use zhuji_config as config;
pub use zhuji_db_pool as db;
pub use zhuji_health as health;
pub use zhuji_jobs as jobs;
pub use zhuji_storage as storage;

/// Any error, as a module's `init` returns it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-module.md")]
struct WritingAModule;
