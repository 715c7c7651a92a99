//! The licences of everything that is built in: a list, and the texts that have to go along.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::sbom::Package;
use crate::workspace::Workspace;

/// What a licence's file is called.
const BEGINNINGS: &[&str] = &["licen", "copying", "notice", "unlicense", "copyright"];

/// One page: every package with its licence, then each text once, with the packages it came with.
pub(super) fn text(workspace: &Workspace, packages: &[&Package]) -> String {
    let mut page = String::from("Licences of everything that is built into the crates of this release.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let from = package.repository.as_deref().unwrap_or("-");
        // Writing to a string does not fail.
        let _ = writeln!(page, "{name}: {} ({from})", package.expression());
        // Ours have one licence, in the root.
        let found = match package.directory().starts_with(workspace.root()) {
            true => texts_in(workspace.root()),
            false => texts_in(package.directory()),
        };
        if found.is_empty() {
            without.push(name.clone());
        }
        for text in found {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    if !without.is_empty() {
        let _ = write!(
            page,
            "\nWithout a text of their own in the package: {}\n",
            without.join(", ")
        );
    }
    for (text, names) in &texts {
        let _ = write!(
            page,
            "\n{}\n{}\n\n{}\n",
            "-".repeat(80),
            names.join(", "),
            text.trim()
        );
    }
    page
}

fn texts_in(directory: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect()
}
