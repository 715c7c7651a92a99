//! The bundle for a site without a network: made, unpacked in an empty directory, installed and started in a network
//! namespace that leads nowhere.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use zhuji_testkit::{DevCluster, free_port};

use super::running::{self, Running};
use crate::failure::{Failure, Result, on_path};
use crate::machine::{self, POSTGRES};
use crate::workspace::Workspace;
use crate::{process, service};

const SCRIPTS: &str = "examples/literature/scripts";
const VERSION: &str = "v0.0.1";
/// Set for the part that runs without a network: the archive to install.
const INSIDE: &str = "XTASK_BUNDLE";
/// Brings loopback up, and becomes what follows.
const ENTER: &str = r#"ip link set lo up && exec "$@""#;

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    if let Some(archive) = std::env::var_os(INSIDE) {
        return install_and_run(Path::new(&archive));
    }
    machine::ensure(&POSTGRES)?;
    let directory = tempfile::tempdir()?;
    let programs = [
        ("literature", service::build(false)?),
        ("zhuji", running::build(workspace, "zhuji-cli", "zhuji")?),
    ];
    let archive = make(workspace, directory.path(), &programs)?;
    let megabytes = archive.metadata()?.len() / 1_000_000;
    if let Some(why) = unable() {
        println!("NOT PROVED here: that it installs and starts without a network, because {why}");
        return Ok(format!(
            "{megabytes} MB, made twice to the same byte, and nothing more"
        ));
    }
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--", "sh", "-c", ENTER, "sh"]);
    inside.arg(std::env::current_exe()?).args(["rehearse", "bundle"]);
    let output = process::run_quietly(inside.env(INSIDE, &archive))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let ran = said
        .lines()
        .find_map(|line| line.strip_prefix("bundle: "))
        // Its own time is part of the whole.
        .and_then(|line| line.rsplit_once(" (").map(|(figure, _)| figure))
        .ok_or("the part without a network said nothing")?;
    println!(
        "NOT PROVED here: systemd, and the composition's images (no engine); the programs are not optimised"
    );
    Ok(format!(
        "{megabytes} MB, made twice to the same byte; without a network: {ran}"
    ))
}

/// Why nothing can be run without a network here.
fn unable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a network namespace takes root".to_owned());
    }
    let missing = ["unshare", "ip"]
        .into_iter()
        .find(|name| machine::find(name).is_none())?;
    Some(format!("{missing} was not found"))
}

/// Makes the bundle twice, and holds one to the other.
fn make(workspace: &Workspace, directory: &Path, programs: &[(&str, PathBuf); 2]) -> Result<PathBuf> {
    let mut stripped = Vec::new();
    for (name, program) in programs {
        // A build for development carries its symbols, which nobody would ship.
        let to = directory.join(name);
        let mut strip = Command::new("strip");
        process::run_quietly(strip.arg("-o").arg(&to).arg(program))?;
        stripped.push(to);
    }
    let bill = directory.join("bom.cdx.json");
    std::fs::write(&bill, "{}")?;
    let mut archives = Vec::new();
    for turn in ["first", "second"] {
        let to = directory.join(turn);
        std::fs::create_dir(&to)?;
        let mut script = Command::new(workspace.root().join(SCRIPTS).join("make-bundle.sh"));
        script
            .args(["--version", VERSION])
            .arg("--program")
            .arg(&stripped[0]);
        script
            .arg("--operator")
            .arg(&stripped[1])
            .arg("--to")
            .arg(&to)
            .arg("--sbom")
            .arg(&bill);
        let output = process::run_quietly(&mut script)?;
        archives.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let read = |path: &PathBuf| std::fs::read(path).map_err(on_path(path));
    if read(&archives[0])? != read(&archives[1])? {
        return Err("the same inputs made two different bundles".into());
    }
    Ok(archives.remove(0))
}

/// In the namespace.
fn install_and_run(archive: &Path) -> Result<String> {
    let routes = std::fs::read_to_string("/proc/self/net/route")?;
    if routes.lines().skip(1).any(|line| !line.trim().is_empty()) {
        return Err("there is a way out of this network".into());
    }
    let home = tempfile::tempdir()?;
    // PostgreSQL runs as another user.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
    let unpacked = unpack(archive, home.path())?;
    refuses_damage(archive, home.path())?;
    let target = home.path().join("site");
    let install = |directory: &Path| {
        let mut install = Command::new(directory.join("install.sh"));
        process::run_quietly(install.arg("program").arg(&target))
    };
    install(&unpacked)?;
    let away = |error: zhuji_testkit::ServerError| Failure::new(error.to_string());
    let cluster = DevCluster::start(home.path().join("postgres"), false).map_err(away)?;
    let outcome = (|| {
        std::fs::write(target.join("secrets/database_url"), cluster.url())?;
        let environment = environment(&target)?;
        let running = Running::start(&target.join("current/bin/literature"), &environment, &target)?;
        let after = running.started_after.as_millis();
        running.stop()?;
        // Typed again: what the site made its own stays.
        let mine = std::fs::read(target.join("secrets/database_url"))?;
        install(&unpacked)?;
        if std::fs::read(target.join("secrets/database_url"))? != mine {
            return Err("the installer, typed again, changed a secret".into());
        }
        let mut backup = Command::new(target.join("current/bin/zhuji"));
        backup.args(["backup", "--to", "kept"]).current_dir(&target);
        process::run_quietly(backup.env_clear().envs(&environment))?;
        Ok(format!(
            "checked, installed twice, /health 200 after {after} ms, backed up with what it brings"
        ))
    })();
    cluster.stop();
    outcome
}

fn unpack(archive: &Path, to: &Path) -> Result<PathBuf> {
    let mut tar = Command::new("tar");
    process::run_quietly(
        tar.arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(to),
    )?;
    let mut found = std::fs::read_dir(to)?.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .find(|path| path.join("install.sh").is_file())
        .ok_or_else(|| "the bundle has no installer".into())
}

/// One byte changed, and one file too many.
fn refuses_damage(archive: &Path, home: &Path) -> Result<()> {
    for harm in ["changed", "added"] {
        let directory = home.join(harm);
        std::fs::create_dir(&directory)?;
        let unpacked = unpack(archive, &directory)?;
        match harm {
            "changed" => std::fs::write(unpacked.join("deploy/compose.yaml"), "name: other\n")?,
            _ => std::fs::write(unpacked.join("bin/other"), "")?,
        }
        let mut check = Command::new(unpacked.join("install.sh"));
        if process::run_quietly(check.arg("check")).is_ok() {
            return Err(format!("the installer takes a bundle in which a file was {harm}").into());
        }
    }
    Ok(())
}

/// What the installer wrote down, on ports that are free.
fn environment(target: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(target.join("literature.env"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut environment: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let port = free_port();
    environment.insert("PORT".to_owned(), port.to_string());
    environment.insert("BASE_URL".to_owned(), format!("http://127.0.0.1:{port}"));
    environment.insert("METRICS_LISTEN".to_owned(), format!("127.0.0.1:{}", free_port()));
    environment.insert("PATH".to_owned(), std::env::var("PATH").unwrap_or_default());
    Ok(environment)
}
