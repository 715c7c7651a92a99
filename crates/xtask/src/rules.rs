//! The house rules that no other tool checks: floors, manifests, file lengths, and nobody's home directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Result;
use crate::workspace::{Package, Workspace};

/// Lines of a source file, at most.
const LONGEST_FILE: usize = 700;

/// Where people's home directories lie.
const HOMES: &[&str] = &["home", "root", "Users"];

/// The crate that only tests may know.
const TEST_KIT: &str = "zhuji-testkit";

/// Who may import whom: an arrow only points to a lower floor.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["zhuji-config-macros", "zhuji-config", "zhuji-health"]),
    (
        1,
        &[
            "zhuji-storage",
            "zhuji-db-pool",
            "zhuji-cache",
            "zhuji-logging",
            "zhuji-metrics",
        ],
    ),
    (2, &["zhuji-jobs"]),
    (3, &["zhuji"]),
    (4, &["zhuji-cli", "literature", "quickstart", "aia", "pdf-text"]),
];

/// Arrows within one floor that are meant: a derive macro and the crate that offers it are one thing in two packages.
/// A service mounts modules, and modules share a reader of files.
const WITHIN_A_FLOOR: &[(&str, &str)] = &[
    ("zhuji-config", "zhuji-config-macros"),
    ("literature", "aia"),
    ("literature", "pdf-text"),
    ("aia", "pdf-text"),
];

/// Stand beside the house and may look into every room.
const TOOLS: &[&str] = &[TEST_KIT, "xtask"];

/// Checks every rule, and returns every breach as one line each.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let members = workspace.members()?;
    let mut breaches = floors(&members);
    breaches.extend(manifests(&members));
    for file in workspace.files()? {
        let path = workspace.root().join(&file);
        // What is not text has no lines and names nothing.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        breaches.extend(length(&file, &text));
        breaches.extend(homes(&file, &text));
    }
    Ok(breaches)
}

/// An arrow that points up or sideways, and a package that stands on no floor.
fn floors(members: &[Package]) -> Vec<String> {
    let floor_of: BTreeMap<&str, u8> = FLOORS
        .iter()
        .flat_map(|(floor, names)| names.iter().map(move |name| (*name, *floor)))
        .collect();
    let mut breaches = Vec::new();
    for package in members
        .iter()
        .filter(|package| !TOOLS.contains(&package.name.as_str()))
    {
        let Some(floor) = floor_of.get(package.name.as_str()) else {
            breaches.push(format!(
                "{} stands on no floor: add it to FLOORS in xtask's rules.rs",
                package.name
            ));
            continue;
        };
        for arrow in package
            .dependencies
            .iter()
            .filter(|arrow| arrow.is_local() && !arrow.is_dev())
        {
            let meant = WITHIN_A_FLOOR.contains(&(package.name.as_str(), arrow.name.as_str()));
            match floor_of.get(arrow.name.as_str()) {
                Some(below) if below < floor || meant => {}
                Some(other) => breaches.push(format!(
                    "{} (floor {floor}) imports {} (floor {other}): an arrow only points down",
                    package.name, arrow.name
                )),
                None if TOOLS.contains(&arrow.name.as_str()) => {
                    breaches.push(format!(
                        "{} imports {}, which only tests may know",
                        package.name, arrow.name
                    ));
                }
                None => {} // The neighbour itself is reported as standing on no floor.
            }
        }
    }
    breaches
}

/// What would make a release fail half-way, or hand our names to a stranger's crate.
fn manifests(members: &[Package]) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in members {
        let name = &package.name;
        if package.is_published() {
            if package.publish.as_deref() != Some(&["internal".to_owned()]) {
                breaches.push(format!(
                    "{name} may be published elsewhere: set `publish.workspace = true`"
                ));
            }
            if name != "zhuji" && !name.starts_with("zhuji-") {
                breaches.push(format!("{name} is published without the prefix `zhuji-`"));
            }
        }
        for arrow in package.dependencies.iter().filter(|arrow| arrow.is_local()) {
            if arrow.name == TEST_KIT && arrow.req != "*" {
                breaches.push(format!(
                    "{name} names a version of {TEST_KIT}: a cycle with a version cannot be published"
                ));
            }
            let unpublished = members
                .iter()
                .any(|member| member.name == arrow.name && !member.is_published());
            if package.is_published() && !arrow.is_dev() && (unpublished || arrow.req == "*") {
                breaches.push(format!(
                    "{name} is published but {} has no version in a registry",
                    arrow.name
                ));
            }
        }
    }
    breaches
}

fn length(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let is_source = file.extension().is_some_and(|extension| extension == "rs");
    (is_source && lines > LONGEST_FILE).then(|| {
        format!(
            "{}: {lines} lines; split it: {LONGEST_FILE} is the most",
            file.display()
        )
    })
}

/// Somebody's home directory, which is another one on the next machine. (Registries are `deny.toml`'s business.)
fn homes(file: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for parent in HOMES.iter().filter(|parent| mentions(line, parent)) {
            breaches.push(format!(
                "{}:{}: names a directory below /{parent}, which is one machine's own",
                file.display(),
                number + 1
            ));
        }
    }
    breaches
}

/// A path only counts from its root: `src/home/` is a folder like any other.
fn mentions(line: &str, parent: &str) -> bool {
    line.match_indices(&format!("/{parent}/")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}>)".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, arrows: &[(&str, &str, Option<&str>)]) -> Package {
        let arrows: Vec<_> = arrows
            .iter()
            .map(|(name, req, kind)| serde_json::json!({"name": name, "req": req, "kind": kind, "path": "/somewhere"}))
            .collect();
        let json = serde_json::json!({"name": name, "publish": ["internal"], "features": {}, "dependencies": arrows});
        serde_json::from_value(json).expect("a package")
    }

    #[test]
    fn an_arrow_only_points_down() {
        let downward = package(
            "zhuji-jobs",
            &[
                ("zhuji-db-pool", "^0.1.0", None),
                ("zhuji-config", "^0.1.0", None),
            ],
        );
        assert!(floors(&[downward]).is_empty());

        let sideways = package("zhuji-storage", &[("zhuji-cache", "^0.1.0", None)]);
        assert!(floors(&[sideways])[0].contains("zhuji-cache (floor 1)"));

        let upward = package("zhuji-health", &[("zhuji", "^0.1.0", Some("build"))]);
        assert!(floors(&[upward])[0].contains("only points down"));

        let derive = package("zhuji-config", &[("zhuji-config-macros", "^0.1.0", None)]);
        assert!(floors(&[derive]).is_empty());
    }

    #[test]
    fn only_tests_know_the_test_kit() {
        let in_tests = package("zhuji-cache", &[(TEST_KIT, "*", Some("dev"))]);
        assert!(floors(std::slice::from_ref(&in_tests)).is_empty());
        assert!(manifests(&[in_tests]).is_empty());

        let in_code = package("zhuji-cache", &[(TEST_KIT, "*", None)]);
        assert!(floors(&[in_code])[0].contains("only tests may know"));

        let with_version = package("zhuji-cache", &[(TEST_KIT, "^0.1.0", Some("dev"))]);
        assert!(manifests(&[with_version])[0].contains("cycle"));
    }

    #[test]
    fn a_new_package_needs_a_floor() {
        assert!(floors(&[package("zhuji-attic", &[])])[0].contains("stands on no floor"));
    }

    #[test]
    fn a_published_package_has_our_prefix_our_registry_and_published_neighbours() {
        assert!(manifests(&[package("attic", &[])])[0].contains("prefix"));
        let mut anywhere = package("zhuji", &[]);
        anywhere.publish = None;
        assert!(manifests(&[anywhere])[0].contains("elsewhere"));
        let unversioned = package("zhuji", &[("zhuji-config", "*", None)]);
        assert!(manifests(&[unversioned])[0].contains("no version"));
    }

    #[test]
    fn a_long_source_file_is_told_to_split() {
        let long = "x\n".repeat(LONGEST_FILE + 1);
        assert!(length(Path::new("src/lib.rs"), &long).is_some());
        assert!(length(Path::new("src/lib.rs"), &long[2..]).is_none());
        assert!(length(Path::new("Cargo.lock"), &long).is_none());
    }

    #[test]
    fn a_home_directory_is_found_and_a_relative_path_is_not() {
        for parent in HOMES {
            let absolute = format!("let path = \"/{parent}/someone\";");
            assert_eq!(homes(Path::new("a.rs"), &absolute).len(), 1, "{absolute}");
            let relative = format!("see examples/{parent}/readme");
            assert!(homes(Path::new("a.md"), &relative).is_empty(), "{relative}");
        }
    }
}
