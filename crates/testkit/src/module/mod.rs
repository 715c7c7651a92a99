//! What every product module has to pass: [`assert_module!`](crate::assert_module) writes the tests.
//!
//! Each check starts the module as the service that it will be: the test program starts itself once more as a process of
//! its own, with an empty environment but for the platform's variables, in an empty directory, on a throw-away database,
//! OSS server and Redis. What the module does to them is then compared with what a module that does nothing does.

mod checks;
mod service;
mod snapshot;
mod subject;
mod watch;
mod world;

pub use checks::{
    leaves_the_machine_alone, starts_and_is_healthy, starts_twice, stops_in_time, touches_only_its_own,
};
pub use service::{Answer, ModuleService};
pub use subject::{Exercise, Subject, serve};

/// Writes the tests that any module has to pass, as a module `module_checks` beside the caller's own tests.
///
/// ```ignore
/// // tests/module.rs of a module's crate
/// use notes::Notes;
/// use zhuji_testkit::module::ModuleService;
///
/// zhuji_testkit::assert_module!(Notes, exercise = use_it);
///
/// /// What a user does: the checks look at what the module does meanwhile.
/// async fn use_it(service: &ModuleService) {
///     assert_eq!(service.post("/notes", r#""buy paint""#).await.status, 200);
/// }
/// ```
///
/// | test | what it catches |
/// | --- | --- |
/// | `starts_and_is_healthy` | an `init` that fails, a health check of the module that does not pass, an error in the log |
/// | `starts_twice` | a migration that fails or is not applied once and for all; `init` or a route that changes the schema, or can't meet what it left behind |
/// | `touches_only_its_own` | a table, function or type outside the module's schema, an object outside its prefix, a cache entry or a job under another name |
/// | `stops_in_time` | a `stop`, a task or a request that does not end when the service is asked to |
/// | `leaves_the_machine_alone` | a variable of the environment that the module reads, a file or directory that it writes |
///
/// The type is named as it is seen beside the macro, or from `crate`; not with `super`.
/// `exercise` names an `async fn(&ModuleService)` that uses the module; without it the checks see `init`, health checks
/// and what runs by itself, and no route. `settings = ["NOTES_KEY" => "x"]` gives the settings that have no default.
/// `module_checks::start().await` starts the same service for tests of one's own.
///
/// The caller depends on `zhuji`. PostgreSQL is needed where the module asks for the database or jobs, Redis where it asks
/// for the cache (without one, the cache is in memory and a line `SKIPPED` says so).
///
/// # Limits
/// - `leaves_the_machine_alone` watches the C library (`getenv`, `open`, `mkdir` …) through a small library that `cc`
///   builds, on Linux with the GNU C library; elsewhere only the working, home and temporary directories are compared, and a
///   line `SKIPPED` says so. `std::env::vars()` and raw system calls pass by unseen: the lints of a module's `clippy.toml`
///   find the former. Variables that libraries read by convention (time zone, language, proxies, certificates, backtraces)
///   are left out, and so is a variable that the platform reads too.
/// - An isolated task can't run here: its child would have to be the service's own program.
/// - What the module does over a connection of its own to another server is not seen.
#[macro_export]
macro_rules! assert_module {
    (
        $module:ty
        $(, exercise = $exercise:path)?
        $(, settings = [$($name:literal => $value:expr),* $(,)?])?
        $(,)?
    ) => {
        mod module_checks {
            #[allow(unused_imports)]
            use super::*;

            $crate::__module_service!($module $(, exercise = $exercise)? $(, settings = [$($name => $value),*])?);

            #[test]
            fn starts_and_is_healthy() {
                $crate::module::starts_and_is_healthy(&subject());
            }

            #[test]
            fn starts_twice() {
                $crate::module::starts_twice(&subject());
            }

            #[test]
            fn touches_only_its_own() {
                $crate::module::touches_only_its_own(&subject());
            }

            #[test]
            fn stops_in_time() {
                $crate::module::stops_in_time(&subject());
            }

            #[test]
            fn leaves_the_machine_alone() {
                $crate::module::leaves_the_machine_alone(&subject());
            }
        }
    };
}

/// The service of one module, and what the checks have to know of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __module_service {
    (
        $module:ty
        $(, exercise = $exercise:path)?
        $(, settings = [$($name:literal => $value:expr),*])?
    ) => {
        /// The same facts, and no code: what is left is the platform's own doing.
        struct Baseline;

        impl ::zhuji::Module for Baseline {
            const MANIFEST: ::zhuji::Manifest =
                <$module as ::zhuji::Module>::MANIFEST.migrations(&[]).isolated(&[]);
            type Config = <$module as ::zhuji::Module>::Config;

            async fn init(_: ::zhuji::Context<Self::Config>) -> Result<Self, ::zhuji::BoxError> {
                Ok(Self)
            }
        }

        fn subject() -> $crate::module::Subject {
            let manifest = <$module as ::zhuji::Module>::MANIFEST;
            let uses = |need| manifest.uses(need);
            $crate::module::Subject::new(manifest.name(), manifest.schema_name())
                .service(concat!(module_path!(), "::service"))
                .database(uses(::zhuji::Need::Database) || uses(::zhuji::Need::Jobs))
                .cache(uses(::zhuji::Need::Cache))
                $(.exercise(|service| Box::pin($exercise(service))))?
                $($(.setting($name, $value))*)?
        }

        /// The module as a service, for a test of one's own.
        #[allow(dead_code)]
        pub(crate) async fn start() -> $crate::module::ModuleService {
            $crate::module::ModuleService::start(&subject()).await
        }

        #[test]
        #[ignore = "not a check: the service that the checks start"]
        fn service() {
            $crate::module::serve(|arguments, baseline| {
                let platform = ::zhuji::Platform::builder("module-checks", "0.0.0");
                let platform = match baseline {
                    true => platform.module::<Baseline>(),
                    false => platform.module::<$module>(),
                };
                platform.run_from(arguments)
            });
        }
    };
}
