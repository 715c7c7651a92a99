//! The service's own commands and its settings, as an operator meets them.

use std::path::Path;
use std::process::{Command, Output};

fn literature(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    Command::new(env!("CARGO_BIN_EXE_literature"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir.path())
        .output()
        .expect("the binary runs")
}

/// To write it anew: `literature config template > examples/literature/.env.example`.
#[test]
fn the_committed_template_equals_the_types() {
    let output = literature(&["config", "template"], &[]);
    assert!(output.status.success(), "{output:?}");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let committed = std::fs::read_to_string(committed).expect("it is committed");
    let generated = String::from_utf8(output.stdout).expect("it is text");
    for (number, (committed, generated)) in (1..).zip(committed.lines().zip(generated.lines())) {
        assert_eq!(
            committed, generated,
            ".env.example differs in line {number}; write it anew"
        );
    }
    assert_eq!(
        committed, generated,
        ".env.example has another length; write it anew"
    );
}

#[test]
fn all_wrong_settings_are_named_at_once_and_no_secret_is_shown() {
    let output = literature(
        &["serve"],
        &[
            ("DATABASE_URL", "postgres://asl:hush-hush@127.0.0.1:1/asl"),
            ("ASL_MAX_PDF_BYTES", "plenty"),
            ("ASL_PDF_URL_EXPIRE", "5m"),
            ("STORAGE_TYPE", "locl"),
            ("PORT", "70000"),
        ],
    );
    assert!(!output.status.success());
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for word in [
        "ASL_MAX_PDF_BYTES",
        "ASL_PDF_URL_EXPIRE",
        "ASL_PDF_URL_EXPIRES",
        "PORT",
    ] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    assert!(!text.contains("hush-hush"), "{text}");
}

#[test]
fn the_program_knows_its_modules() {
    let output = literature(&["modules"], &[("DATABASE_URL", "postgres://127.0.0.1:1/asl")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("asl"), "{output:?}");
}
