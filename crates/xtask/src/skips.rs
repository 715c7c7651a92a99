//! What the tests left out.
//!
//! A test that lacks something says `SKIPPED …` and passes, and a runner shows nothing of what passing tests say. So
//! nextest keeps it in a report (`.config/nextest.toml`), and the lines are taken from there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result, on_path};
use crate::process;
use crate::workspace::Workspace;

/// How a line begins that says what was left out.
const MARK: &str = "SKIPPED";

/// Runs nextest, and shows what was left out above its summary, so that the output ends with that. Answers with the
/// lines, those known `before` the run included.
pub(crate) fn run(
    workspace: &Workspace,
    nextest: &mut Command,
    mut before: Vec<String>,
) -> Result<Vec<String>> {
    let report = workspace.root().join("target/nextest/default/junit.xml");
    if report.exists() {
        std::fs::remove_file(&report).map_err(on_path(&report))?;
    }
    println!("$ {}", process::shown(nextest));
    // Somebody at a terminal gets nextest's own progress bar, and what was left out below the summary.
    let watched = std::io::stderr().is_terminal();
    if !watched {
        nextest.stderr(Stdio::piped());
    }
    let mut child = nextest.spawn().map_err(|error| {
        Failure::new(format!(
            "`{}` could not be started: {error}",
            process::shown(nextest)
        ))
    })?;
    let summary = match child.stderr.take() {
        Some(stderr) => show_until_summary(BufReader::new(stderr))?,
        None => Vec::new(),
    };
    let status = child.wait()?;
    // Without a report nothing was run, because something does not compile.
    if let Ok(text) = std::fs::read_to_string(&report) {
        before.extend(in_report(&text));
    }
    let mut stderr = std::io::stderr();
    for line in &before {
        writeln!(stderr, "{line}")?;
    }
    stderr.write_all(&summary)?;
    process::ended(nextest, status)?;
    Ok(before)
}

/// Passes on what nextest says, and keeps back its summary: the rule above it and everything below.
fn show_until_summary(mut output: impl BufRead) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut in_summary = false;
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        in_summary |= !kept.is_empty() && text.contains("Summary");
        if !in_summary {
            std::io::stderr().write_all(&kept)?;
            kept.clear();
        }
        if in_summary || is_rule(&text) {
            kept.append(&mut line);
        } else {
            std::io::stderr().write_all(&line)?;
            line.clear();
        }
    }
    Ok(kept)
}

/// `────────────`, perhaps in colour.
fn is_rule(line: &str) -> bool {
    line.trim_end()
        .trim_end_matches("\u{1b}[0m")
        .ends_with("────────")
}

/// The lines that tests begin with the mark, each once, with the test or the number of tests that said so.
fn in_report(xml: &str) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut test = String::new();
    for line in xml.lines() {
        if let Some(name) = line.trim_start().strip_prefix("<testcase ").and_then(name_of) {
            test = name;
        }
        let line = line.trim();
        // The first line of an output stands behind its tag.
        let line = line
            .strip_prefix("<system-out>")
            .or_else(|| line.strip_prefix("<system-err>"))
            .unwrap_or(line);
        if line.starts_with(MARK) {
            let line = line.split("</system-").next().unwrap_or(line);
            said.entry(unescaped(line)).or_default().push(test.clone());
        }
    }
    said.into_iter()
        .map(|(line, tests)| match tests.as_slice() {
            [test] => format!("{line} ({test})"),
            tests => format!("{line} ({} tests)", tests.len()),
        })
        .collect()
}

fn name_of(attributes: &str) -> Option<String> {
    let (_, rest) = attributes.split_once("name=\"")?;
    let (name, _) = rest.split_once('"')?;
    Some(unescaped(name))
}

fn unescaped(xml: &str) -> String {
    let text = xml
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_left_out_is_found_in_the_report() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4">
    <testsuite name="zhuji-storage::local" tests="1">
        <testcase name="disk::full" classname="zhuji-storage::local" time="0.010">
            <system-out>
running 1 test
SKIPPED: no right to mount a &quot;small&quot; file system
test disk::full ... ok
</system-out>
            <system-err></system-err>
        </testcase>
        <testcase name="walk::one" classname="literature::service" time="0.010">
            <system-err>SKIPPED the real file a.pdf</system-err>
        </testcase>
        <testcase name="walk::two" classname="literature::service" time="0.010">
            <system-err>SKIPPED the real file a.pdf</system-err>
        </testcase>
        <testcase name="walk::three" classname="literature::service" time="0.010">
            <system-err>nothing was SKIPPED here</system-err>
        </testcase>
    </testsuite>
</testsuites>"#;
        assert_eq!(
            in_report(report),
            [
                "SKIPPED the real file a.pdf (2 tests)",
                "SKIPPED: no right to mount a \"small\" file system (disk::full)",
            ]
        );
    }

    #[test]
    fn the_summary_is_kept_back() {
        let output = "\u{1b}[2m────────────\u{1b}[0m\n Nextest run\n  SLOW a\n────────────\n     Summary [ 1s] 2 tests run\nerror: x\n";
        let kept = show_until_summary(output.as_bytes()).expect("it can be read");
        let kept = String::from_utf8(kept).expect("text");
        assert_eq!(kept, "────────────\n     Summary [ 1s] 2 tests run\nerror: x\n");
    }
}
