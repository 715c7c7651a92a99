//! The settings: every problem at once.

use zhuji_config::{Problem, ProblemKind};

use super::{Finding, Patient};

pub(super) fn findings(patient: &Patient<'_>) -> Vec<Finding> {
    let report = &patient.report;
    let mut found: Vec<Finding> = report
        .problems
        .iter()
        .map(|problem| {
            let (evidence, mend) = told(problem);
            Finding::error("config", evidence, mend)
        })
        .collect();
    found.extend(report.warnings.iter().map(|problem| {
        let (evidence, mend) = told(problem);
        Finding::warning("config", evidence, mend)
    }));
    if report.is_ok() {
        let mode = patient
            .service
            .as_ref()
            .map_or("unknown", |service| service.mode().as_str());
        let kind = if patient.is_production() {
            "production"
        } else {
            "no production"
        };
        let chosen = patient.chosen;
        found.insert(
            0,
            Finding::ok(
                "config",
                format!("complete; {chosen} settings chosen; mode {mode}, {kind}"),
            ),
        );
    }
    found
}

/// The problem without its hint, and the hint.
fn told(problem: &Problem) -> (String, String) {
    let mut bare = problem.clone();
    let hint = bare.hint.take();
    let mend = hint.unwrap_or_else(|| match problem.kind {
        ProblemKind::Unknown => "remove it, or correct its name".to_owned(),
        _ => format!(
            "correct {}; `config show` tells where each value comes from",
            problem.variable
        ),
    });
    (bare.to_string().trim_end_matches('.').to_owned(), mend)
}
