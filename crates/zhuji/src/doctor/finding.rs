//! What was found, and how it is told.

use std::fmt;

use serde_json::{Value, json};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to mend.
    Info,
    /// It works, and will be trouble.
    Warning,
    /// It does not work.
    Error,
}

impl Severity {
    /// Its name in the output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at: how it is, by which evidence, and how to mend it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at: a check (`database`) or a part of it (`database.plan`).
    pub check: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen, on one line.
    pub evidence: String,
    /// What to do, in one sentence; `None` where there is nothing to do.
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, severity: Severity, evidence: impl AsRef<str>) -> Self {
        Self {
            check,
            severity,
            evidence: one_line(evidence.as_ref()),
            mend: None,
        }
    }

    pub(super) fn ok(check: &'static str, evidence: impl AsRef<str>) -> Self {
        Self::new(check, Severity::Ok, evidence)
    }

    pub(super) fn info(check: &'static str, evidence: impl AsRef<str>) -> Self {
        Self::new(check, Severity::Info, evidence)
    }

    pub(super) fn warning(check: &'static str, evidence: impl AsRef<str>, mend: impl AsRef<str>) -> Self {
        Self::new(check, Severity::Warning, evidence).mend(mend)
    }

    pub(super) fn error(check: &'static str, evidence: impl AsRef<str>, mend: impl AsRef<str>) -> Self {
        Self::new(check, Severity::Error, evidence).mend(mend)
    }

    fn mend(mut self, mend: impl AsRef<str>) -> Self {
        self.mend = Some(one_line(mend.as_ref()));
        self
    }
}

/// A server's words may hold anything, and go into a terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// All findings of one examination. `Display` is an aligned list, one finding a line, with a summary as its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    pub(super) findings: Vec<Finding>,
}

impl Diagnosis {
    /// The findings, in the order of the checks.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    }

    /// 2 when something does not work; 1 when there is a warning and `strict`; 0 otherwise.
    pub fn exit_code(&self, strict: bool) -> u8 {
        match self.findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Error) => 2,
            Some(Severity::Warning) if strict => 1,
            _ => 0,
        }
    }

    /// One object on one line: `ok`, `info`, `warnings` and `errors` as counts, and `findings`, each with `check`,
    /// `severity`, `evidence` and `mend` (null where there is nothing to do).
    pub fn to_json(&self) -> String {
        let row = |finding: &Finding| -> Value {
            json!({
                "check": finding.check,
                "severity": finding.severity.as_str(),
                "evidence": finding.evidence,
                "mend": finding.mend,
            })
        };
        json!({
            "ok": self.count(Severity::Ok),
            "info": self.count(Severity::Info),
            "warnings": self.count(Severity::Warning),
            "errors": self.count(Severity::Error),
            "findings": self.findings.iter().map(row).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .findings
            .iter()
            .map(|finding| finding.check.len())
            .max()
            .unwrap_or(0);
        for finding in &self.findings {
            let severity = finding.severity.as_str();
            write!(
                f,
                "{severity:<7}  {:<width$}  {}",
                finding.check, finding.evidence
            )?;
            if let Some(mend) = &finding.mend {
                write!(f, " -> {mend}")?;
            }
            writeln!(f)?;
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (warnings, errors) = (self.count(Severity::Warning), self.count(Severity::Error));
        write!(
            f,
            "{} ok, {} info, {warnings} warning{}, {errors} error{}",
            self.count(Severity::Ok),
            self.count(Severity::Info),
            plural(warnings),
            plural(errors),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(findings: &[Finding]) -> Diagnosis {
        Diagnosis {
            findings: findings.to_vec(),
        }
    }

    #[test]
    fn one_line_for_each_and_one_for_all() {
        let found = diagnosis(&[
            Finding::ok("clock", "12:00"),
            Finding::error("database", "it says:\nno\u{1b}[31m", "mend it"),
        ]);
        let expected = "\
ok       clock     12:00
error    database  it says: no [31m -> mend it
1 ok, 0 info, 0 warnings, 1 error";
        assert_eq!(found.to_string(), expected);
        let json: Value = serde_json::from_str(&found.to_json()).expect("JSON");
        assert_eq!(
            (&json["errors"], &json["findings"][0]["mend"]),
            (&json!(1), &Value::Null)
        );
        assert_eq!(json["findings"][1]["severity"], "error");
    }

    #[test]
    fn the_code_follows_the_worst() {
        let (fine, so_so, bad) = (
            Finding::info("a", ""),
            Finding::warning("a", "", ""),
            Finding::error("a", "", ""),
        );
        assert_eq!(diagnosis(&[]).exit_code(true), 0);
        assert_eq!(diagnosis(std::slice::from_ref(&fine)).exit_code(true), 0);
        let warned = diagnosis(&[so_so.clone(), fine]);
        assert_eq!((warned.exit_code(false), warned.exit_code(true)), (0, 1));
        assert_eq!(diagnosis(&[so_so, bad]).exit_code(false), 2);
    }
}
