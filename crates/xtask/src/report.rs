//! What became of each step: a table for people, a file for programs.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::failure::{Result, on_path};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// Could not be done on this machine: never counted as passed.
    Skipped,
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
    /// A figure when it passed, the reason when it did not.
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(step: &str, verdict: Verdict, took: Duration, note: impl Into<String>) -> Self {
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        Self {
            step: step.to_owned(),
            verdict,
            seconds,
            note: note.into(),
        }
    }
}

/// The rows as aligned columns, with the sum of the times.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.step.len())
        .max()
        .unwrap_or(0)
        .max("step".len());
    let mut text = format!("{:<width$}  {:>8}  {:<7}  note\n", "step", "seconds", "verdict");
    for row in rows {
        let verdict = match row.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "SKIPPED",
        };
        // The beginning is enough here: the whole text was printed when it happened.
        let note: String = row
            .note
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(100)
            .collect();
        let line = format!("{:<width$}  {:>8.1}  {verdict:<7}  {note}", row.step, row.seconds);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let sum: f64 = rows.iter().map(|row| row.seconds).sum();
    text.push_str(&format!("{:<width$}  {sum:>8.1}\n", "sum"));
    text
}

/// Writes the rows to a file, whole or not at all.
pub(crate) fn write(rows: &[Row], file: &Path) -> Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(on_path(parent))?;
    }
    let json = serde_json::to_string_pretty(&serde_json::json!({ "steps": rows }))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let draft = file.with_extension("json.new");
    std::fs::write(&draft, json + "\n").map_err(on_path(&draft))?;
    std::fs::rename(&draft, file).map_err(on_path(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::new(
                "format",
                Verdict::Passed,
                Duration::from_millis(1_240),
                "14 packages",
            ),
            Row::new(
                "advisories",
                Verdict::Skipped,
                Duration::ZERO,
                "needs the network\nsecond line",
            ),
        ]
    }

    #[test]
    fn the_table_is_aligned_and_skips_shout() {
        let expected = "\
step         seconds  verdict  note
format           1.2  ok       14 packages
advisories       0.0  SKIPPED  needs the network
sum              1.2
";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn the_file_can_be_read_by_a_program() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("ci/steps.json");
        write(&rows(), &file).expect("written");
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
        assert_eq!(read["steps"][0]["verdict"], "passed");
        assert_eq!(read["steps"][1]["note"], "needs the network\nsecond line");
    }
}
