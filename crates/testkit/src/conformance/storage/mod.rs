//! What every storage adapter promises.
//!
//! Hand [`run`] a harness with an empty store whose signed URLs can be fetched, and print the report:
//!
//! ```no_run
//! # use zhuji_testkit::conformance::storage::{self, StorageHarness};
//! # async fn test(harness: &dyn StorageHarness) {
//! let report = storage::run(harness).await;
//! println!("{report}");
//! report.assert_passed();
//! # }
//! ```

// A case fails by panicking; the runner catches it.
#![allow(clippy::unwrap_used)]

mod basic;
mod bulk;
mod content;
mod http;
mod keys;
mod listing;
mod object_http;
mod streams;
mod writers;

use std::{fmt, time::Duration};

use tokio::time::Instant;
use zhuji_storage::Storage;

pub use object_http::ObjectHttp;

/// No case may take longer.
const LIMIT: Duration = Duration::from_secs(120);

/// One adapter, ready to be examined.
pub trait StorageHarness: Send + Sync {
    /// How the report calls it.
    fn name(&self) -> &str;

    /// The store, empty. Its signed URLs have to lead to a running server.
    fn storage(&self) -> &Storage;

    /// A prefix of the whole store, with a final `/`, whose objects everyone may read (`STORAGE_PUBLIC_PREFIXES`). `None`
    /// skips the case about it.
    fn public_prefix(&self) -> Option<&str> {
        None
    }

    /// Why this adapter can't do a case; the report prints it. `None` runs the case.
    fn skip(&self, _case: &str) -> Option<&str> {
        None
    }

    /// Looks for what a finished case may have left behind the adapter's back (temporary files, unfinished uploads).
    ///
    /// # Errors
    /// What was found.
    fn leftovers(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a case works with: its own part of the store, and a client for URLs.
#[derive(Clone, Debug)]
struct Case {
    storage: Storage,
    /// The public part of the store.
    public: Option<Storage>,
    http: reqwest::Client,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// As promised.
    Passed,
    /// Not run, and why.
    Skipped(String),
    /// Broken, and how.
    Failed(String),
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct ConformanceReport {
    /// The adapter.
    pub name: String,
    /// Case, outcome and duration, in the order of the run.
    pub cases: Vec<(&'static str, CaseOutcome, Duration)>,
}

impl ConformanceReport {
    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == CaseOutcome::Passed)
    }

    /// How many cases were skipped.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, CaseOutcome::Skipped(_)))
    }

    fn count(&self, wanted: impl Fn(&CaseOutcome) -> bool) -> usize {
        self.cases
            .iter()
            .filter(|(_, outcome, _)| wanted(outcome))
            .count()
    }

    /// Panics with the failed cases, if there are any.
    ///
    /// # Panics
    /// If a case failed.
    #[track_caller]
    pub fn assert_passed(&self) {
        let failed = self.count(|outcome| matches!(outcome, CaseOutcome::Failed(_)));
        assert!(failed == 0, "{failed} cases failed\n{self}");
    }
}

impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "storage conformance of {}", self.name)?;
        for (case, outcome, took) in &self.cases {
            match outcome {
                CaseOutcome::Passed => writeln!(f, "  passed   {case} ({took:.0?})")?,
                CaseOutcome::Skipped(why) => writeln!(f, "  skipped  {case}: {why}")?,
                CaseOutcome::Failed(how) => writeln!(f, "  FAILED   {case}: {how}")?,
            }
        }
        write!(
            f,
            "  {} passed, {} skipped of {}",
            self.passed(),
            self.skipped(),
            self.cases.len()
        )
    }
}

/// Names each case after its function.
macro_rules! cases {
    ($case:expr, $run:ident: $($module:ident::{$($name:ident),* $(,)?}),* $(,)?) => {
        $($(
            $run(concat!(stringify!($module), "_", stringify!($name)), Box::pin($module::$name($case.clone()))).await;
        )*)*
    };
}

/// Runs all cases, one after the other.
pub async fn run(harness: &dyn StorageHarness) -> ConformanceReport {
    let mut cases = Vec::new();
    let http = crate::http_client();
    let whole = harness.storage().clone();
    let names = std::sync::atomic::AtomicUsize::new(0);
    let fresh = || {
        let number = names.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Case {
            storage: whole.scoped(&format!("case-{number}")),
            public: harness.public_prefix().map(|prefix| whole.scoped(prefix)),
            http: http.clone(),
        }
    };
    let mut one = async |name: &'static str, case: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let started = Instant::now();
        let no_public = (name == "http_public" && harness.public_prefix().is_none())
            .then_some("this harness has no public prefix");
        let outcome = match harness.skip(name).or(no_public) {
            Some(why) => CaseOutcome::Skipped(why.to_owned()),
            None => settle(harness, case).await,
        };
        cases.push((name, outcome, started.elapsed()));
    };
    cases!(fresh(), one:
        basic::{round_trip, empty, large, overwrite, missing, delete, copy, etags, if_match},
        keys::{weird, invalid, key_and_deeper_key, scoped},
        content::{types, disposition, metadata, survive_copy, refused},
        streams::{unknown_length, asked_after_its_end, long, declared_length, wrong_length, error, long_error, dropped, ranges, invalid_ranges},
        writers::{create_only, create_only_race, torn_reads, overwrite_in_stream},
        listing::{order, paging, prefixes, folders, folder_paging},
        bulk::{upload_many, delete_many},
        http::{
            signed_get, signed_name, signed_range, signed_head, expired, tampered, wrong_method, unsigned, public, signed_put,
            signed_put_type, signed_put_no_type, missing_object, sign_options
        },
    );
    ConformanceReport {
        name: harness.name().to_owned(),
        cases,
    }
}

async fn settle(
    harness: &dyn StorageHarness,
    case: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
) -> CaseOutcome {
    let task = tokio::spawn(case);
    let abort = task.abort_handle();
    match tokio::time::timeout(LIMIT, task).await {
        Err(_) => {
            abort.abort();
            CaseOutcome::Failed(format!("not finished after {LIMIT:?}"))
        }
        Ok(Err(panic)) => CaseOutcome::Failed(panic_text(panic)),
        Ok(Ok(())) => match harness.leftovers() {
            Ok(()) => CaseOutcome::Passed,
            Err(found) => CaseOutcome::Failed(format!("left behind: {found}")),
        },
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => (*text).to_owned(),
            (None, None) => "panicked".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// Bytes that look random and are the same every time.
fn noise(length: usize, seed: u64) -> bytes::Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0_u8; length];
    random.fill(&mut bytes);
    bytes.into()
}

/// The kind of an error; panics on success.
#[track_caller]
fn kind<T>(result: Result<T, zhuji_storage::Error>) -> zhuji_storage::ErrorKind {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(error) => error.kind(),
    }
}
