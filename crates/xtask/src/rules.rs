//! The house rules that no other tool checks: floors, manifests, file lengths, and what no file may name.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Result;
use crate::workspace::{Package, Workspace};

/// Lines of a source file, at most.
const LONGEST_FILE: usize = 700;

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
    (4, &["zhuji-cli", "literature", "quickstart"]),
];

/// Arrows within one floor that are meant: a derive macro and the crate that offers it are one thing in two packages.
const WITHIN_A_FLOOR: &[(&str, &str)] = &[("zhuji-config", "zhuji-config-macros")];

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
        breaches.extend(places(&file, &text));
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

/// Somebody's home, or the address of a registry: neither is the same on the next machine.
fn places(file: &Path, text: &str) -> Vec<String> {
    // In two halves, so that this list does not find itself.
    const PLACES: &[&str] = &[
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
        concat!("py", "pi.org"),
        concat!("registry.", "npmjs"),
        concat!("deb.", "debian.org"),
    ];
    if file.file_name().is_some_and(|name| name == "Cargo.lock") {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in PLACES.iter().filter(|place| mentions(line, place)) {
            breaches.push(format!(
                "{}:{}: names {place}, a place of one machine",
                file.display(),
                number + 1
            ));
        }
    }
    breaches
}

/// A path only counts from its root: `src/work/` is a folder like any other.
fn mentions(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !place.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}>)".contains(c))
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
    fn a_place_of_one_machine_is_found_and_a_relative_path_is_not() {
        let home = concat!("let p = \"/ro", "ot/x\";");
        assert_eq!(places(Path::new("a.rs"), home).len(), 1);
        assert!(places(Path::new("Cargo.lock"), home).is_empty());
        let relative = concat!("see examples/wo", "rk/readme");
        assert!(places(Path::new("a.md"), relative).is_empty());
    }
}
