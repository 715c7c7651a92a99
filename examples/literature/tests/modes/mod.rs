//! One scenario in the four modes: the same program, and the back ends of each mode. Only environment variables differ.
//!
//! `cargo xtask rehearse modes` runs it at full length and writes what it finds into `docs/modes-results.md`.

mod drain;
mod link;
mod record;
mod scenario;
mod site;

use record::Record;
use site::Site;
use zhuji_testkit::{Offline, TestPgBouncer, offline};

/// What every mode has to do.
const SCENARIO: [&str; 9] = [
    "health",
    "import",
    "search",
    "upload",
    "extraction",
    "signed download",
    "deletion",
    "SIGTERM under load",
    "restart",
];
const STAYS: &str = "nothing tries to leave";
const POOLED: &str = "statements go through the pooler";
const NO_DISK: &str = "nothing on an instance's disk";
const LINK_CUT: &str = "link cut: uploads are acknowledged";
const KILLED: &str = "link cut: they survive a kill";
const LINK_BACK: &str = "link back: they arrive in order";
const RESIDENT: &str = "link cut: resident files are read and written";
const NEVER_LEAVES: &str = "resident files never leave";

/// A row of the table in the documentation.
struct Mode {
    name: &'static str,
    back_ends: &'static str,
    /// What this mode does besides the scenario.
    besides: &'static [&'static str],
}

const STANDALONE: Mode = Mode {
    name: "standalone",
    back_ends: "PostgreSQL, local disk, cache in process; no network but loopback",
    besides: &[STAYS],
};
const PRIVATE: Mode = Mode {
    name: "private",
    back_ends: "PostgreSQL, local disk, Redis; no network but loopback",
    besides: &[STAYS],
};
const HYBRID: Mode = Mode {
    name: "hybrid",
    back_ends: "PostgreSQL and an outbox on site, OSS behind a link that is cut",
    besides: &[LINK_CUT, KILLED, LINK_BACK, RESIDENT, NEVER_LEAVES],
};
const CLOUD: Mode = Mode {
    name: "cloud",
    back_ends: "two instances, PostgreSQL through PgBouncer, OSS, Redis",
    besides: &[POOLED, NO_DISK],
};
const MODES: [&Mode; 4] = [&STANDALONE, &PRIVATE, &HYBRID, &CLOUD];

impl Mode {
    fn steps(&self) -> Vec<&'static str> {
        SCENARIO.iter().chain(self.besides).copied().collect()
    }
}

/// The whole length instead of what the tests of every change have time for.
fn full() -> bool {
    std::env::var("ZHUJI_TEST_FULL").is_ok_and(|value| value == "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn standalone() {
    alone(&STANDALONE, "modes::standalone", Site::standalone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private() {
    alone(&PRIVATE, "modes::private", Site::private).await;
}

/// The scenario where no packet can leave, and nobody may try.
async fn alone(mode: &'static Mode, test: &str, site: impl AsyncFnOnce() -> Site) {
    let network = match offline(test) {
        // It has left its record already.
        Offline::Passed(said) => {
            said.lines()
                .filter(|line| line.starts_with("SKIPPED"))
                .for_each(|line| eprintln!("{line}"));
            return;
        }
        Offline::Inside(network) => Ok(network),
        Offline::Impossible(reason) => Err(reason),
    };
    let mut record = Record::new(mode);
    scenario::run(&site().await, &mut record).await;
    match network {
        Ok(network) => {
            assert_eq!(
                network.tried_to_leave(),
                0,
                "somebody tried to reach another machine"
            );
            record.passed(STAYS);
        }
        Err(reason) => record.skipped(STAYS, &reason),
    }
    record.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn hybrid() {
    let mut record = Record::new(&HYBRID);
    let site = Site::hybrid().await;
    scenario::run(&site, &mut record).await;
    link::shared_files(&site, &mut record).await;
    link::resident_files(&site, &mut record).await;
    record.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud() {
    if !TestPgBouncer::is_installed() {
        eprintln!("SKIPPED: PgBouncer is not here; cloud mode was not tried behind it");
        return;
    }
    let mut record = Record::new(&CLOUD);
    let site = Site::cloud().await;
    scenario::run(&site, &mut record).await;
    let pooled = site.pooler.as_ref().map_or(0, |pooler| pooler.connections());
    assert!(pooled > 0, "no connection was made to the pooler");
    record.passed(POOLED);
    for setup in &site.setups {
        let left: Vec<_> = std::fs::read_dir(setup.dir.path())
            .expect("it is ours")
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    record.passed(NO_DISK);
    record.end();
}

#[test]
fn the_table_in_the_documentation_is_of_this_suite() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/modes-results.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let said: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| row.split(" | ").take(3).collect())
        .collect();
    let of_suite = MODES.map(|mode| {
        let count = mode.steps().len();
        vec![
            format!("| `{}`", mode.name),
            mode.back_ends.to_owned(),
            format!("{count} of {count}"),
        ]
    });
    assert_eq!(
        said, of_suite,
        "`cargo xtask rehearse modes` writes the table anew"
    );
    for step in MODES.iter().flat_map(|mode| mode.steps()) {
        assert!(page.contains(step), "the page does not say what {step:?} is");
    }
}
