//! What a product team implements, and the facts it declares.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use zhuji_config::Config;
use zhuji_db_pool::Migration;
use zhuji_jobs::JobSet;

use crate::isolated::IsolatedTask;
use crate::{BoxError, CheckSet, Context};

/// A product module: everything one team ships, written against the platform and nothing else.
///
/// The module's value is its own state: handlers take `State<Arc<Self>>`. It names no adapter and reads no
/// environment variable; what it may touch comes with the [`Context`], already scoped to it.
///
/// ```
/// use std::sync::Arc;
/// use zhuji::axum::{Router, extract::State, routing::get};
/// use zhuji::{BoxError, Context, Manifest, Module, Need, NoConfig};
///
/// struct Greeter { cx: Context<NoConfig> }
///
/// impl Module for Greeter {
///     const MANIFEST: Manifest = Manifest::new("greeter").needs(&[Need::Cache]);
///     type Config = NoConfig;
///
///     async fn init(cx: Context<NoConfig>) -> Result<Self, BoxError> {
///         Ok(Self { cx })
///     }
///
///     fn routes(self: &Arc<Self>) -> Router {
///         Router::new().route("/hello", get(hello)).with_state(self.clone())
///     }
/// }
///
/// async fn hello(State(module): State<Arc<Greeter>>) -> String {
///     format!("hello from {}", module.cx.name())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Zhuji module",
    note = "implement `zhuji::Module` for it: a `MANIFEST`, a `Config` type (`NoConfig` if it has no settings) and `init`"
)]
pub trait Module: Sized + Send + Sync + 'static {
    /// Facts checked before anything starts: name, schema, needs, migrations.
    const MANIFEST: Manifest;

    /// Typed settings. Give each field its full variable name under the module's own prefix (`ASL_…`).
    type Config: Config + Clone + fmt::Debug + Send + Sync + 'static;

    /// Builds the module from what it may touch. Runs once, after the module's migrations and before its routes
    /// answer. An error stops the start.
    fn init(cx: Context<Self::Config>) -> impl Future<Output = Result<Self, BoxError>> + Send;

    /// Routes, nested under `/api/v1/<name>`. Called once.
    fn routes(self: &Arc<Self>) -> Router {
        Router::new()
    }

    /// Adds the handlers of the module's background jobs. Called once in roles `all` and `worker`.
    fn jobs(self: &Arc<Self>, jobs: JobSet) -> JobSet {
        jobs
    }

    /// Adds the module's own health checks, shown as `<name>.<check>`. They are never critical: one module must
    /// not take the others out of rotation.
    fn checks(self: &Arc<Self>, checks: CheckSet) -> CheckSet {
        checks
    }

    /// Ends what the module started itself. Requests and jobs have ended by then; the pools are still open.
    /// At `deadline` the platform goes on without it.
    fn stop(self: Arc<Self>, deadline: Instant) -> impl Future<Output = ()> + Send {
        let _ = deadline;
        async {}
    }
}

/// A resource that a module asks for. What is not asked for is not handed over, and not required at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// PostgreSQL: `DATABASE_URL` becomes required.
    Database,
    /// File storage.
    Storage,
    /// The cache.
    Cache,
    /// Background jobs. On `JOBS_TYPE=postgres` this needs the database too.
    Jobs,
}

/// The facts of a module, known before anything starts.
#[derive(Debug, Clone, Copy)]
pub struct Manifest {
    pub(crate) name: &'static str,
    pub(crate) schema: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) migrations: &'static [Migration<'static>],
    pub(crate) isolated: &'static [IsolatedTask],
}

impl Manifest {
    /// A module of this name: its routes live under `/api/v1/<name>`, its keys under `<name>/`, its cache entries
    /// and jobs under `<name>`. Lower-case letters, digits and `_`, starting with a letter; checked when the
    /// program is compiled.
    ///
    /// # Panics
    /// At compile time (a `const`), if the name has another shape or more than 32 characters.
    pub const fn new(name: &'static str) -> Self {
        assert!(
            is_valid_name(name),
            "a module's name is 1 to 32 of a-z, 0-9 and _, and starts with a letter"
        );
        Self {
            name,
            schema: name,
            needs: &[],
            migrations: &[],
            isolated: &[],
        }
    }

    /// The PostgreSQL schema, if it is not called like the module.
    pub const fn schema(mut self, schema: &'static str) -> Self {
        assert!(
            is_valid_name(schema),
            "a schema's name is 1 to 32 of a-z, 0-9 and _, and starts with a letter"
        );
        self.schema = schema;
        self
    }

    /// The resources that the module uses.
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// The module's migrations, in order; applied in its own schema before [`Module::init`].
    pub const fn migrations(mut self, migrations: &'static [Migration<'static>]) -> Self {
        self.migrations = migrations;
        self
    }

    /// Tasks that run in a child process, see [`Isolated`](crate::Isolated).
    pub const fn isolated(mut self, tasks: &'static [IsolatedTask]) -> Self {
        self.isolated = tasks;
        self
    }

    /// The module's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The PostgreSQL schema of the module, whether or not it uses one.
    pub const fn schema_name(&self) -> &'static str {
        self.schema
    }

    /// Whether the module asks for this resource.
    pub fn uses(&self, need: Need) -> bool {
        self.needs_any(need)
    }

    pub(crate) fn needs_any(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }
}

const fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 32 || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut index = 0;
    while index < bytes.len() {
        let byte = bytes[index];
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_schema_or_a_path_are_refused() {
        assert!(is_valid_name("asl"));
        assert!(is_valid_name("asl_2"));
        for bad in [
            "",
            "Asl",
            "2asl",
            "a-b",
            "a/b",
            "a b",
            "文献",
            "a_name_that_is_longer_than_thirty_two",
        ] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
