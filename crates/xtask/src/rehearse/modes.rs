//! One scenario in the four modes, at full length with the optimised program; what it shows goes into the documentation.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::page::{self, Taken};
use crate::failure::{Failure, Result, on_path};
use crate::machine::{self, PGBOUNCER, POSTGRES, REDIS};
use crate::process::{self, cargo};
use crate::service;
use crate::workspace::Workspace;

const PAGE: &str = "docs/modes-results.md";

/// How many modes there are.
const MODES: usize = 4;

/// What a mode's test leaves behind.
#[derive(Debug, Deserialize)]
struct Record {
    mode: String,
    back_ends: String,
    passed: u32,
    steps: u32,
    start_ms: u64,
    seconds: f64,
}

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    for tool in [&POSTGRES, &REDIS, &PGBOUNCER] {
        machine::ensure(tool)?;
    }
    let program = program()?;
    let results = tempfile::tempdir()?;
    let taken = Taken::now()?;
    let mut tests = cargo();
    tests.args([
        "test",
        "--locked",
        "--package",
        "literature",
        "--test",
        "service",
        "--",
        "modes::",
    ]);
    // The page is written below. One after another, so that the times are of one mode alone.
    tests.args([
        "--skip",
        "the_table_in_the_documentation",
        "--nocapture",
        "--test-threads=1",
    ]);
    tests
        .env("TEST_PROGRAM", program)
        .env("MODES_RESULTS", results.path())
        .env("ZHUJI_TEST_FULL", "1");
    process::run(&mut tests)?;
    let records = read(results.path())?;
    if records.len() != MODES {
        return Err(format!("{} of {MODES} modes were tried: see SKIPPED above", records.len()).into());
    }
    let rows: String = records.iter().map(row).collect();
    print!("{rows}");
    let table = format!(
        "{taken}\n\n| mode | back ends | steps passed | start to `/health` 200 | all steps |\n| --- | --- | --- | --- | --- |\n{rows}"
    );
    page::replace(&workspace.root().join(PAGE), "modes", &table)?;
    let steps: u32 = records.iter().map(|record| record.passed).sum();
    let of: u32 = records.iter().map(|record| record.steps).sum();
    let slowest = records.iter().map(|record| record.start_ms).max().unwrap_or(0);
    Ok(format!(
        "{MODES} modes, {steps} of {of} steps, /health 200 after {slowest} ms at most"
    ))
}

/// The optimised program; `TEST_PROGRAM` names one that is there already, which saves minutes.
pub(super) fn program() -> Result<PathBuf> {
    match std::env::var_os("TEST_PROGRAM") {
        Some(given) => Ok(std::path::absolute(given)?),
        None => service::build(true),
    }
}

/// In the order of the files' names.
fn read(directory: &Path) -> Result<Vec<Record>> {
    let mut files: Vec<_> = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map_err(on_path(file))?;
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
    };
    files.iter().map(read).collect()
}

fn row(record: &Record) -> String {
    format!(
        "| `{}` | {} | {} of {} | {} ms | {:.1} s |\n",
        record.mode, record.back_ends, record.passed, record.steps, record.start_ms, record.seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_the_suite_compares() {
        let record =
            r#"{"mode":"cloud","back_ends":"OSS","passed":10,"steps":11,"start_ms":140,"seconds":6.04}"#;
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("3.json"), record).expect("a file");
        let records = read(directory.path()).expect("one record");
        assert_eq!(
            row(&records[0]),
            "| `cloud` | OSS | 10 of 11 | 140 ms | 6.0 s |\n"
        );
    }
}
