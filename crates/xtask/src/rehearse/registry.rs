//! A release, for real, to a registry on this machine: every crate in order, broken off and taken up again, and what must
//! be refused. Then what module teams do with it: the quickstart and a fresh module, built and run from the registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use tempfile::TempDir;

use super::registry_server::Registry;
use super::registry_users as users;
use crate::failure::{Failure, Result, on_path};
use crate::publish::{REGISTRY, published_in_order};
use crate::workspace::{Package, Workspace};
use crate::{process, tools};

/// The checkout that is released: what is committed, on a branch main, with the version's tag.
pub(super) struct Checkout {
    home: TempDir,
    pub(super) packages: Vec<Package>,
    version: String,
}

/// The release, and what its users build from it.
pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let _cache = CargoCache::look()?;
    let checkout = Checkout::new(workspace)?;
    let registry = Registry::start()?;
    let released = release(workspace, &checkout, &registry)?;
    let built = users::build_and_run(workspace, &checkout, &registry)?;
    Ok(format!("{released}; {built}"))
}

/// The release alone, without building what came of it.
pub(super) fn rehearse_release(workspace: &Workspace) -> Result<String> {
    let _cache = CargoCache::look()?;
    release(workspace, &Checkout::new(workspace)?, &Registry::start()?)
}

fn release(workspace: &Workspace, checkout: &Checkout, registry: &Registry) -> Result<String> {
    let refusals = refuses(workspace, checkout, registry)?;

    // Broken off in the middle, and taken up again.
    let count = checkout.packages.len();
    let middle = &checkout.packages[count / 2].name;
    registry.fail_upload_of(middle);
    let started = Instant::now();
    must_fail(
        &checkout.publish(workspace, &registry.publish_release()),
        "the disk of the registry is full",
    )?;
    let before = registry.uploads().len();
    if before != count / 2 {
        return Err(format!(
            "{before} crates were there when {middle} failed, instead of {}",
            count / 2
        )
        .into());
    }
    must_succeed(checkout.publish(workspace, &registry.publish_release()))?;
    let seconds = started.elapsed().as_secs_f64();
    let names: Vec<&String> = checkout.packages.iter().map(|package| &package.name).collect();
    if registry.uploads().iter().ne(names.iter().copied()) {
        return Err(format!("the order of the uploads was {}", registry.uploads().join(", ")).into());
    }
    // Once more: nothing is left to do, and that is no failure.
    let again = must_succeed(checkout.publish(workspace, &registry.publish_release()))?;
    if !again.contains(&format!("published 0 of {count} crates")) {
        return Err(format!("a release that was complete was not left alone:\n{again}").into());
    }
    // Other bytes under a version that is there.
    let kept = registry
        .swap_checksum(middle, &"0".repeat(64))
        .unwrap_or_default();
    must_fail(
        &checkout.publish(workspace, &registry.publish_release()),
        "the registry has other bytes for",
    )?;
    registry.swap_checksum(middle, &kept);
    pipeline_has_the_form(workspace)?;
    let bill = bill_of_materials(workspace, checkout)?;
    Ok(format!(
        "{count} crates in {seconds:.1} s, taken up after a failure in the middle; {} refusals; {bill}",
        refusals + 1
    ))
}

/// Every way in which a release must not go out; answers with how many.
fn refuses(workspace: &Workspace, checkout: &Checkout, registry: &Registry) -> Result<usize> {
    let ours = registry.publish_release();
    let to = |name: &'static str| Release {
        registry: name,
        ..ours.clone()
    };
    must_fail(&checkout.publish(workspace, &to("crates-io")), "and to no other")?;
    let elsewhere = Release {
        index: "sparse+https://registry.example.org/index/".to_owned(),
        ..ours.clone()
    };
    must_fail(&checkout.publish(workspace, &elsewhere), "these crates go to")?;
    let other_tag = Release {
        tag: Some("v99.0.0".to_owned()),
        ..ours.clone()
    };
    must_fail(&checkout.publish(workspace, &other_tag), "the tag is v99.0.0")?;

    let stray = checkout.root().join("stray.txt");
    std::fs::write(&stray, "x").map_err(on_path(&stray))?;
    must_fail(&checkout.publish(workspace, &ours), "the tree is not clean")?;
    std::fs::remove_file(&stray).map_err(on_path(&stray))?;

    let tag = checkout.tag();
    checkout.git(&["checkout", "--quiet", "--detach"])?;
    checkout.git(&[
        "commit",
        "--quiet",
        "--allow-empty",
        "--message",
        "chore: not merged",
    ])?;
    must_fail(&checkout.publish(workspace, &ours), "is on another commit")?;
    checkout.git(&["tag", "--force", &tag])?;
    must_fail(&checkout.publish(workspace, &ours), "is not on main")?;
    checkout.git(&["checkout", "--quiet", "main"])?;
    checkout.git(&["tag", "--force", &tag])?;

    // The token of those who may only read, and none.
    let reader = Release {
        token: registry.read_token.clone(),
        ..ours.clone()
    };
    must_fail(&checkout.publish(workspace, &reader), "may read and not publish")?;
    let nobody = Release {
        token: String::new(),
        ..ours
    };
    must_fail(&checkout.publish(workspace, &nobody), "token")?;

    // Cargo itself, without any script of ours; `--dry-run` so that even a mistake here uploads nothing.
    let mut cargo = process::cargo();
    cargo.args([
        "publish",
        "--dry-run",
        "--no-verify",
        "--registry",
        "crates-io",
        "--package",
        "zhuji-config",
    ]);
    let output = cargo.current_dir(checkout.root()).output()?;
    must_fail(&output, "package.publish")?;
    if registry.uploads().is_empty() {
        return Ok(9);
    }
    Err(format!("a refused release has uploaded {}", registry.uploads().join(", ")).into())
}

/// What a release is started with.
#[derive(Clone)]
pub(super) struct Release {
    registry: &'static str,
    index: String,
    token: String,
    tag: Option<String>,
}

impl Registry {
    fn publish_release(&self) -> Release {
        Release {
            registry: REGISTRY,
            index: self.index(),
            token: self.publish_token.clone(),
            tag: None,
        }
    }
}

impl Checkout {
    fn new(workspace: &Workspace) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let packages = published_in_order(&workspace.members()?)?;
        let version = packages
            .first()
            .map(|package| package.version.clone())
            .unwrap_or_default();
        let checkout = Self {
            home,
            packages,
            version,
        };
        let root = checkout.root();
        let mut clone = Command::new("git");
        clone
            .args(["clone", "--quiet", "--no-tags"])
            .arg(workspace.root())
            .arg(&root);
        process::run_quietly(&mut clone)?;
        checkout.git(&["config", "user.name", "rehearsal"])?;
        checkout.git(&["config", "user.email", "rehearsal@localhost"])?;
        checkout.git(&["checkout", "--quiet", "-B", "main"])?;
        checkout.git(&["remote", "remove", "origin"])?;
        checkout.git(&["tag", &checkout.tag()])?;
        let mut status = Command::new("git");
        let changed = process::run_quietly(
            status
                .args(["status", "--porcelain"])
                .current_dir(workspace.root()),
        )?;
        if !changed.stdout.is_empty() {
            println!("what is not committed is not part of this rehearsal");
        }
        Ok(checkout)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.home.path().join("checkout")
    }

    /// A directory beside the checkout, for its users.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    fn tag(&self) -> String {
        format!("v{}", self.version)
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        process::run_quietly(Command::new("git").args(arguments).current_dir(self.root())).map(drop)
    }

    /// `cargo xtask publish` in this checkout, as the release pipeline runs it.
    fn publish(&self, workspace: &Workspace, release: &Release) -> Output {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("xtask"));
        let mut command = Command::new(program);
        command
            // What is built from the packages comes below: from the registry.
            .args(["publish", "--no-verify", "--registry", release.registry])
            .args(release.tag.iter().flat_map(|tag| ["--tag", tag]))
            .current_dir(self.root())
            .env("CARGO_MANIFEST_DIR", self.root().join("crates/xtask"))
            .env("CARGO_TARGET_DIR", workspace.target())
            .env("CARGO_REGISTRIES_INTERNAL_INDEX", &release.index)
            .env_remove("CARGO_REGISTRIES_INTERNAL_TOKEN");
        if !release.token.is_empty() {
            command.env("CARGO_REGISTRIES_INTERNAL_TOKEN", &release.token);
        }
        command.output().unwrap_or_else(|error| Output {
            status: std::os::unix::process::ExitStatusExt::from_raw(1 << 8),
            stdout: Vec::new(),
            stderr: error.to_string().into(),
        })
    }
}

/// The pipeline that runs the same command.
fn pipeline_has_the_form(workspace: &Workspace) -> Result<()> {
    let checker = match tools::CHECK_JSONSCHEMA.ensure(workspace) {
        Ok(program) => program,
        Err(failure) => {
            println!("SKIPPED: the form of publish.yml is not checked: {failure}");
            return Ok(());
        }
    };
    let mut check = Command::new(checker);
    check.args(["--builtin-schema", "vendor.github-workflows"]);
    check.arg(workspace.root().join(".github/workflows/publish.yml"));
    process::run_quietly(&mut check).map(drop)
}

/// The papers of the release, and what the official library for such bills says of them.
fn bill_of_materials(workspace: &Workspace, checkout: &Checkout) -> Result<String> {
    const VALIDATE: &str = "import sys\nfrom cyclonedx.schema import SchemaVersion\n\
                            from cyclonedx.validation.json import JsonStrictValidator\n\
                            error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())\n\
                            sys.exit(str(error)[:2000] if error else 0)";
    let papers = workspace.target().join("publish");
    let name = format!("zhuji-{}.cdx.json", checkout.version());
    let file = papers.join(&name);
    let text = std::fs::read_to_string(&file).map_err(on_path(&file))?;
    let bill: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let components = bill["components"].as_array().map_or(0, Vec::len);
    let licences = papers.join(format!("zhuji-{}-licences.txt", checkout.version()));
    let licences = std::fs::read_to_string(&licences).map_err(on_path(&licences))?;
    for package in &checkout.packages {
        if !licences.contains(&format!("{} {}: ", package.name, checkout.version())) {
            return Err(format!("the licences do not name {}", package.name).into());
        }
    }
    let library = match tools::CYCLONEDX.ensure(workspace) {
        Ok(program) => program,
        Err(failure) => {
            println!("SKIPPED: the bill of materials is not checked against CycloneDX's schema: {failure}");
            return Ok(format!("a bill of {components} materials, its form NOT checked"));
        }
    };
    for name in [name, format!("literature-{}.cdx.json", checkout.version())] {
        let mut python = Command::new(library.with_file_name("python"));
        python.args(["-c", VALIDATE]).arg(papers.join(&name));
        process::run_quietly(&mut python).map_err(|failure| failure.while_doing(&name))?;
    }
    Ok(format!("a valid bill of {components} materials"))
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn must_fail(output: &Output, words: &str) -> Result<()> {
    let text = said(output);
    if output.status.success() {
        return Err(format!("this was meant to be refused with {words:?}, and was done:\n{text}").into());
    }
    if !text.contains(words) {
        return Err(format!("this was refused, but not with {words:?}:\n{text}").into());
    }
    Ok(())
}

fn must_succeed(output: Output) -> Result<String> {
    let text = said(&output);
    if output.status.success() {
        return Ok(text);
    }
    Err(Failure::with_code(text, process::code_of(output.status)))
}

/// Cargo keeps what it downloads from each registry for ever; this one is gone in a minute.
struct CargoCache {
    before: Vec<PathBuf>,
}

impl CargoCache {
    fn look() -> Result<Self> {
        Ok(Self {
            before: local_registries(),
        })
    }
}

impl Drop for CargoCache {
    fn drop(&mut self) {
        for directory in local_registries() {
            if !self.before.contains(&directory) {
                // What stays behind costs disk and nothing else.
                let _ = std::fs::remove_dir_all(&directory);
            }
        }
    }
}

fn local_registries() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let Some(home) = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"))) else {
        return Vec::new();
    };
    ["index", "cache", "src"]
        .iter()
        .flat_map(|kind| {
            std::fs::read_dir(home.join("registry").join(kind))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("localhost-"))
        .map(|entry| entry.path())
        .collect()
}
