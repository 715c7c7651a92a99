//! What cargo knows of this workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::process;

/// Where the workspace lies, and where cargo builds it.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace this program belongs to, and makes its root the current directory.
    pub(crate) fn enter() -> Result<Self> {
        // cargo says where the package lies now; a checkout that was moved after the build is still found.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .ancestors()
            .nth(2)
            .filter(|root| root.join("Cargo.lock").exists())
            .ok_or("the workspace was not found: start this as `cargo xtask …` inside the checkout")?
            .to_owned();
        std::env::set_current_dir(&root)?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What the local servers of `dev` keep between two starts.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join(".zhuji")
    }

    /// The members, without what they depend on.
    pub(crate) fn members(&self) -> Result<Vec<Package>> {
        let output =
            process::run_quietly(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
        Ok(metadata.packages)
    }

    /// Every file that is, or by its name could be, under version control.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut git = std::process::Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&self.root);
        let output = process::run_quietly(&mut git)?;
        let names = output
            .stdout
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        let mut files: Vec<PathBuf> = names
            .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
            .collect();
        // A file that is deleted but not yet committed is still listed.
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// One member of the workspace, as `cargo metadata` describes it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    /// `None`: any registry. Empty: none.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
}

impl Package {
    /// Whether some registry may have it.
    pub(crate) fn is_published(&self) -> bool {
        self.publish
            .as_ref()
            .is_none_or(|registries| !registries.is_empty())
    }
}

/// One arrow from a package to another.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `*` when the manifest names no version.
    pub(crate) req: String,
    /// `None`, `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Where it lies, when it is a neighbour in this workspace.
    pub(crate) path: Option<PathBuf>,
}

impl Dependency {
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }

    pub(crate) fn is_local(&self) -> bool {
        self.path.is_some()
    }
}
