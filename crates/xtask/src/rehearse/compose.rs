//! The composition for a site: checked against the specification, and its settings by the service itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::yaml;
use crate::failure::{Result, on_path};
use crate::workspace::Workspace;
use crate::{process, service, tools};

const DIRECTORY: &str = "examples/literature/deploy";
const SCRIPTS: &str = "examples/literature/scripts";
const SERVICE: &str = "literature";

/// Where an engine puts a container's secrets.
const SECRETS: &str = "/run/secrets/";

pub(super) fn rehearse(workspace: &Workspace) -> Result<String> {
    let temporary = tempfile::tempdir()?;
    let composition = Composition::read(workspace)?;
    let file = workspace.root().join(DIRECTORY).join("compose.yaml");
    follows_the_specification(workspace, &file)?;
    // Whether the check would see it: one letter too many.
    let text = std::fs::read_to_string(&file).map_err(on_path(&file))?;
    let misspelt = temporary.path().join("compose.yaml");
    std::fs::write(&misspelt, text.replace("start_period:", "start_perriod:"))?;
    if follows_the_specification(workspace, &misspelt).is_ok() {
        return Err("the check of the specification let a misspelt key pass".into());
    }
    prometheus(workspace)?;

    let secrets = temporary.path().join("secrets");
    let made = make_secrets(workspace, &secrets)?;
    composition.secrets_are_made(&secrets)?;
    let program = service::build(false)?;
    let environment = composition.environment(&secrets)?;
    accepts(&program, &environment, temporary.path())?;
    let mut misspelt = environment.clone();
    misspelt.insert("DB_POOL_SIZ".to_owned(), "5".to_owned());
    if accepts(&program, &misspelt, temporary.path()).is_ok() {
        return Err("the service took a variable that it does not know".into());
    }
    println!("NOT PROVED here: that an engine starts the composition, that its limits and its network hold");
    Ok(format!(
        "{} services, {} settings taken by the service, {made} secrets made",
        composition.services.len(),
        environment.len()
    ))
}

fn follows_the_specification(workspace: &Workspace, file: &Path) -> Result<()> {
    let mut check = Command::new(tools::CHECK_JSONSCHEMA.ensure(workspace)?);
    check.args(["--builtin-schema", "vendor.compose-spec"]).arg(file);
    process::run_quietly(&mut check).map(drop)
}

fn prometheus(workspace: &Workspace) -> Result<()> {
    let mut check = Command::new(tools::PROMTOOL.ensure(workspace)?);
    check.args(["check", "config"]);
    check.arg(workspace.root().join(DIRECTORY).join("prometheus.yml"));
    process::run_quietly(&mut check).map(drop)
}

/// Runs the site's own script, twice: the second time has to leave everything as it is. Answers with how many there are.
fn make_secrets(workspace: &Workspace, directory: &Path) -> Result<usize> {
    let made = || -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let script = workspace.root().join(SCRIPTS).join("make-secrets.sh");
        process::run_quietly(Command::new(script).arg(directory))?;
        let files = std::fs::read_dir(directory).map_err(on_path(directory))?;
        files
            .map(|file| {
                let path = file?.path();
                let bytes = std::fs::read(&path).map_err(on_path(&path))?;
                Ok((path, bytes))
            })
            .collect()
    };
    let first = made()?;
    if made()? != first {
        return Err("make-secrets.sh, typed again, changed secrets that were there".into());
    }
    Ok(first.len())
}

/// `literature config check` with these settings and no others.
fn accepts(program: &Path, environment: &BTreeMap<String, String>, directory: &Path) -> Result<()> {
    let mut check = Command::new(program);
    check
        .args(["config", "check"])
        .env_clear()
        .envs(environment)
        .current_dir(directory);
    process::run_quietly(&mut check).map(drop)
}

/// What of `compose.yaml` is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Composition {
    services: BTreeMap<String, Service>,
    secrets: BTreeMap<String, Secret>,
    #[serde(skip)]
    site: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    secrets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Secret {
    file: PathBuf,
}

impl Composition {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let directory = workspace.root().join(DIRECTORY);
        let mut composition: Self = yaml::read(workspace, &Path::new(DIRECTORY).join("compose.yaml"))?;
        let example = directory.join(".env.example");
        let text = std::fs::read_to_string(&example).map_err(on_path(&example))?;
        composition.site = assignments(&text);
        Ok(composition)
    }

    /// Every secret of the file is one that the script makes.
    fn secrets_are_made(&self, directory: &Path) -> Result<()> {
        for (name, secret) in &self.secrets {
            let made = secret.file.file_name().map(|file| directory.join(file));
            if !made.is_some_and(|file| file.is_file()) {
                return Err(format!("make-secrets.sh does not make the secret {name}").into());
            }
        }
        Ok(())
    }

    /// What the service's process has in its environment, with secrets read from this directory.
    pub(super) fn environment(&self, secrets: &Path) -> Result<BTreeMap<String, String>> {
        let service = self
            .services
            .get(SERVICE)
            .ok_or("compose.yaml has no service `literature`")?;
        let mut environment = BTreeMap::new();
        for (name, value) in &service.environment {
            let value = interpolated(value, &self.site)
                .map_err(|why| format!("compose.yaml: {name}: {why} is not in .env.example"))?;
            let value = match value.strip_prefix(SECRETS) {
                Some(secret) if !service.secrets.iter().any(|given| given == secret) => {
                    return Err(format!(
                        "compose.yaml: {name} reads the secret {secret}, which is not given"
                    )
                    .into());
                }
                Some(secret) => secrets.join(secret).display().to_string(),
                None => value,
            };
            environment.insert(name.clone(), value);
        }
        Ok(environment)
    }
}

/// `NAME=value` lines.
fn assignments(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// `${NAME}`, `${NAME:-default}`, `${NAME:?why}` and `$$`, as compose reads them; the name of one that has no value.
fn interpolated(text: &str, site: &BTreeMap<String, String>) -> std::result::Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
            continue;
        }
        let (inside, after) = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'))
            .ok_or_else(|| format!("`${after}`"))?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside.split(":?").next().unwrap_or(inside), None),
        };
        let value = site
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty());
        done.push_str(value.or(default).ok_or(name)?);
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_as_compose_does() {
        let site = assignments("# no\nHERE=x=y\nEMPTY=\n");
        let put = |text: &str| interpolated(text, &site);
        assert_eq!(
            put("${HERE:?why}/${GONE:-3001} $$5").as_deref(),
            Ok("x=y/3001 $5")
        );
        assert_eq!(put("${EMPTY:-d}").as_deref(), Ok("d"));
        assert_eq!(put("${GONE:?why}"), Err("GONE".to_owned()));
        assert!(put("$HERE").is_err(), "the plain form is not used");
    }
}
