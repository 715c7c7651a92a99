//! Reading YAML, by the reader that comes with a checker of ours.

use std::path::Path;
use std::process::Command;

use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;
use crate::{process, tools};

const AS_JSON: &str = "import json, sys\nfrom ruamel.yaml import YAML\n\
                       json.dump(YAML(typ='safe').load(open(sys.argv[1])), sys.stdout)";

/// Reads a file, whose path is from the root of the workspace.
pub(super) fn read<T: DeserializeOwned>(workspace: &Workspace, file: &Path) -> Result<T> {
    let checker = tools::CHECK_JSONSCHEMA.ensure(workspace)?;
    let mut python = Command::new(checker.with_file_name("python"));
    python.args(["-c", AS_JSON]).arg(workspace.root().join(file));
    let json = process::run_quietly(&mut python)?.stdout;
    serde_json::from_slice(&json).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}
