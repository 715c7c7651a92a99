//! `zhuji deploy render`: what a cloud is told, worked out from the settings that the service itself reads.

mod args;
mod plan;
mod sae;

use std::process::ExitCode;

use serde_json::Value;

pub(crate) use args::DeployCommand;

use self::args::{Operation, Render};
use self::plan::Plan;
use crate::failure::Failure;
use crate::storage::say;

pub(crate) fn run(command: &DeployCommand) -> Result<ExitCode, Failure> {
    match command {
        DeployCommand::Render(args) => render(args),
    }
}

fn render(args: &Render) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(&args.from)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.from.display())))?;
    let mut plan =
        Plan::read(&text).map_err(|why| Failure::usage(format!("{}: {why}", args.from.display())))?;
    if let Some(image) = &args.image {
        plan.application.image.clone_from(image);
    }
    let settings = plan
        .settings()
        .map_err(|why| Failure::usage(format!("{}: {why}", args.from.display())))?;
    let rendered = sae::sorted(&sae::render(&plan, &settings));
    if let Some(operation) = args.arguments {
        return Ok(print_arguments(&rendered, operation));
    }
    let text = serde_json::to_string_pretty(&rendered)
        .map_err(|error| Failure::failed(format!("it can't be written as JSON: {error}")))?;
    let Some(file) = &args.check else {
        say(&text);
        return Ok(ExitCode::SUCCESS);
    };
    let found = std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    let found: Value = serde_json::from_str(&found)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    match differences(&rendered, &found) {
        lines if lines.is_empty() => Ok(ExitCode::SUCCESS),
        lines => Err(Failure::failed(format!(
            "{} is not what {} says now: {}; render it again",
            file.display(),
            args.from.display(),
            lines.join(", ")
        ))),
    }
}

/// The parameters of one call, each name and value ended by NUL, for `xargs -0`.
fn print_arguments(rendered: &Value, operation: Operation) -> ExitCode {
    use std::io::Write as _;
    let mut text = String::new();
    for (name, value) in rendered[operation.name()].as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        text.push_str(&format!("--{name}\0{value}\0"));
    }
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// The parameters that are not the same.
fn differences(rendered: &Value, found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for operation in [Operation::Deploy, Operation::Scale] {
        let (one, other) = (&rendered[operation.name()], &found[operation.name()]);
        let names = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .into_iter()
                .flat_map(|object| object.keys().cloned())
                .collect()
        };
        let mut all = [names(one), names(other)].concat();
        all.sort();
        all.dedup();
        lines.extend(
            all.into_iter()
                .filter(|name| one[name] != other[name])
                .map(|name| format!("{}.{name}", operation.name())),
        );
    }
    lines
}
