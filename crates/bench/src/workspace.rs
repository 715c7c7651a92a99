//! The checkout that is measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Where this checkout's product lies and is built.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> anyhow::Result<Self> {
        // cargo says where the package lies now; a checkout that was moved after the build is still found.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .ancestors()
            .nth(2)
            .context("the checkout was not found")?
            .to_owned();
        // `cargo xtask bench` builds this program into a folder of the product's own target directory.
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .and_then(|folder| root.join(folder).parent().map(Path::to_owned))
            .filter(|target| target.join("bench-build").exists())
            .unwrap_or_else(|| root.join("target"));
        Ok(Self { root, target })
    }

    /// Where the results go.
    pub(crate) fn results(&self) -> PathBuf {
        self.target.join("bench")
    }

    /// Where peers are kept that cargo does not bring.
    pub(crate) fn peers(&self) -> PathBuf {
        self.target.join("bench-peers")
    }

    /// Builds a binary of the product as it is released; cargo knows whether there is anything to do.
    pub(crate) fn build(&self, package: &str) -> anyhow::Result<PathBuf> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What cargo told this program of its own package would make build scripts of the other run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                cargo.env_remove(&name);
            }
        }
        let status = cargo
            .args(["build", "--release", "--locked", "--package", package])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null())
            .status()
            .context("cargo could not be started")?;
        if !status.success() {
            bail!("`cargo build --release --locked --package {package}` failed ({status})");
        }
        Ok(self.target.join("release").join(package))
    }
}
