//! Starting other programs and waiting for them.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Output};

use crate::failure::{Failure, Result};

/// The cargo that started this program.
///
/// `cargo run` describes the `xtask` package in the environment. A second cargo must not see that: build scripts that
/// watch those variables would run again, and everything above them would be rebuilt at every turn.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if describes_a_package(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_a_package(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_PRIMARY_PACKAGE"
}

/// `cargo clippy --workspace`: what a person would type.
pub(crate) fn shown(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program())
        .file_name()
        .map_or_else(|| command.get_program().to_string_lossy(), OsStr::to_string_lossy);
    let words =
        std::iter::once(quoted(&name)).chain(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a program with this terminal as its own; an unsuccessful end is an error that carries its status.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .map_err(|error| Failure::new(format!("`{}` could not be started: {error}", shown(command))))?;
    ended(command, status)
}

/// Runs a program quietly; its last lines are in the error when it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("`{}` could not be started: {error}", shown(command))))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(15)..].join("\n    ");
    Err(Failure::with_code(
        format!("`{}` failed ({}):\n    {tail}", shown(command), output.status),
        code_of(output.status),
    ))
}

pub(crate) fn ended(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::with_code(
        format!("`{}` failed ({status})", shown(command)),
        code_of(status),
    ))
}

/// The status a shell would report: `128 + n` after signal `n`.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "-E", "package(zhuji) & !binary(it)", ""]);
        assert_eq!(shown(&command), "cargo test -E 'package(zhuji) & !binary(it)' ''");
    }

    #[test]
    fn only_the_description_of_this_package_is_hidden_from_cargo() {
        for name in [
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_BIN_NAME",
            "CARGO_PRIMARY_PACKAGE",
        ] {
            assert!(describes_a_package(name), "{name}");
        }
        for name in [
            "CARGO_TARGET_DIR",
            "CARGO_HOME",
            "CARGO_REGISTRIES_INTERNAL_INDEX",
            "CARGO_TERM_COLOR",
        ] {
            assert!(!describes_a_package(name), "{name}");
        }
    }

    #[test]
    fn the_status_of_a_failed_program_is_kept() {
        let failed = run_quietly(Command::new("sh").args(["-c", "echo why; exit 7"])).expect_err("exit 7");
        assert_eq!(failed.code(), 7);
        assert!(failed.to_string().contains("why"), "{failed}");

        let killed = run_quietly(Command::new("sh").args(["-c", "kill -TERM $$"])).expect_err("a signal");
        assert_eq!(killed.code(), 128 + 15);
    }
}
