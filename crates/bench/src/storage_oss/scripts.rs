//! Alibaba's own clients in other languages, fetched once and kept below `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::driver::Contender;

const PYTHON: &str = include_str!("peer_oss2.py");
const NODE: &str = include_str!("peer_ali_oss.mjs");
pub(super) const OSS2: &str = "oss2==2.19.1";
pub(super) const ALI_OSS: &str = "ali-oss@6.23.0";

/// Where each of them lies, with CRC-64 and V4 as ours.
pub(super) struct Scripts {
    pub(super) oss2: Option<PathBuf>,
    pub(super) ali_oss: Option<PathBuf>,
}

impl Scripts {
    /// What can't be had is told in `notes`, and its rows are missing.
    pub(super) fn ensure(folder: &Path, notes: &mut Vec<String>) -> Self {
        let mut kept = |name: &str, result: anyhow::Result<PathBuf>| {
            result
                .map_err(|error| notes.push(format!("SKIPPED: {name} is not to be had: {error:#}")))
                .ok()
        };
        Self {
            oss2: kept("oss2", oss2(&folder.join("oss2"))),
            ali_oss: kept("ali-oss", ali_oss(&folder.join("ali-oss"))),
        }
    }

    pub(super) fn start(&self, name: &str, endpoint: &str) -> anyhow::Result<Contender> {
        let (program, folder, script) = match name {
            "oss2" => {
                let folder = self.oss2.as_ref().context("it is not there")?;
                (folder.join("bin/python"), folder, "peer.py")
            }
            _ => {
                let folder = self.ali_oss.as_ref().context("it is not there")?;
                (PathBuf::from("node"), folder, "peer.mjs")
            }
        };
        let mut command = Command::new(program);
        command.arg(folder.join(script)).arg(endpoint);
        Contender::run(name, command)
    }
}

fn oss2(folder: &Path) -> anyhow::Result<PathBuf> {
    if !folder.join("done").exists() {
        quietly(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        quietly(Command::new(folder.join("bin/pip")).args(["install", "--quiet", OSS2]))?;
        std::fs::write(folder.join("done"), OSS2)?;
    }
    std::fs::write(folder.join("peer.py"), PYTHON)?;
    Ok(folder.to_owned())
}

fn ali_oss(folder: &Path) -> anyhow::Result<PathBuf> {
    if !folder.join("done").exists() {
        std::fs::create_dir_all(folder)?;
        let npm = ["install", "--no-audit", "--no-fund", "--silent", "--prefix"];
        quietly(Command::new("npm").args(npm).arg(folder).arg(ALI_OSS))?;
        std::fs::write(folder.join("done"), ALI_OSS)?;
    }
    std::fs::write(folder.join("peer.mjs"), NODE)?;
    Ok(folder.to_owned())
}

fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let told = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{} could not be started", told.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        bail!("{} failed ({}): {last}", told.display(), output.status);
    }
    Ok(())
}
