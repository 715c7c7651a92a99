//! The operator's pages name settings and metrics: only such as there are, and every metric.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::markdown::Page;
use crate::failure::{Result, on_path};
use crate::workspace::Workspace;

/// Pages whose variables must be settings of the reference service.
const SETTINGS_PAGES: &[&str] = &[
    "docs/deployment.md",
    "docs/operations.md",
    "docs/private-deployment.md",
    "docs/zh/deployment.md",
    "docs/zh/operations.md",
    "docs/zh/private-deployment.md",
];

/// Where the variables are that an operator may set: of the reference service (a test of its own holds this file to the
/// program), of its image, of the composition for a site, of the release script, and of the operator's command.
const SETTINGS: &[&str] = &[
    "crates/cli/src/backup/programs.rs",
    "examples/literature/.env.example",
    "examples/literature/Dockerfile",
    "examples/literature/deploy/.env.example",
    "examples/literature/scripts/build-and-push.sh",
];

/// The page that lists every metric.
const METRICS_PAGE: &str = "docs/operations.md";

/// Crates whose code is not part of a running service.
const NOT_SERVED: &[&str] = &["bench", "cli", "testkit", "xtask"];

pub(super) fn check(workspace: &Workspace, pages: &BTreeMap<PathBuf, Page>) -> Result<Vec<String>> {
    let read = |file: &Path| {
        let path = workspace.root().join(file);
        std::fs::read_to_string(&path).map_err(on_path(&path))
    };
    let settings = SETTINGS
        .iter()
        .map(|file| read(Path::new(file)))
        .collect::<Result<Vec<String>>>()?
        .join("\n");
    let mut problems = Vec::new();
    for name in SETTINGS_PAGES {
        if let Some(page) = pages.get(Path::new(name)) {
            problems.extend(unknown_settings(name, page, &settings));
        }
    }
    let mut emitted = BTreeSet::new();
    for file in workspace.files()?.iter().filter(|file| is_served(file)) {
        emitted.extend(metrics_in_code(&read(file)?));
    }
    if let Some(page) = pages.get(Path::new(METRICS_PAGE)) {
        let listed: BTreeSet<String> = page
            .code
            .iter()
            .flat_map(|code| words(&code.text))
            .filter(|word| is_metric(word))
            .map(ToOwned::to_owned)
            .collect();
        problems.extend(
            emitted
                .difference(&listed)
                .map(|metric| format!("{METRICS_PAGE}: does not list {metric}")),
        );
        problems.extend(
            listed
                .difference(&emitted)
                .map(|metric| format!("{METRICS_PAGE}: lists {metric}, which nothing emits")),
        );
    }
    Ok(problems)
}

fn is_served(file: &Path) -> bool {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    let source = file.extension().is_some_and(|extension| extension == "rs");
    source && matches!(parts.as_slice(), ["crates", name, "src", ..] if !NOT_SERVED.contains(name))
}

/// The strings of a source file that are a metric's name and nothing else.
fn metrics_in_code(source: &str) -> impl Iterator<Item = String> {
    source
        .split('"')
        .filter(|text| is_metric(text))
        .map(ToOwned::to_owned)
}

/// `zhuji_db_pool_max`, `process_threads`; not `zhuji_jobs`, which is a schema.
fn is_metric(word: &str) -> bool {
    let rest =
        word.strip_prefix("zhuji_").is_some_and(|rest| rest.contains('_')) || word.starts_with("process_");
    rest && word.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !word.ends_with('_')
}

/// Variables that a page names and the service does not know. `NAME_FILE` is known where `NAME` is.
fn unknown_settings(name: &str, page: &Page, settings: &str) -> Vec<String> {
    let known: BTreeSet<&str> = words(settings).collect();
    let mut problems = Vec::new();
    for code in &page.code {
        for word in words(&code.text).filter(|word| is_variable(word)) {
            let base = word.strip_suffix("_FILE").unwrap_or(word);
            if !known.contains(word) && !known.contains(base) && base != "NAME" {
                problems.push(format!("{name}:{}: there is no setting {word}", code.line));
            }
        }
    }
    problems
}

/// At least two words in capitals: `BASE_URL`.
fn is_variable(word: &str) -> bool {
    word.contains('_')
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::markdown;
    use super::*;

    #[test]
    fn a_variable_that_is_no_setting_is_named() {
        let page = markdown::read(
            "`BASE_URL` `DATABASE_URL_FILE` `NAME_FILE`\n```sh\nexport BASE_ULR=x SHOW=1\n```\n",
        );
        let settings = "#BASE_URL=\n#DATABASE_URL=\n";
        assert_eq!(
            unknown_settings("a.md", &page, settings),
            ["a.md:3: there is no setting BASE_ULR"]
        );
    }

    #[test]
    fn metrics_are_told_from_other_strings() {
        let source = r#"counter!("zhuji_db_dials_total", "zhuji_jobs", "zhuji_db_pool::x", "process_threads", "zhuji_db_")"#;
        let found: Vec<String> = metrics_in_code(source).collect();
        assert_eq!(found, ["zhuji_db_dials_total", "process_threads"]);
    }

    #[test]
    fn only_what_runs_in_a_service_counts() {
        assert!(is_served(Path::new("crates/jobs/src/meters.rs")));
        for other in [
            "crates/jobs/tests/a.rs",
            "crates/xtask/src/main.rs",
            "crates/jobs/README.md",
        ] {
            assert!(!is_served(Path::new(other)), "{other}");
        }
    }
}
