//! The bill of materials: CycloneDX 1.5, from what cargo knows and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::packages::sha256;
use super::tag::git;
use crate::failure::{Failure, Result, on_path};
use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// Every package of the lock file, and who needs whom.
pub(super) struct Graph {
    packages: BTreeMap<String, Package>,
    needs: BTreeMap<String, Vec<String>>,
    members: BTreeSet<String>,
    /// Of name and version, from the lock file.
    checksums: BTreeMap<(String, String), String>,
    commit: String,
    time: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    license_file: Option<PathBuf>,
    pub(super) repository: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Needed>,
}

#[derive(Deserialize)]
struct Needed {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl Package {
    /// As SPDX writes it; crates of old separate by a slash what means "or".
    pub(super) fn expression(&self) -> String {
        match (&self.license, &self.license_file) {
            (Some(license), _) => license.replace(" / ", " OR ").replace('/', " OR "),
            (None, Some(_)) => "LicenseRef-file".to_owned(),
            (None, None) => "NOASSERTION".to_owned(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }
}

impl Graph {
    /// `selection` is for `cargo metadata`: which features, which platform.
    pub(super) fn read(workspace: &Workspace, selection: &[&str]) -> Result<Self> {
        let mut command = cargo();
        command
            .args(["metadata", "--locked", "--format-version", "1"])
            .args(selection);
        let output = process::run_quietly(&mut command)?;
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        let lock = workspace.root().join("Cargo.lock");
        let lock = std::fs::read_to_string(&lock).map_err(on_path(&lock))?;
        let shipped = |needed: &Needed| {
            needed
                .dep_kinds
                .iter()
                .any(|kind| kind.kind.as_deref() != Some("dev"))
        };
        let needs = metadata.resolve.nodes.into_iter().map(|node| {
            let needed = node
                .deps
                .into_iter()
                .filter(shipped)
                .map(|needed| needed.pkg)
                .collect();
            (node.id, needed)
        });
        Ok(Self {
            packages: metadata
                .packages
                .into_iter()
                .map(|package| (package.id.clone(), package))
                .collect(),
            needs: needs.collect(),
            members: metadata.workspace_members.into_iter().collect(),
            checksums: checksums(&lock),
            commit: git(workspace, &["rev-parse", "HEAD"])?,
            time: git(workspace, &["log", "-1", "--format=%cI"])?,
        })
    }

    /// These members and everything that is built into them, without what only tests need; in order of their names.
    pub(super) fn reachable(&self, names: &[&str]) -> Result<Vec<&Package>> {
        let mut left: Vec<&String> = self
            .members
            .iter()
            .filter(|id| {
                self.packages
                    .get(*id)
                    .is_some_and(|package| names.contains(&package.name.as_str()))
            })
            .collect();
        if left.len() != names.len() {
            return Err(Failure::new(format!(
                "not all of these are members of the workspace: {}",
                names.join(", ")
            )));
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = left.pop() {
            if seen.insert(id) {
                left.extend(self.needs.get(id).into_iter().flatten());
            }
        }
        let mut packages: Vec<&Package> = seen.into_iter().filter_map(|id| self.packages.get(id)).collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(packages)
    }

    /// The same for the same commit.
    pub(super) fn bill_of_materials(&self, name: &str, version: &str, roots: &[&str]) -> Result<String> {
        let packages = self.reachable(roots)?;
        let included: BTreeSet<&String> = packages.iter().map(|package| &package.id).collect();
        let product = format!("{name}@{version}");
        let components: Vec<Value> = packages.iter().map(|package| self.component(package)).collect();
        let mut dependencies: Vec<Value> = packages
            .iter()
            .map(|package| {
                let needed = self.needs.get(&package.id).into_iter().flatten();
                let needed: BTreeSet<String> = needed
                    .filter(|id| included.contains(id))
                    .filter_map(|id| self.packages.get(id))
                    .map(purl)
                    .collect();
                json!({ "ref": purl(package), "dependsOn": needed })
            })
            .collect();
        let tops: BTreeSet<String> = packages
            .iter()
            .filter(|package| roots.contains(&package.name.as_str()))
            .map(|package| purl(package))
            .collect();
        dependencies.push(json!({ "ref": product, "dependsOn": tops }));
        let bill = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", uuid_of(&format!("{product} {}", self.commit))),
            "version": 1,
            "metadata": {
                "timestamp": self.time,
                "tools": { "components": [{ "type": "application", "name": "cargo xtask publish", "version": version }] },
                "component": { "type": "application", "bom-ref": product, "name": name, "version": version },
                "properties": [{ "name": "git:commit", "value": self.commit }],
            },
            "components": components,
            "dependencies": dependencies,
        });
        let text = serde_json::to_string_pretty(&bill).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }

    fn component(&self, package: &Package) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": purl(package),
            "name": package.name,
            "version": package.version,
            "purl": purl(package),
            "scope": "required",
            "licenses": [{ "expression": package.expression() }],
        });
        let key = (package.name.clone(), package.version.clone());
        if let Some(checksum) = self.checksums.get(&key) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if let Some(repository) = &package.repository {
            component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
        }
        component
    }
}

fn purl(package: &Package) -> String {
    format!(
        "pkg:cargo/{}@{}",
        package.name,
        package.version.replace('+', "%2B")
    )
}

/// The checksums of a lock file.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            Some((
                (value(block, "name")?, value(block, "version")?),
                value(block, "checksum")?,
            ))
        })
        .collect()
}

/// A UUID (version 8: of our own making) that says what it stands for.
fn uuid_of(text: &str) -> String {
    let digest = sha256(text.as_bytes());
    format!(
        "{}-{}-8{}-a{}-{}",
        &digest[..8],
        &digest[8..12],
        &digest[13..16],
        &digest[17..20],
        &digest[20..32]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"abc\"\n\n\
                    [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let found = checksums(lock);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&("a".to_owned(), "1.0.0".to_owned())], "abc");
    }

    #[test]
    fn a_serial_number_has_the_form_of_a_uuid() {
        let uuid = uuid_of("zhuji@0.1.0 abc");
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(uuid, uuid_of("zhuji@0.1.0 abc"));
    }

    #[test]
    fn a_slash_in_a_licence_means_or() {
        let package: Package = serde_json::from_value(json!({
            "id": "a", "name": "a", "version": "1.0.0", "license": "MIT/Apache-2.0", "license_file": null,
            "repository": null, "manifest_path": "/a/Cargo.toml",
        }))
        .expect("a package");
        assert_eq!(package.expression(), "MIT OR Apache-2.0");
    }
}
