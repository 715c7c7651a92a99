//! Composing a service from modules, and running it.

mod compose;
mod defaults;
mod erased;
mod life;
mod refusals;
mod settings;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use axum::Router;
use clap::{CommandFactory, FromArgMatches};
use zhuji_cache::CacheFactory;
use zhuji_jobs::JobsFactory;
use zhuji_storage::StorageFactory;

use crate::cli::{self, Args, Command, ConfigCommand};
use crate::error::Error;
use crate::isolated::{CHILD_COMMAND, IsolatedTask, run_child};
use crate::module::{Manifest, Module};

pub(crate) use compose::{Composition, Factories, Operated, migrate};
pub(crate) use defaults::defaults;
pub(crate) use erased::{Configured, Of, Registered, Running};
pub(crate) use life::runtime;
pub(crate) use settings::{Settings, chosen_modules, collect, loader, read, schema};

/// A service: its name, the modules compiled into it, and nothing that depends on where it will run.
///
/// ```no_run
/// # use zhuji::{BoxError, Context, Manifest, Module, NoConfig};
/// # struct Asl;
/// # impl Module for Asl {
/// #     const MANIFEST: Manifest = Manifest::new("asl");
/// #     type Config = NoConfig;
/// #     async fn init(_: Context<NoConfig>) -> Result<Self, BoxError> { Ok(Self) }
/// # }
/// use std::process::ExitCode;
/// use zhuji::Platform;
///
/// fn main() -> ExitCode {
///     Platform::builder("literature", env!("CARGO_PKG_VERSION")).module::<Asl>().run()
/// }
/// ```
#[must_use = "call `run`"]
pub struct Platform {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) modules: Vec<Box<dyn Registered>>,
    pub(crate) pages: Router,
    pub(crate) factories: Factories,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("name", &self.name)
            .field("version", &self.version)
            .field(
                "modules",
                &self.manifests().map(|manifest| manifest.name).collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// A service of this name and version, which appear in logs, metrics and `application_name`.
    pub fn builder(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            modules: Vec::new(),
            pages: Router::new(),
            factories: Factories::default(),
        }
    }

    /// Compiles a module in. `MODULES` chooses at the start which of them run.
    pub fn module<M: Module>(mut self) -> Self {
        self.modules.push(Box::new(Of::<M>::new()));
        self
    }

    /// Routes of the service itself, at the root: its web page, for instance.
    pub fn pages(mut self, pages: Router) -> Self {
        self.pages = self.pages.merge(pages);
        self
    }

    /// A factory that knows more storage adapters than the built-in ones: `STORAGE_TYPE` may then name them.
    pub fn storage_factory(mut self, factory: StorageFactory) -> Self {
        self.factories.storage = factory;
        self
    }

    /// A factory that knows more cache adapters than the built-in ones: `CACHE_TYPE` may then name them.
    pub fn cache_factory(mut self, factory: CacheFactory) -> Self {
        self.factories.cache = factory;
        self
    }

    /// A factory that knows more job adapters than the built-in ones: `JOBS_TYPE` may then name them.
    pub fn jobs_factory(mut self, factory: JobsFactory) -> Self {
        self.factories.jobs = factory;
        self
    }

    /// Parses the command line and does what it says; without a command, serves until SIGTERM or Ctrl-C.
    ///
    /// Builds the tokio runtime itself and installs the log subscriber, the metrics recorder, the panic hook and
    /// the signal handlers: call it from `main`, outside any runtime.
    ///
    /// Exit codes: 0 done, 1 work was cut off or a check failed, 2 wrong usage, 69 a dependency is missing,
    /// 70 the process could not be set up, 78 wrong settings.
    pub fn run(self) -> ExitCode {
        self.run_from(std::env::args_os())
    }

    /// [`run`](Self::run) with other arguments than the process's own; the first one is the program's name. For a test
    /// that is a service itself.
    pub fn run_from(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        if arguments.get(1).is_some_and(|argument| argument == CHILD_COMMAND) {
            std::process::exit(self.run_isolated(&arguments[2..]));
        }
        let args = match self.parse(arguments) {
            Ok(args) => args,
            Err(error) => {
                // `--help` and `--version` come this way too, with exit code 0.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        match self.execute(args) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{}: {error}", std::env!("CARGO_PKG_NAME"));
                ExitCode::from(error.exit_code())
            }
        }
    }

    fn parse(&self, arguments: Vec<OsString>) -> Result<Args, clap::Error> {
        let command = Args::command()
            .name(self.name)
            .bin_name(self.name)
            .version(self.version);
        let matches = command.try_get_matches_from(arguments)?;
        Args::from_arg_matches(&matches)
    }

    fn execute(self, args: Args) -> Result<ExitCode, Error> {
        match args.command.clone().unwrap_or(Command::Serve) {
            Command::Serve => life::serve(self, &args.set),
            Command::Migrate => cli::migrate(&self, &args.set),
            Command::Config(ConfigCommand::Template { format }) => Ok(cli::template(&self, format)),
            Command::Config(command) => Ok(cli::config(&self, &args.set, &command)),
            Command::Doctor(arguments) => cli::doctor(&self, &args.set, &arguments),
            Command::Healthcheck { path } => Ok(cli::healthcheck(&self, &args.set, &path)),
            Command::Modules { json } => Ok(cli::modules(&self, &args.set, json)),
        }
    }

    pub(crate) fn manifests(&self) -> impl Iterator<Item = Manifest> {
        self.modules.iter().map(|module| module.manifest())
    }

    fn run_isolated(&self, arguments: &[OsString]) -> i32 {
        let text = |index: usize| arguments.get(index).and_then(|argument| argument.to_str());
        let task = text(0)
            .and_then(|name| name.split_once('.'))
            .and_then(|(module, task)| self.task(module, task));
        let number = |index| text(index).and_then(|text| text.parse().ok());
        match (number(1), number(2)) {
            (Some(memory), Some(seconds)) => run_child(task, memory, seconds),
            _ => run_child(None, 0, 0),
        }
    }

    fn task(&self, module: &str, task: &str) -> Option<IsolatedTask> {
        let manifest = self.manifests().find(|manifest| manifest.name == module)?;
        manifest.isolated.iter().find(|known| known.name == task).copied()
    }
}
