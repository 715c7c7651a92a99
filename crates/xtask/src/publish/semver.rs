//! Whether the public interfaces changed as the version says.

use std::process::Command;

use super::{Checked, tag};
use crate::failure::{Failure, Result};
use crate::workspace::{Package, Workspace};
use crate::{machine, process};

/// Compares with the tag before. Never with what a public registry has under the same name: that would be a stranger's.
pub(super) fn check(workspace: &Workspace, packages: &[Package], tag: &str) -> Result<Checked> {
    let Some(before) = tag::before(workspace, tag)? else {
        return Ok(Checked::Skipped("there is no release before this one".to_owned()));
    };
    if !is_later(tag, &before) {
        return Err(format!("{tag} is not later than {before}, the release before it").into());
    }
    let Some(program) = machine::find("cargo-semver-checks") else {
        return Ok(Checked::Skipped(format!(
            "cargo-semver-checks is not installed, so {tag} is not compared with {before}: \
             cargo install --locked cargo-semver-checks"
        )));
    };
    // A copy of the older release that stays there makes the next run find every package twice.
    let copy = workspace.target().join("semver-checks");
    let _ = std::fs::remove_dir_all(&copy);
    let mut command = Command::new(program);
    command.args(["semver-checks", "--baseline-rev", &before]);
    // A derive and a program have no interface that rustdoc shows.
    let without = ["zhuji-config-macros", "zhuji-cli"];
    let compared: Vec<&Package> = packages
        .iter()
        .filter(|package| !without.contains(&package.name.as_str()))
        .collect();
    for package in &compared {
        command.args(["--package", &package.name]);
    }
    let outcome = process::run(command.current_dir(workspace.root()));
    let _ = std::fs::remove_dir_all(&copy);
    outcome.map_err(|failure| {
        Failure::new(format!(
            "{failure}; a change that breaks its users needs a version that says so"
        ))
    })?;
    Ok(Checked::Passed(format!(
        "{} crates compared with {before}",
        compared.len()
    )))
}

/// Whether the numbers of one tag are greater than those of another.
fn is_later(tag: &str, before: &str) -> bool {
    let numbers = |tag: &str| -> Vec<u64> {
        let core = tag
            .trim_start_matches('v')
            .split(['-', '+'])
            .next()
            .unwrap_or_default();
        core.split('.')
            .map(|number| number.parse().unwrap_or(0))
            .collect()
    };
    numbers(tag) > numbers(before)
}

#[cfg(test)]
mod tests {
    use super::is_later;

    #[test]
    fn versions_are_numbers() {
        assert!(is_later("v0.10.0", "v0.9.1"));
        assert!(is_later("v1.0.0", "v0.9.9"));
        assert!(!is_later("v0.1.0", "v0.1.0"));
        assert!(!is_later("v0.1.0", "v0.2.0"));
    }
}
