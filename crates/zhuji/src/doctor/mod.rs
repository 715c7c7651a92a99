//! `doctor`: everything that a service stands on, tried once, each finding with its evidence and its mend.
//!
//! The checks run side by side, each with its own deadline, so that nothing hangs and one that is down hides no other.
//! They change nothing but one probe object, which they delete again. A service has the command by itself; this is for
//! tools that have no service's program at hand.

mod clock;
mod config;
mod database;
mod disk;
mod finding;
mod llm;
mod names;
mod outbox;
mod patient;
mod redis;
mod remedies;
mod storage;
mod tls;

use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use finding::{Diagnosis, Finding, Severity};
use patient::{Part, Patient};

use crate::platform::Platform;

/// What can be typed after `doctor`.
#[derive(Args, Clone, Debug, Default)]
#[non_exhaustive]
pub struct Arguments {
    /// For machines: one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Ends with 1 when there are warnings, for CI.
    #[arg(long)]
    pub strict: bool,
    /// Only these checks, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "CHECK", value_parser = NAMES)]
    pub only: Vec<String>,
    /// How long each check may take.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = zhuji_config::parse_duration)]
    pub timeout: Duration,
    /// Below whose prefix the probe object is written. Default: the first of the service's modules that has files.
    #[arg(long, value_name = "NAME")]
    pub module: Option<String>,
}

/// What `doctor` says about its exit code.
pub const EXIT_CODES: &str =
    "Exit code: 0 nothing is broken, 1 there are warnings (with --strict), 2 something does not work.";

/// The checks, in the order of the answer.
const NAMES: [&str; 10] = [
    "config", "clock", "dns", "database", "storage", "redis", "disk", "llm", "tls", "outbox",
];

/// Examines what the settings of this process name: environment, `NAME_FILE`, `.env`, `zhuji.toml`, as a service of
/// any modules reads them. What is not set is not looked at.
///
/// Takes [`Arguments::timeout`] at most, and a little more. Safe to cancel; a probe object may then stay.
pub async fn examine(arguments: &Arguments) -> Diagnosis {
    let any_service = Platform::builder("doctor", env!("CARGO_PKG_VERSION"));
    of_service(&any_service, &[], arguments).await
}

/// Examines what the chosen modules of a service ask for.
pub(crate) async fn of_service(
    platform: &Platform,
    set: &[(String, String)],
    arguments: &Arguments,
) -> Diagnosis {
    let patient = &Patient::read(platform, arguments, set);
    let asked = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let checks = NAMES.iter().filter(|name| asked(name)).map(|name| async {
        let Some((look, overdue)) = check(name, patient) else {
            return Vec::new();
        };
        match tokio::time::timeout(arguments.timeout, look).await {
            Ok(findings) => findings,
            Err(_) => {
                let evidence = format!(
                    "no answer within {}",
                    zhuji_config::format_duration(arguments.timeout)
                );
                vec![Finding::error(name, evidence, overdue)]
            }
        }
    });
    Diagnosis {
        findings: futures_util::future::join_all(checks).await.concat(),
    }
}

type Look<'a> = BoxFuture<'a, Vec<Finding>>;

/// A check by its name, and what to do when it gets no answer.
fn check<'a>(name: &str, patient: &'a Patient<'_>) -> Option<(Look<'a>, &'static str)> {
    Some(match name {
        "config" => (async { config::findings(patient) }.boxed(), ""),
        "clock" => (clock::look(patient).boxed(), remedies::NO_ROAD_TO_OSS),
        "dns" => (
            names::look(patient).boxed(),
            "check the name servers of this machine (/etc/resolv.conf)",
        ),
        "database" => (database::look(patient).boxed(), remedies::NO_ROAD_TO_DATABASE),
        "storage" => (storage::look(patient).boxed(), remedies::NO_ROAD_TO_OSS),
        "redis" => (redis::look(patient).boxed(), remedies::NO_ROAD_TO_REDIS),
        "disk" => (
            disk::look(patient).boxed(),
            "the file system hangs: look at its mount (NFS, NAS)",
        ),
        "llm" => (llm::look(patient).boxed(), remedies::NO_ROAD_TO_LLM),
        "tls" => (
            tls::look(patient).boxed(),
            "nothing answers in time: check the addresses and the network",
        ),
        "outbox" => (
            outbox::look(patient).boxed(),
            "the file system hangs: look at its mount (NFS, NAS)",
        ),
        _ => return None,
    })
}

/// What to say about a part that is not looked at.
fn absent<T>(name: &'static str, part: &Part<T>) -> Vec<Finding> {
    match part {
        Part::Here(_) => Vec::new(),
        Part::Unneeded => vec![Finding::ok(name, "nothing asks for it")],
        Part::Unreadable => vec![Finding::info(
            name,
            "not looked at: its settings can't be used, see `config`",
        )],
    }
}
