//! What is checked, and the process that it runs in.

use std::ffi::OsString;
use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;

use super::ModuleService;

/// Uses a running module as its users do.
pub type Exercise = fn(&ModuleService) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

/// Says to the test program that it is the service now, and with which arguments.
pub(super) const SERVE: &str = "MODULE_CHECKS_SERVE";
/// In front of the arguments: without the module's code.
pub(super) const BASELINE: &str = "baseline ";

/// The facts of a module under test. [`assert_module!`](crate::assert_module) makes one.
#[derive(Clone)]
pub struct Subject {
    pub(super) name: &'static str,
    pub(super) schema: &'static str,
    pub(super) service: &'static str,
    pub(super) database: bool,
    pub(super) cache: bool,
    pub(super) exercise: Option<Exercise>,
    pub(super) settings: Vec<(String, String)>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("module", &self.name)
            .finish_non_exhaustive()
    }
}

impl Subject {
    /// A module of this name, in this schema.
    pub fn new(name: &'static str, schema: &'static str) -> Self {
        Self {
            name,
            schema,
            service: "",
            database: false,
            cache: false,
            exercise: None,
            settings: Vec::new(),
        }
    }

    /// The path of the test that becomes the service, with the crate's name in front.
    #[must_use]
    pub fn service(mut self, test: &'static str) -> Self {
        // The test runner knows a test by its path within the crate.
        self.service = test.split_once("::").map_or(test, |(_, within)| within);
        self
    }

    /// Whether it stands on PostgreSQL.
    #[must_use]
    pub fn database(mut self, uses: bool) -> Self {
        self.database = uses;
        self
    }

    /// Whether it uses the cache.
    #[must_use]
    pub fn cache(mut self, uses: bool) -> Self {
        self.cache = uses;
        self
    }

    /// What a user does with it.
    #[must_use]
    pub fn exercise(mut self, exercise: Exercise) -> Self {
        self.exercise = Some(exercise);
        self
    }

    /// A setting that it needs.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// In the process that a check has started: runs the service. Anywhere else: nothing.
///
/// # Panics
/// If the service does not end well, so that this process does not either.
pub fn serve(run: impl FnOnce(Vec<OsString>, bool) -> ExitCode) {
    let Ok(arguments) = std::env::var(SERVE) else {
        return;
    };
    let (baseline, arguments) = match arguments.strip_prefix(BASELINE) {
        Some(arguments) => (true, arguments),
        None => (false, arguments.as_str()),
    };
    let arguments = std::iter::once("module-checks").chain(arguments.split_whitespace());
    let code = run(arguments.map(OsString::from).collect(), baseline);
    assert_eq!(code, ExitCode::SUCCESS, "the service did not end well");
}
