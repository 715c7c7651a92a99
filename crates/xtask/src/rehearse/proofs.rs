//! The long proofs at their full size: what `cargo xtask test` runs with smaller counts.

use crate::failure::Result;
use crate::test;
use crate::workspace::Workspace;

/// The tests that heed it, by what they prove.
const FULL: &str = "ZHUJI_TEST_FULL";
const PROOFS: &[(&str, &str)] = &[
    (
        "200 SIGKILLs of a local writer, with and without sidecars",
        "package(zhuji-storage) & test(killed::a_killed_writer)",
    ),
    (
        "1,000,000 hostile keys",
        "package(zhuji-storage) & test(confinement::)",
    ),
    (
        "10,000 operations with a fault in one of ten, and an outbox whose process is killed",
        "package(zhuji-storage) & (test(thousands::) | test(hybrid::) | test(silence::))",
    ),
    (
        "20 processes, 100,000 jobs, a SIGKILL each second, two restarts of PostgreSQL",
        "package(zhuji-jobs) & test(chaos::)",
    ),
    (
        "1,000,000 finished jobs beside the claim",
        "package(zhuji-jobs) & test(engine::)",
    ),
];

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    for (what, filter) in PROOFS {
        println!("{what}:");
        let nextest = ["--no-capture", "-E", filter].map(str::to_owned).to_vec();
        test::run(
            workspace,
            &test::TestArgs {
                nextest,
                variables: vec![(FULL, "1")],
                ..test::TestArgs::default()
            },
        )
        .map_err(|failure| failure.while_doing(*what))?;
    }
    Ok(format!("{} proofs at their full size", PROOFS.len()))
}
