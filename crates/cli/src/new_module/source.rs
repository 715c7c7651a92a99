//! Where the platform's crates come from.

use std::path::{Component, Path, PathBuf};

use super::parent;
use crate::failure::Failure;

/// The lines of a manifest that name the platform's crates.
#[derive(Debug)]
pub(super) struct Dependencies {
    pub(super) zhuji: String,
    pub(super) testkit: String,
}

#[derive(Debug)]
pub(super) enum Source {
    Registry,
    /// A checkout of the platform, absolute.
    Checkout(PathBuf),
}

impl Source {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text == "registry" {
            return Ok(Self::Registry);
        }
        let Some(path) = text.strip_prefix("path:").filter(|path| !path.is_empty()) else {
            return Err(Failure::usage(format!(
                "--from {text}: expected `registry`, or `path:` and the directory of a checkout, such as path:../zhuji"
            )));
        };
        let missing = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "--from {text}: there is no checkout of the platform: {error}"
            ))
        };
        let root = std::fs::canonicalize(path).map_err(|error| missing(&error))?;
        for manifest in ["crates/zhuji/Cargo.toml", "crates/testkit/Cargo.toml"] {
            if !root.join(manifest).is_file() {
                return Err(missing(&format_args!("{manifest} is missing")));
            }
        }
        Ok(Self::Checkout(root))
    }

    /// The lines for a crate in this directory, which need not exist yet.
    pub(super) fn dependencies(&self, dir: &Path) -> Result<Dependencies, Failure> {
        match self {
            Self::Registry => {
                let line = format!(r#"version = "{}", registry = "internal""#, requirement());
                Ok(Dependencies {
                    zhuji: line.clone(),
                    testkit: line,
                })
            }
            Self::Checkout(root) => {
                let from = absolute(dir)?;
                let line = |krate: &str| {
                    let path = relative(&from, &root.join("crates").join(krate));
                    // A string of TOML, whatever the path holds.
                    format!("path = {:?}", path.display().to_string())
                };
                Ok(Dependencies {
                    zhuji: line("zhuji"),
                    testkit: line("testkit"),
                })
            }
        }
    }
}

/// The version of this program without its last part: the platform's crates share one.
fn requirement() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    version
        .rsplit_once('.')
        .map_or(version, |(requirement, _)| requirement)
}

/// Without links, as far as the directory exists.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::failed(format!("{}: {error}", dir.display()));
    let mut above = std::path::absolute(parent(dir)).map_err(failed)?;
    let mut missing = vec![dir.file_name().unwrap_or_default().to_owned()];
    loop {
        if let Ok(real) = std::fs::canonicalize(&above) {
            return Ok(missing.iter().rev().fold(real, |path, part| path.join(part)));
        }
        missing.push(above.file_name().unwrap_or_default().to_owned());
        if !above.pop() {
            return Ok(above);
        }
    }
}

/// The way from one directory to another, both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_checkout_is_relative() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/a/notes", "/a/zhuji/crates/zhuji"), "../zhuji/crates/zhuji");
        assert_eq!(way("/a/b/c", "/x"), "../../../x");
        assert_eq!(way("/a", "/a/zhuji"), "zhuji");
    }

    #[test]
    fn a_registry_is_asked_for_what_is_compatible_with_this_program() {
        let lines = Source::Registry
            .dependencies(Path::new("notes"))
            .expect("needs no checkout");
        assert_eq!(
            lines.zhuji,
            format!(r#"version = "{}", registry = "internal""#, requirement())
        );
        assert!(env!("CARGO_PKG_VERSION").starts_with(requirement()));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["git", "path:", "Registry"] {
            assert!(
                Source::parse(bad)
                    .expect_err(bad)
                    .to_string()
                    .contains("expected `registry`")
            );
        }
        let refusal = Source::parse("path:/").expect_err("no checkout").to_string();
        assert!(
            refusal.contains("crates/zhuji/Cargo.toml is missing"),
            "{refusal}"
        );
    }
}
