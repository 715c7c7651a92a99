//! Those who use a release: a program with one crate, and a team that begins a module. Neither sees a checkout.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::registry::{Checkout, said};
use super::registry_server::Registry;
use crate::failure::{Failure, Result, on_path};
use crate::machine::{self, POSTGRES, REDIS};
use crate::process;
use crate::workspace::Workspace;

/// A name that nobody else has.
const MODULE: &str = "fresh-notes";

/// Builds and runs everything; answers with a figure.
pub(super) fn build_and_run(
    workspace: &Workspace,
    checkout: &Checkout,
    registry: &Registry,
) -> Result<String> {
    for tool in [&POSTGRES, &REDIS] {
        machine::ensure(tool)?;
    }
    let started = Instant::now();
    let users = Users {
        workspace,
        checkout,
        registry,
    };
    // Reading back what was published was a download, too.
    registry.forget_downloads();
    users.quickstart()?;
    let tests = users.fresh_module()?;
    let downloads = registry.downloads();
    let all: Vec<&str> = checkout
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    if let Some(unused) = all.iter().find(|name| !downloads.contains(**name)) {
        return Err(format!("nobody has downloaded {unused}: it was not built from the registry").into());
    }
    users.remove_artifacts();
    Ok(format!(
        "the quickstart, the operator's command and a fresh module built from it in {:.0} s, {tests} tests of the module",
        started.elapsed().as_secs_f64()
    ))
}

struct Users<'a> {
    workspace: &'a Workspace,
    checkout: &'a Checkout,
    registry: &'a Registry,
}

impl Users<'_> {
    /// Cargo as a module team has it: a token that may read, and one build directory for all.
    fn cargo(&self, token: Option<&str>) -> Command {
        let mut command = process::cargo();
        command
            .env("CARGO_REGISTRIES_INTERNAL_INDEX", self.registry.index())
            .env("CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS", "cargo:token")
            .env("CARGO_TARGET_DIR", self.target())
            // The same for all three, so that what they share is built once.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("CARGO_REGISTRIES_INTERNAL_TOKEN");
        if let Some(token) = token {
            command.env("CARGO_REGISTRIES_INTERNAL_TOKEN", token);
        }
        command
    }

    fn target(&self) -> std::path::PathBuf {
        self.workspace.target().join("registry")
    }

    fn run(&self, command: &mut Command) -> Result<String> {
        println!("$ {}", process::shown(command));
        let output = command.output()?;
        match output.status.success() {
            true => Ok(said(&output)),
            false => Err(Failure::with_code(
                format!("`{}` failed:\n{}", process::shown(command), said(&output)),
                process::code_of(output.status),
            )),
        }
    }

    fn quickstart(&self) -> Result<()> {
        let home = self.checkout.beside("quickstart");
        let source = self.checkout.root().join("examples/quickstart/src/main.rs");
        let manifest = format!(
            "[package]\nname = \"quickstart\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\
             zhuji-storage = {{ version = \"{}\", registry = \"internal\" }}\n",
            self.checkout.version()
        );
        std::fs::create_dir_all(home.join("src"))?;
        write(&home.join("Cargo.toml"), &manifest)?;
        std::fs::copy(&source, home.join("src/main.rs")).map_err(on_path(&source))?;
        self.same_versions(&home)?;

        let without_token = self.cargo(None).arg("fetch").current_dir(&home).output()?;
        if without_token.status.success() {
            return Err("crates can be fetched without a token".into());
        }
        let mut run = self.cargo(Some(&self.registry.read_token));
        run.args(["run", "--quiet", "--"])
            .arg(home.join("files"))
            .current_dir(&home);
        let output = self.run(&mut run)?;
        if !output.contains("read back: Hello from Zhuji") || !output.contains("deleted, and gone") {
            return Err(format!("the quickstart said:\n{output}").into());
        }
        no_paths(&home)
    }

    /// The operator's command from the registry writes the module, which is then tested and started.
    fn fresh_module(&self) -> Result<usize> {
        let token = Some(self.registry.read_token.as_str());
        let root = self.checkout.beside("root");
        let mut install = self.cargo(token);
        install
            .args([
                "install",
                "--quiet",
                "--debug",
                "--locked",
                "--registry",
                "internal",
                "--root",
            ])
            .arg(&root)
            .arg(format!("zhuji-cli@{}", self.checkout.version()))
            .current_dir(self.checkout.beside("."));
        self.run(&mut install)?;
        let mut new = Command::new(root.join("bin/zhuji"));
        new.args(["new", "module", MODULE])
            .current_dir(self.checkout.beside("."));
        self.run(&mut new)?;

        let home = self.checkout.beside(MODULE);
        self.same_versions(&home)?;
        let mut test = self.cargo(token);
        let output = self.run(
            test.args(["test", "--quiet", "--", "--test-threads=2"])
                .current_dir(&home),
        )?;
        no_paths(&home)?;
        let mut format = self.cargo(None);
        self.run(format.args(["fmt", "--check"]).current_dir(&home))?;
        // With the lints that it was given.
        let mut clippy = self.cargo(token);
        clippy.args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]);
        self.run(clippy.current_dir(&home))?;
        let mut modules = self.cargo(token);
        let listed = self.run(
            modules
                .args(["run", "--quiet", "--", "modules"])
                .current_dir(&home),
        )?;
        if !listed.contains("/api/v1/fresh_notes") {
            return Err(format!("the fresh service lists its modules as:\n{listed}").into());
        }
        let passed = output
            .lines()
            .filter_map(|line| {
                line.split(" passed")
                    .next()?
                    .rsplit(' ')
                    .next()?
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        match passed {
            0 => Err(format!("the fresh module has run no test:\n{output}").into()),
            _ => Ok(passed),
        }
    }

    /// Crates of others in the versions that this workspace is tested with.
    fn same_versions(&self, home: &Path) -> Result<()> {
        let lock = self.checkout.root().join("Cargo.lock");
        std::fs::copy(&lock, home.join("Cargo.lock"))
            .map(drop)
            .map_err(on_path(&lock))
    }

    /// What was built from this registry, whose like never comes again. What others published stays for the next time.
    fn remove_artifacts(&self) {
        let ours = |name: &str| {
            let name = name.trim_start_matches("lib").replace('-', "_");
            name.starts_with("zhuji") || name.starts_with("quickstart") || name.starts_with("fresh_notes")
        };
        for directory in ["deps", ".fingerprint", "build", "incremental", "."] {
            let directory = self.target().join("debug").join(directory);
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if ours(&entry.file_name().to_string_lossy()) {
                    let path = entry.path();
                    // What stays behind costs disk and nothing else.
                    let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
                }
            }
        }
    }
}

/// Every crate of ours comes from the registry.
fn no_paths(home: &Path) -> Result<()> {
    let lock = home.join("Cargo.lock");
    let text = std::fs::read_to_string(&lock).map_err(on_path(&lock))?;
    let ours: Vec<&str> = text
        .split("[[package]]")
        .filter(|block| block.contains("name = \"zhuji"))
        .collect();
    match ours
        .iter()
        .find(|block| !block.contains("source = \"sparse+http://localhost:"))
    {
        None if !ours.is_empty() => Ok(()),
        None => Err(format!("{}: none of our crates is in it", lock.display()).into()),
        Some(block) => Err(format!("{}: not from the registry:{block}", lock.display()).into()),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(on_path(path))
}
