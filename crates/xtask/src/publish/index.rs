//! The internal registry, read over HTTP: what is there, and with which bytes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::REGISTRY;
use super::packages::{File, sha256};
use crate::failure::{Failure, Result, on_path};
use crate::process;
use crate::workspace::Workspace;

/// A sparse index, as cargo reads it.
#[derive(Debug)]
pub(crate) struct Index {
    /// With a slash at its end.
    url: String,
    token: Option<String>,
}

/// One version of a crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) vers: String,
    pub(crate) cksum: String,
}

#[derive(Deserialize)]
struct Config {
    dl: String,
}

impl Index {
    /// The registry's index, if it is the one that this repository names, or one on this machine.
    pub(crate) fn internal(workspace: &Workspace, registry: &str) -> Result<Self> {
        if registry != REGISTRY {
            return Err(format!(
                "these crates go to the registry `{REGISTRY}` and to no other: not to `{registry}`"
            )
            .into());
        }
        let file = workspace.root().join(".cargo/config.toml");
        let config = std::fs::read_to_string(&file).map_err(on_path(&file))?;
        let ours = index_in(&config).ok_or_else(|| format!("{} names no index", file.display()))?;
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = variable("CARGO_REGISTRIES_INTERNAL_INDEX").unwrap_or_else(|| ours.clone());
        if url != ours && !is_on_this_machine(&url) {
            return Err(format!(
                "CARGO_REGISTRIES_INTERNAL_INDEX leads to {url}: these crates go to {ours}, or to a rehearsal on this machine"
            )
            .into());
        }
        let url = url.strip_prefix("sparse+").unwrap_or(&url).trim_end_matches('/');
        Ok(Self {
            url: format!("{url}/"),
            token: variable("CARGO_REGISTRIES_INTERNAL_TOKEN"),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The versions of a crate; none if the registry does not know it.
    pub(crate) fn versions(&self, name: &str) -> Result<Vec<Entry>> {
        let Some(lines) = self.get(&format!("{}{}", self.url, path_of(name)))? else {
            return Ok(Vec::new());
        };
        let lines = String::from_utf8(lines)?;
        let entries = lines.lines().map(|line| {
            serde_json::from_str(line).map_err(|error| Failure::new(format!("the index of {name}: {error}")))
        });
        entries.collect()
    }

    /// Downloads a version as a user would, and compares its bytes with ours.
    pub(super) fn read_back(&self, file: &File) -> Result<()> {
        let config = self
            .get(&format!("{}config.json", self.url))?
            .ok_or("the index has no config.json")?;
        let config: Config =
            serde_json::from_slice(&config).map_err(|error| format!("the index's config.json: {error}"))?;
        let url = format!("{}/{}/{}/download", config.dl, file.name, file.version);
        let bytes = self.get(&url)?.ok_or_else(|| format!("{url}: not found"))?;
        if sha256(&bytes) == file.checksum {
            return Ok(());
        }
        Err(format!(
            "{} {}: what can be downloaded is not what was published",
            file.name, file.version
        )
        .into())
    }

    /// The body; `None` for what is not there. The token goes by a pipe: a command line can be seen by everybody.
    fn get(&self, url: &str) -> Result<Option<Vec<u8>>> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--location",
            "--max-time",
            "120",
            "--header",
            "@-",
        ])
        .args(["--write-out", "%{stderr}%{http_code}"])
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        let mut child = curl
            .spawn()
            .map_err(|error| Failure::new(format!("curl could not be started: {error}")))?;
        if let (Some(mut input), Some(token)) = (child.stdin.take(), &self.token) {
            writeln!(input, "authorization: {token}")?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(Failure::with_code(
                format!("{url}: {}", said.trim()),
                process::code_of(output.status),
            ));
        }
        match said.trim() {
            "200" => Ok(Some(output.stdout)),
            "404" | "410" | "451" => Ok(None),
            "401" | "403" => Err(format!(
                "{url}: the registry does not take this token ({}): set CARGO_REGISTRIES_INTERNAL_TOKEN",
                said.trim()
            )
            .into()),
            other => Err(format!("{url}: the registry answers {other}").into()),
        }
    }
}

/// Where a crate's line of the index lies.
pub(crate) fn path_of(name: &str) -> String {
    let name = name.to_lowercase();
    match name.len() {
        1 | 2 => format!("{}/{name}", name.len()),
        3 => format!("3/{}/{name}", &name[..1]),
        _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
    }
}

/// The address under `[registries.internal]`.
fn index_in(config: &str) -> Option<String> {
    let section = config.split_once(&format!("[registries.{REGISTRY}]"))?.1;
    let section = section.split("\n[").next()?;
    let line = section
        .lines()
        .find(|line| line.trim_start().starts_with("index"))?;
    Some(line.split('"').nth(1)?.to_owned())
}

fn is_on_this_machine(url: &str) -> bool {
    let url = url.strip_prefix("sparse+").unwrap_or(url);
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // No user: what stands in front of an `@` is none.
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_looked_for_where_cargo_does() {
        assert_eq!(path_of("a"), "1/a");
        assert_eq!(path_of("ab"), "2/ab");
        assert_eq!(path_of("abc"), "3/a/abc");
        assert_eq!(path_of("zhuji-Storage"), "zh/uj/zhuji-storage");
    }

    #[test]
    fn the_address_is_read_from_its_section() {
        let config = "[alias]\nindex = \"no\"\n[registries.internal]\n# why\nindex = \"sparse+https://a/\"\n[registry]\n";
        assert_eq!(index_in(config).as_deref(), Some("sparse+https://a/"));
        assert_eq!(index_in("[registries.internal]\n[x]\nindex = \"no\""), None);
    }

    #[test]
    fn only_this_machine_counts_as_a_rehearsal() {
        for yes in [
            "sparse+http://localhost:1234/index/",
            "http://127.0.0.1/",
            "sparse+http://[::1]:9/",
        ] {
            assert!(is_on_this_machine(yes), "{yes}");
        }
        for no in [
            "sparse+https://registry.example.org/",
            "http://localhost.example.org/",
            "http://localhost@example.org/",
            "http://localhost:pw@example.org:80/",
            "http://example.org/localhost",
            "file:///localhost",
        ] {
            assert!(!is_on_this_machine(no), "{no}");
        }
    }
}
