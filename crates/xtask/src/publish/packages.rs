//! The crates of a release: which, in what order, with which bytes.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::{Index, REGISTRY};
use crate::failure::{Failure, Result, on_path};
use crate::process::{self, cargo};
use crate::workspace::{Dependency, Package, Workspace};

/// A package as it is uploaded.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SHA-256 in hexadecimal digits.
    pub(crate) checksum: String,
}

/// The members that are published, each after those it needs.
///
/// # Errors
/// One may go to another registry, or two need each other.
pub(crate) fn published_in_order(members: &[Package]) -> Result<Vec<Package>> {
    let mut left: Vec<&Package> = members.iter().filter(|member| member.is_published()).collect();
    if let Some(stray) = left
        .iter()
        .find(|package| package.publish.as_deref() != Some(&[REGISTRY.to_owned()]))
    {
        return Err(format!(
            "{} may be published elsewhere: set `publish.workspace = true`",
            stray.name
        )
        .into());
    }
    left.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ordered: Vec<Package> = Vec::new();
    while !left.is_empty() {
        let waits_for = |arrow: &Dependency| left.iter().any(|package| package.name == arrow.name);
        // A dependency without a version is only for this workspace, and is not in what is published.
        let is_ready = |package: &&Package| {
            !package
                .dependencies
                .iter()
                .any(|arrow| arrow.is_local() && arrow.req != "*" && waits_for(arrow))
        };
        let Some(at) = left.iter().position(is_ready) else {
            let names: Vec<&str> = left.iter().map(|package| package.name.as_str()).collect();
            return Err(format!("these crates need each other: {}", names.join(", ")).into());
        };
        ordered.push(left.remove(at).clone());
    }
    Ok(ordered)
}

/// The one version of all of them.
pub(super) fn shared_version(packages: &[Package]) -> Result<String> {
    let first = packages.first().ok_or("nothing here is published")?;
    match packages.iter().find(|package| package.version != first.version) {
        None => Ok(first.version.clone()),
        Some(other) => Err(format!(
            "the crates share one version, but {} has {} and {} has {}",
            first.name, first.version, other.name, other.version
        )
        .into()),
    }
}

/// Packs every crate. With `verify`, each is also built from what was packed.
pub(super) fn package(workspace: &Workspace, packages: &[Package], verify: bool) -> Result<Vec<File>> {
    let mut command = cargo();
    command.args(["package", "--locked", "--quiet"]);
    if !verify {
        command.arg("--no-verify");
    }
    for package in packages {
        command.args(["--package", &package.name]);
    }
    process::run(&mut command)?;
    let read = |package: &Package| {
        let path = crate_file(workspace, package);
        let bytes = std::fs::read(&path).map_err(on_path(&path))?;
        Ok(File {
            name: package.name.clone(),
            version: package.version.clone(),
            checksum: sha256(&bytes),
        })
    };
    packages.iter().map(read).collect()
}

fn crate_file(workspace: &Workspace, package: &Package) -> PathBuf {
    let name = format!("{}-{}.crate", package.name, package.version);
    workspace.target().join("package").join(name)
}

/// What the registry does not have yet.
///
/// # Errors
/// It has one of these versions with other bytes. Then nothing has been published.
pub(super) fn missing<'a>(index: &Index, files: &'a [File]) -> Result<Vec<&'a File>> {
    let mut missing = Vec::new();
    let mut different = Vec::new();
    for file in files {
        match index
            .versions(&file.name)?
            .iter()
            .find(|entry| entry.vers == file.version)
        {
            None => missing.push(file),
            Some(entry) if entry.cksum == file.checksum => {
                println!(
                    "{} {} is there already, with the same bytes",
                    file.name, file.version
                );
            }
            Some(_) => different.push(format!("{} {}", file.name, file.version)),
        }
    }
    if different.is_empty() {
        return Ok(missing);
    }
    Err(Failure::new(format!(
        "the registry has other bytes for {}: a published version never changes; raise the version and tag again",
        different.join(", ")
    )))
}

/// Uploads one, and waits until the index knows it.
pub(super) fn publish(workspace: &Workspace, file: &File) -> Result<()> {
    let mut command = cargo();
    // Built before, if that was asked for.
    command.args([
        "publish",
        "--locked",
        "--no-verify",
        "--quiet",
        "--registry",
        REGISTRY,
        "--package",
        &file.name,
    ]);
    process::run(command.current_dir(workspace.root()))?;
    println!("published {} {}", file.name, file.version);
    Ok(())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, arrows: &[(&str, &str)]) -> Package {
        let arrows: Vec<_> = arrows
            .iter()
            .map(|(name, req)| serde_json::json!({"name": name, "req": req, "kind": null, "path": "/somewhere"}))
            .collect();
        let json = serde_json::json!({
            "name": name, "version": "0.1.0", "publish": ["internal"], "features": {}, "dependencies": arrows,
        });
        serde_json::from_value(json).expect("a package")
    }

    #[test]
    fn a_crate_comes_after_what_it_needs() {
        let members = [
            package("zhuji", &[("zhuji-config", "^0.1"), ("zhuji-testkit", "*")]),
            package("zhuji-testkit", &[("zhuji", "^0.1")]),
            package("zhuji-config", &[]),
        ];
        let order = published_in_order(&members).expect("there is one");
        let names: Vec<&str> = order.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["zhuji-config", "zhuji", "zhuji-testkit"]);
        assert_eq!(shared_version(&order).expect("one"), "0.1.0");
    }

    #[test]
    fn crates_that_need_each_other_and_crates_for_everybody_are_refused() {
        let circle = [package("a", &[("b", "^0.1")]), package("b", &[("a", "^0.1")])];
        assert!(
            published_in_order(&circle)
                .expect_err("a circle")
                .to_string()
                .contains("a, b")
        );
        let mut anywhere = package("a", &[]);
        anywhere.publish = None;
        assert!(
            published_in_order(&[anywhere])
                .expect_err("anywhere")
                .to_string()
                .contains("elsewhere")
        );
    }

    #[test]
    fn one_version_for_all() {
        let mut newer = package("b", &[]);
        newer.version = "0.2.0".to_owned();
        let refusal = shared_version(&[package("a", &[]), newer]).expect_err("two versions");
        assert!(
            refusal.to_string().contains("a has 0.1.0 and b has 0.2.0"),
            "{refusal}"
        );
    }
}
