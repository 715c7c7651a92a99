//! The image: built from the unmodified Dockerfile, looked into, run.
//!
//! No engine and no network to pull from is assumed: buildah builds, on bases made of this machine's own files, and the
//! image is run in a mount namespace. What that leaves open is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;

use super::{container_bases as bases, container_run as run};
use crate::failure::{Failure, Result, on_path};
use crate::machine::{self, BUILDAH};
use crate::workspace::Workspace;
use crate::{process, tools};

const DOCKERFILE: &str = "examples/literature/Dockerfile";
const IMAGE: &str = "localhost/literature:rehearsal";
const BUILDER: &str = "localhost/stand-in-builder";
const RUNTIME: &str = "localhost/stand-in-runtime";
/// What the image was built from, as a label: the same again need not be built again.
const INPUTS: &str = "rehearsal.inputs";

/// What the image may add to its base.
const MOST_ADDED: u64 = 40_000_000;

const NOT_PROVED: &str = "NOT PROVED here: that the real base images can be pulled and fit, that a push and a pull work, \
                          and that an engine keeps the limits of memory and processes";

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    lint(workspace)?;
    the_versions_agree(workspace)?;
    if let Some(why) = unable() {
        println!("NOT PROVED here: that the image builds and runs, because {why}");
        return Ok("the Dockerfile is linted, and nothing more".to_owned());
    }
    let store = Store::open(workspace)?;
    let built = store.build(workspace)?;
    let image = store.inspect()?;
    image.check()?;
    let added = store.contents(&image)?;
    let root = store.mount(IMAGE)?;
    let ran = run::rehearse(workspace, root.path(), &image);
    drop(root);
    println!("{NOT_PROVED}");
    let megabytes = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
    Ok(format!("{} over its base, {built}; {}", megabytes(added), ran?))
}

fn lint(workspace: &Workspace) -> Result<()> {
    let mut lint = Command::new(tools::HADOLINT.ensure(workspace)?);
    process::run_quietly(lint.arg(DOCKERFILE)).map(drop)
}

/// The default builder has the compiler that the workspace names.
fn the_versions_agree(workspace: &Workspace) -> Result<()> {
    let read = |name: &str| {
        let path = workspace.root().join(name);
        std::fs::read_to_string(&path).map_err(on_path(&path))
    };
    let toolchain = read("rust-toolchain.toml")?;
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .map(|value| value.trim_matches('"'))
        .ok_or("rust-toolchain.toml names no channel")?;
    if read(DOCKERFILE)?.contains(&format!("/rust:{channel}-")) {
        return Ok(());
    }
    Err(format!(
        "{DOCKERFILE}: RUST_IMAGE is not the image of Rust {channel}, which rust-toolchain.toml names"
    )
    .into())
}

/// Why nothing can be built and run here.
fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting takes root".to_owned());
    }
    if machine::find("dpkg").is_none() {
        return Some("the stand-in bases are made of Debian's packages".to_owned());
    }
    machine::ensure(&BUILDAH).err().map(|failure| failure.to_string())
}

/// Images of our own, apart from whatever else this machine has.
struct Store {
    home: PathBuf,
}

impl Store {
    fn open(workspace: &Workspace) -> Result<Self> {
        let home = workspace.target().join("container");
        std::fs::create_dir_all(&home)?;
        Ok(Self { home })
    }

    fn buildah(&self) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.home.join("storage"));
        buildah.arg("--runroot").arg(self.home.join("run"));
        buildah.args(["--storage-driver", "vfs"]);
        buildah
    }

    fn asked(&self, arguments: &[&str]) -> Result<String> {
        let output = process::run_quietly(self.buildah().args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Builds the image unless it is there from the same files, and says how long it took.
    fn build(&self, workspace: &Workspace) -> Result<String> {
        let inputs = inputs(workspace)?;
        if self
            .inspect()
            .is_ok_and(|image| image.labels.get(INPUTS) == Some(&inputs))
        {
            return Ok("not built again, because nothing changed".to_owned());
        }
        self.import(
            BUILDER,
            bases::builder,
            &[
                ("PATH", &format!("{}/bin:/usr/bin:/bin", bases::TOOLCHAIN)),
                ("CARGO_HOME", bases::CARGO_HOME),
            ],
        )?;
        self.import(RUNTIME, bases::runtime, &[])?;
        let mut build = self.buildah();
        // docker's own format: the other one has no health check.
        build.args([
            "bud",
            "--format",
            "docker",
            "--isolation",
            "chroot",
            "--pull-never",
        ]);
        build.args(["--file", DOCKERFILE, "--tag", IMAGE]);
        build.args(["--label", &format!("{INPUTS}={inputs}")]);
        build.args(["--build-arg", &format!("RUST_IMAGE={BUILDER}")]);
        build.args(["--build-arg", &format!("RUNTIME_IMAGE={RUNTIME}")]);
        for volume in bases::lent()? {
            build.args(["--volume", &volume]);
        }
        build.arg(".").current_dir(workspace.root());
        println!("building the image, optimised and from nothing: this takes minutes");
        let started = Instant::now();
        process::run_quietly(&mut build)?;
        Ok(format!("built in {} s", started.elapsed().as_secs()))
    }

    /// Makes an image of a tree.
    fn import(&self, name: &str, fill: fn(&Path) -> Result<()>, environment: &[(&str, &str)]) -> Result<()> {
        let tree = tempfile::tempdir()?;
        fill(tree.path())?;
        // tempfile keeps others out; the root of an image is everybody's.
        std::fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let container = Container {
            store: self,
            name: self.asked(&["from", "scratch"])?,
        };
        self.asked(&["add", &container.name, &tree.path().display().to_string(), "/"])?;
        for (variable, value) in environment {
            self.asked(&["config", "--env", &format!("{variable}={value}"), &container.name])?;
        }
        self.asked(&["commit", "--quiet", &container.name, name])
            .map(drop)
    }

    fn inspect(&self) -> Result<Image> {
        #[derive(Deserialize)]
        struct Inspected {
            #[serde(rename = "Docker")]
            docker: Docker,
        }
        #[derive(Deserialize)]
        struct Docker {
            config: Image,
        }
        let json = self.asked(&["inspect", "--type", "image", IMAGE])?;
        let inspected: Inspected =
            serde_json::from_str(&json).map_err(|error| Failure::new(format!("buildah inspect: {error}")))?;
        Ok(inspected.docker.config)
    }

    /// Holds what the image adds to its base to exactly what belongs there, and answers with how many bytes it is.
    fn contents(&self, image: &Image) -> Result<u64> {
        let base = files(self.mount(RUNTIME)?.path())?;
        let all = files(self.mount(IMAGE)?.path())?;
        let added: BTreeMap<_, _> = all.iter().filter(|(path, _)| !base.contains_key(*path)).collect();
        let names: BTreeSet<String> = added.keys().map(|path| path.display().to_string()).collect();
        let program = image
            .entrypoint
            .first()
            .map(|path| path.trim_start_matches('/').to_owned());
        if names != program.into_iter().collect() {
            return Err(format!("the image holds more than the program: {names:?}").into());
        }
        let bytes = added.values().copied().sum();
        if bytes > MOST_ADDED {
            return Err(format!("the image adds {bytes} bytes to its base; {MOST_ADDED} is the most").into());
        }
        Ok(bytes)
    }

    fn mount(&self, image: &str) -> Result<Mounted<'_>> {
        let name = self.asked(&["from", "--pull-never", image])?;
        let container = Container { store: self, name };
        let path = PathBuf::from(self.asked(&["mount", &container.name])?);
        Ok(Mounted {
            path,
            _container: container,
        })
    }
}

/// A working container, removed in the end.
struct Container<'a> {
    store: &'a Store,
    name: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // What is left behind when this fails costs disk and nothing else.
        let _ = self.store.asked(&["rm", &self.name]);
    }
}

/// An image's files, under a path of this machine.
struct Mounted<'a> {
    path: PathBuf,
    _container: Container<'a>,
}

impl Mounted<'_> {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// How the image wants to be run.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Image {
    user: String,
    pub(super) env: Vec<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) cmd: Vec<String>,
    stop_signal: String,
    exposed_ports: BTreeMap<String, serde_json::Value>,
    labels: BTreeMap<String, String>,
    healthcheck: Healthcheck,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Healthcheck {
    test: Vec<String>,
}

impl Image {
    /// `uid:gid`, and neither is root's.
    pub(super) fn user(&self) -> Result<(u32, u32)> {
        let ids = self
            .user
            .split_once(':')
            .and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
        ids.filter(|(user, group)| *user > 0 && *group > 0)
            .ok_or_else(|| {
                format!(
                    "the image runs as `{}`, and not as a number that is not root's",
                    self.user
                )
                .into()
            })
    }

    /// What the engine runs from time to time, without `CMD`.
    pub(super) fn healthcheck(&self) -> Result<&[String]> {
        match self.healthcheck.test.split_first() {
            Some((form, words)) if form == "CMD" && !words.is_empty() => Ok(words),
            _ => Err(format!(
                "the health check needs a shell, or is none: {:?}",
                self.healthcheck.test
            )
            .into()),
        }
    }

    fn check(&self) -> Result<()> {
        self.user()?;
        self.healthcheck()?;
        let mut problems = Vec::new();
        if self.entrypoint.len() != 1 || self.cmd != ["serve"] {
            problems.push("the entry point is not the program with `serve`".to_owned());
        }
        if self.stop_signal != "SIGTERM" {
            problems.push(format!("it is stopped by `{}`", self.stop_signal));
        }
        if !self.exposed_ports.contains_key("3001/tcp") {
            problems.push("it does not say that it listens on 3001".to_owned());
        }
        for label in ["title", "version", "revision", "source", "licenses"] {
            if !self
                .labels
                .contains_key(&format!("org.opencontainers.image.{label}"))
            {
                problems.push(format!("it has no label {label}"));
            }
        }
        let telling = ["SECRET", "PASSWORD", "TOKEN", "KEY", "DATABASE_URL"];
        problems.extend(
            self.env
                .iter()
                .filter(|variable| telling.iter().any(|word| variable.contains(word)))
                .map(|variable| {
                    format!(
                        "a secret is in its environment: {}",
                        variable.split('=').next().unwrap_or("")
                    )
                }),
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.join("; ").into())
    }
}

/// One number for everything that the image is built from.
fn inputs(workspace: &Workspace) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in workspace.files()?.iter().filter(|file| is_built(file)) {
        let path = workspace.root().join(file);
        file.hash(&mut hasher);
        std::fs::read(&path).map_err(on_path(&path))?.hash(&mut hasher);
    }
    for volume in bases::lent()? {
        volume.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Roughly what `.dockerignore` lets pass: a file too many only builds once too often.
fn is_built(file: &Path) -> bool {
    const NOT: &[&str] = &[
        "crates/bench",
        "crates/xtask",
        "examples/literature/deploy",
        "examples/literature/scripts",
    ];
    let is_part = ["crates", "examples", ".cargo"]
        .iter()
        .any(|folder| file.starts_with(folder));
    let is_root = ["Cargo.toml", "Cargo.lock", ".dockerignore"]
        .iter()
        .any(|name| file == Path::new(name));
    let is_test = file
        .iter()
        .nth(2)
        .is_some_and(|part| part == "tests" || part == "benches");
    (is_part || is_root) && !is_test && !NOT.iter().any(|folder| file.starts_with(folder))
}

/// Every file below a directory with its length, links included and not followed.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).map_err(on_path(&directory))? {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            if meta.is_dir() {
                waiting.push(path);
            } else {
                let inside = path.strip_prefix(root).unwrap_or(&path).to_owned();
                found.insert(inside, meta.len());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_image_is_built_from_counts() {
        for built in [
            "Cargo.lock",
            "crates/zhuji/src/lib.rs",
            "examples/literature/Dockerfile",
            ".cargo/config.toml",
        ] {
            assert!(is_built(Path::new(built)), "{built}");
        }
        for other in [
            "README.md",
            "crates/zhuji/tests/a.rs",
            "crates/bench/Cargo.toml",
            "docs/deployment.md",
        ] {
            assert!(!is_built(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn an_image_must_not_run_as_root_or_need_a_shell() {
        let mut image = Image {
            user: "10001:10001".to_owned(),
            ..Image::default()
        };
        assert_eq!(image.user().expect("numbers"), (10001, 10001));
        for root in ["", "0:0", "root", "10001", "10001:0"] {
            image.user = root.to_owned();
            assert!(image.user().is_err(), "{root}");
        }
        image.healthcheck.test = vec!["CMD".to_owned(), "/literature".to_owned()];
        assert_eq!(image.healthcheck().expect("the exec form"), ["/literature"]);
        image.healthcheck.test[0] = "CMD-SHELL".to_owned();
        assert!(image.healthcheck().is_err());
    }
}
