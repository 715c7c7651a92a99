//! The alert rules and the dashboard: checked and tested by `promtool`, explained by the runbooks, and compared with what
//! a running service really emits.

mod exposition;
mod pattern;
mod promql;
mod scrape;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use self::exposition::Series;
use self::promql::Query;
use super::yaml;
use crate::failure::{Failure, Result, on_path};
use crate::workspace::Workspace;
use crate::{process, service, tools};

const RULES: &str = "examples/literature/deploy/alerts/literature.rules.yml";
const TESTS: &str = "examples/literature/deploy/alerts/literature.test.yml";
const DASHBOARD: &str = "examples/literature/deploy/grafana/literature.json";
const RUNBOOKS: &str = "docs/runbooks";

/// What Grafana puts in when it asks.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "5m"),
    ("$__range", "1h"),
    ("$job", ".*"),
    ("$instance", ".*"),
];

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let promtool = tools::PROMTOOL.ensure(workspace)?;
    let path = |file: &str| workspace.root().join(file);
    process::run_quietly(Command::new(&promtool).args(["check", "rules"]).arg(path(RULES)))?;
    process::run_quietly(Command::new(&promtool).args(["test", "rules"]).arg(path(TESTS)))?;

    let rules: Rules = yaml::read(workspace, Path::new(RULES))?;
    let alerts: Vec<&Alert> = rules.groups.iter().flat_map(|group| &group.rules).collect();
    let tests: Tests = yaml::read(workspace, Path::new(TESTS))?;
    let dashboard = path(DASHBOARD);
    let text = std::fs::read_to_string(&dashboard).map_err(on_path(&dashboard))?;
    let dashboard: Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("{DASHBOARD}: {error}")))?;
    let panels = queries_of(&dashboard);
    parses(&promtool, &panels)?;

    let mut problems = explained(&alerts, &pages(workspace)?);
    problems.extend(tested(&alerts, &tests));
    let mut queries = Vec::new();
    let asked = alerts
        .iter()
        .map(|alert| (alert.alert.as_str(), alert.expr.as_str()));
    for (of, expr) in asked.chain(panels.iter().map(|(of, expr)| (of.as_str(), expr.as_str()))) {
        match Query::read(of, expr) {
            Ok(query) => queries.push(query),
            Err(why) => problems.push(why),
        }
    }
    fail_on(&problems)?;

    let program = service::build(false)?;
    let emitted = scrape::until(&program, &promtool, |series| compare(&queries, series))?;
    fail_on(&compare(&queries, &emitted))?;
    let named: BTreeSet<&str> = queries
        .iter()
        .flat_map(|query| query.selectors.iter().map(|selector| selector.metric.as_str()))
        .collect();
    Ok(format!(
        "{} alerts, each fires and is silent in {} unit tests and has a runbook; {} dashboard queries; \
         {} metrics named, all among the {} series of the running service",
        alerts.len(),
        tests.count(),
        panels.len(),
        named.len(),
        emitted.len()
    ))
}

fn fail_on(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: String = problems
        .iter()
        .map(|problem| format!("\n    {problem}"))
        .collect();
    Err(format!("{} problems:{lines}", problems.len()).into())
}

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    alert: String,
    expr: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Tests {
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Test {
    #[serde(default)]
    alert_rule_test: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
struct Expected {
    alertname: String,
    #[serde(default)]
    exp_alerts: Option<Vec<Value>>,
}

impl Tests {
    fn expected(&self) -> impl Iterator<Item = &Expected> {
        self.tests.iter().flat_map(|test| &test.alert_rule_test)
    }

    fn count(&self) -> usize {
        self.expected().count()
    }
}

/// The runbooks by their file names.
fn pages(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let folder = workspace.root().join(RUNBOOKS);
    let mut pages = BTreeSet::new();
    for file in std::fs::read_dir(&folder).map_err(on_path(&folder))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name != "README.md" {
            pages.insert(name);
        }
    }
    Ok(pages)
}

/// Every alert says how much it matters, what it is about, and which page explains it; every page explains one.
fn explained(alerts: &[&Alert], pages: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    for alert in alerts {
        let name = &alert.alert;
        if !matches!(
            alert.labels.get("severity").map(String::as_str),
            Some("warning" | "critical")
        ) {
            problems.push(format!("{name}: its severity is neither warning nor critical"));
        }
        for wanted in ["summary", "description", "runbook_url"] {
            if alert
                .annotations
                .get(wanted)
                .is_none_or(|text| text.trim().is_empty())
            {
                problems.push(format!("{name}: it has no {wanted}"));
            }
        }
        let url = alert.annotations.get("runbook_url").map_or("", String::as_str);
        match url.split_once(&format!("/{RUNBOOKS}/")) {
            Some((_, page)) if pages.contains(page) => {
                used.insert(page);
            }
            _ => problems.push(format!("{name}: {url} is no page of {RUNBOOKS}")),
        }
    }
    let unused = pages.iter().filter(|page| !used.contains(page.as_str()));
    problems.extend(unused.map(|page| format!("{RUNBOOKS}/{page}: no alert leads to it")));
    problems
}

/// Every alert is seen to fire, and seen to be silent.
fn tested(alerts: &[&Alert], tests: &Tests) -> Vec<String> {
    let mut problems = Vec::new();
    for alert in alerts {
        let of_it = || {
            tests
                .expected()
                .filter(|expected| expected.alertname == alert.alert)
        };
        let fires = |expected: &&Expected| {
            expected
                .exp_alerts
                .as_ref()
                .is_some_and(|alerts| !alerts.is_empty())
        };
        if !of_it().any(|expected| fires(&expected)) {
            problems.push(format!("{TESTS}: {} is never seen to fire", alert.alert));
        }
        if of_it().all(|expected| fires(&expected)) {
            problems.push(format!("{TESTS}: {} is never seen to be silent", alert.alert));
        }
    }
    problems
}

/// Each query of the dashboard with the panel it is in, as Prometheus is asked.
fn queries_of(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let panels = |value: &Value| value["panels"].as_array().cloned().unwrap_or_default();
    for panel in panels(dashboard) {
        // A row that is folded holds its panels itself.
        for panel in std::iter::once(panel.clone()).chain(panels(&panel)) {
            let title = panel["title"].as_str().unwrap_or("untitled").to_owned();
            let targets = panel["targets"].as_array().into_iter().flatten();
            for expr in targets.filter_map(|target| target["expr"].as_str()) {
                let asked = VARIABLES
                    .iter()
                    .fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value));
                found.push((format!("panel {title:?}"), asked));
            }
        }
    }
    found
}

/// `promtool` reads rules and no single queries: each query becomes a rule.
fn parses(promtool: &Path, queries: &[(String, String)]) -> Result<()> {
    if queries.is_empty() {
        return Err(format!("{DASHBOARD}: it has no query").into());
    }
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(index, (_, expr))| json!({ "record": format!("panel:{index}"), "expr": expr }))
        .collect();
    // JSON is YAML.
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let directory = tempfile::tempdir()?;
    let file: PathBuf = directory.path().join("dashboard.yml");
    std::fs::write(&file, rules.to_string())?;
    process::run_quietly(Command::new(promtool).args(["check", "rules"]).arg(file)).map(drop)
}

/// What the queries name and the service does not emit.
fn compare(queries: &[Query], emitted: &[Series]) -> Vec<String> {
    let problems: BTreeSet<String> = queries.iter().flat_map(|query| query.missing(emitted)).collect();
    problems.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(url: &str) -> Alert {
        serde_json::from_value(json!({
            "alert": "A", "expr": "up == 0", "labels": {"severity": "warning"},
            "annotations": {"summary": "s", "description": "d", "runbook_url": url},
        }))
        .expect("an alert")
    }

    #[test]
    fn an_alert_without_a_page_and_a_page_without_an_alert_are_named() {
        let pages: BTreeSet<String> = ["a.md", "b.md"].map(ToOwned::to_owned).into();
        let good = alert("https://x/docs/runbooks/a.md");
        assert_eq!(
            explained(&[&good], &pages),
            ["docs/runbooks/b.md: no alert leads to it"]
        );
        let mut bad = alert("https://x/docs/runbooks/c.md");
        bad.labels.clear();
        bad.annotations.remove("summary");
        assert_eq!(explained(&[&good, &bad], &pages).len(), 4);
    }

    #[test]
    fn an_alert_has_to_be_seen_both_ways() {
        let tests = |expected: Value| -> Tests {
            serde_json::from_value(json!({"tests": [{"alert_rule_test": expected}]})).expect("tests")
        };
        let fires = json!({"alertname": "A", "exp_alerts": [{}]});
        let silent = json!({"alertname": "A"});
        let a = alert("");
        assert!(tested(&[&a], &tests(json!([fires, silent]))).is_empty());
        assert_eq!(tested(&[&a], &tests(json!([fires]))).len(), 1);
        assert_eq!(tested(&[&a], &tests(json!([silent]))).len(), 1);
        assert_eq!(tested(&[&a], &tests(json!([]))).len(), 2);
    }

    #[test]
    fn the_queries_of_folded_rows_count_too() {
        let dashboard = json!({"panels": [
            {"title": "a", "targets": [{"expr": "rate(x[$__rate_interval])"}]},
            {"title": "row", "panels": [{"title": "b", "targets": [{"expr": "y{job=~\"$job\"}"}]}]},
        ]});
        let found = queries_of(&dashboard);
        assert_eq!(found[0].1, "rate(x[5m])");
        assert_eq!(found[1], ("panel \"b\"".to_owned(), "y{job=~\".*\"}".to_owned()));
    }
}
