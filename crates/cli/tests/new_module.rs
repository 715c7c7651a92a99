//! `zhuji new module`: what it writes, what it refuses, and that the lints it hands out find what they name.
//!
//! That a fresh module compiles and passes its own tests is rehearsed: `cargo xtask rehearse registry`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn zhuji(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zhuji"))
        .args(["new", "module"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("the program runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Everything below a directory, with its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("it is there").flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path(), read(entry.path()))),
        }
    }
    found
}

#[test]
fn a_module_is_written_once_and_never_over_anything() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = zhuji(dir.path(), &["patient-notes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("cargo test"),
        "the next steps: {}",
        text(&output)
    );
    let home = dir.path().join("patient-notes");
    let manifest = read(home.join("Cargo.toml"));
    assert!(manifest.contains("zhuji = { version = \"0."), "{manifest}");
    assert!(manifest.contains("registry = \"internal\""), "{manifest}");
    assert!(read(home.join("src/lib.rs")).contains("Manifest::new(\"patient_notes\")"));
    assert!(read(home.join("tests/module.rs")).contains("assert_module!(patient_notes::PatientNotes"));

    let before = files(dir.path());
    assert_eq!(before.len(), 13, "{:?}", before.keys());
    let again = zhuji(dir.path(), &["patient-notes"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again).contains("nothing is overwritten"),
        "{}",
        text(&again)
    );
    assert_eq!(files(dir.path()), before);

    // An empty directory is somebody's, too.
    std::fs::create_dir(dir.path().join("empty")).expect("it is new");
    let refused = zhuji(dir.path(), &["notes", "--dir", "empty"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
}

#[test]
fn a_dry_run_says_what_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = zhuji(
        dir.path(),
        &["aia", "--dir", "modules/aia", "--dry-run", "--json"],
    );
    assert!(output.status.success(), "{}", text(&output));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["module"], "aia");
    assert_eq!(said["dir"], "modules/aia");
    assert_eq!(said["written"], false);
    assert_eq!(said["files"].as_array().map(Vec::len), Some(13));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn wrong_usage_is_named_and_told_from_failure() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (arguments, words) in [
        (vec!["match"], "keyword"),
        (vec!["Notes"], "begins with"),
        (vec!["public"], "taken"),
        (vec!["notes", "--from", "git"], "expected `registry`"),
    ] {
        let output = zhuji(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
    let output = zhuji(dir.path(), &["notes", "--from", "path:."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no checkout"), "{}", text(&output));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_checkout_is_named_by_the_way_to_it_and_a_workspace_above_is_pointed_out() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for krate in ["zhuji", "testkit"] {
        let home = dir.path().join("platform/crates").join(krate);
        std::fs::create_dir_all(&home).expect("it is new");
        std::fs::write(home.join("Cargo.toml"), "").expect("it can be written");
    }
    std::fs::write(dir.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").expect("it can be written");
    let output = zhuji(
        dir.path(),
        &["notes", "--dir", "team/modules/notes", "--from", "path:platform"],
    );
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("add it to the members of"),
        "{}",
        text(&output)
    );
    let manifest = read(dir.path().join("team/modules/notes/Cargo.toml"));
    for krate in ["zhuji", "testkit"] {
        let line = format!("path = \"../../../platform/crates/{krate}\"");
        assert!(manifest.contains(&line), "{manifest}");
    }
}

/// What the lints name in the standard library, and a line that does it.
const STANDARD: &[(&str, &str)] = &[
    ("std::fs::write", r#"let _ = std::fs::write("a", "b");"#),
    ("std::fs::copy", r#"let _ = std::fs::copy("a", "b");"#),
    ("std::fs::rename", r#"let _ = std::fs::rename("a", "b");"#),
    ("std::fs::hard_link", r#"let _ = std::fs::hard_link("a", "b");"#),
    ("std::fs::create_dir", r#"let _ = std::fs::create_dir("a");"#),
    (
        "std::fs::create_dir_all",
        r#"let _ = std::fs::create_dir_all("a");"#,
    ),
    ("std::fs::remove_file", r#"let _ = std::fs::remove_file("a");"#),
    ("std::fs::remove_dir", r#"let _ = std::fs::remove_dir("a");"#),
    (
        "std::fs::remove_dir_all",
        r#"let _ = std::fs::remove_dir_all("a");"#,
    ),
    ("std::fs::File::create", r#"let _ = std::fs::File::create("a");"#),
    (
        "std::fs::File::create_new",
        r#"let _ = std::fs::File::create_new("a");"#,
    ),
    ("std::fs::File::options", "let _ = std::fs::File::options();"),
    (
        "std::fs::OpenOptions::open",
        r#"let _ = std::fs::OpenOptions::new().open("a");"#,
    ),
    ("std::env::temp_dir", "let _ = std::env::temp_dir();"),
    ("std::env::var", r#"let _ = std::env::var("A");"#),
    ("std::env::var_os", r#"let _ = std::env::var_os("A");"#),
    ("std::env::vars", "let _ = std::env::vars();"),
    ("std::env::vars_os", "let _ = std::env::vars_os();"),
    ("std::env::set_var", r#"unsafe { std::env::set_var("A", "b") };"#),
    ("std::env::remove_var", r#"unsafe { std::env::remove_var("A") };"#),
    ("std::process::exit", "let _ = || std::process::exit(1);"),
    ("std::process::abort", "let _ = || std::process::abort();"),
    (
        "std::process::Command::new",
        r#"let _ = std::process::Command::new("a");"#,
    ),
    (
        "std::thread::sleep",
        "std::thread::sleep(std::time::Duration::ZERO);",
    ),
    ("std::thread::spawn", "let _ = std::thread::spawn(|| ());"),
    ("std::fs::read", r#"let _ = std::fs::read("a");"#),
    (
        "std::fs::read_to_string",
        r#"let _ = std::fs::read_to_string("a");"#,
    ),
    ("std::fs::read_dir", r#"let _ = std::fs::read_dir("a");"#),
    ("std::fs::File::open", r#"let _ = std::fs::File::open("a");"#),
    (
        "std::net::TcpStream::connect",
        r#"let _ = std::net::TcpStream::connect("a");"#,
    ),
    ("std::println", r#"println!("a");"#),
    ("std::print", r#"print!("a");"#),
    ("std::eprintln", r#"eprintln!("a");"#),
    ("std::eprint", r#"eprint!("a");"#),
    ("std::dbg", "dbg!(1);"),
];

/// What a fresh module's `clippy.toml` names, each with its reason.
fn named(clippy: &str) -> Vec<(String, String)> {
    let quoted = |line: &str, key: &str| {
        let value = line.split_once(&format!("{key} = \""))?.1;
        Some(value.split('"').next()?.to_owned())
    };
    clippy
        .lines()
        .filter_map(|line| Some((quoted(line, "path")?, quoted(line, "reason")?)))
        .collect()
}

/// Crates that have nothing but what the lints name: their paths are tried without building the real ones.
fn stand_ins(paths: &[&str]) -> BTreeMap<String, String> {
    let mut crates: BTreeMap<String, BTreeMap<Vec<&str>, Vec<&str>>> = BTreeMap::new();
    for path in paths {
        let mut parts: Vec<&str> = path.split("::").collect();
        let function = parts.pop().expect("a path has an end");
        let krate = parts.remove(0).to_owned();
        crates
            .entry(krate)
            .or_default()
            .entry(parts)
            .or_default()
            .push(function);
    }
    let mut sources = BTreeMap::new();
    for (krate, places) in crates {
        let mut modules: BTreeMap<Vec<&str>, String> = BTreeMap::new();
        for (place, functions) in places {
            let functions: String = functions
                .iter()
                .map(|name| format!("pub fn {name}() {{}}\n"))
                .collect();
            match place
                .last()
                .filter(|last| last.starts_with(|c: char| c.is_ascii_uppercase()))
            {
                Some(name) => {
                    let body = modules.entry(place[..place.len() - 1].to_vec()).or_default();
                    let _ = write!(body, "pub struct {name};\nimpl {name} {{\n{functions}}}\n");
                }
                None => modules.entry(place).or_default().push_str(&functions),
            }
        }
        let source = modules.into_iter().map(|(path, body)| {
            let open: String = path.iter().map(|name| format!("pub mod {name} {{\n")).collect();
            format!("{open}{body}{}", "}\n".repeat(path.len()))
        });
        sources.insert(krate, source.collect());
    }
    sources
}

#[test]
fn each_lint_of_a_module_team_finds_what_it_names() {
    let available = Command::new("cargo").args(["clippy", "--version"]).output();
    if !available.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: the lints of a module team are not tried: cargo clippy is not installed");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert!(zhuji(dir.path(), &["notes"]).status.success());
    let fresh = dir.path().join("notes");
    let named = named(&read(fresh.join("clippy.toml")));
    let foreign: Vec<&str> = named
        .iter()
        .map(|(path, _)| path.as_str())
        .filter(|path| !path.starts_with("std::"))
        .collect();
    for (path, _) in named.iter().filter(|(path, _)| path.starts_with("std::")) {
        assert!(
            STANDARD.iter().any(|(known, _)| known == path),
            "no line here does {path}"
        );
    }
    assert_eq!(
        (named.len(), foreign.len() + STANDARD.len()),
        (55, 55),
        "docs/cloud-native.md says so"
    );

    // A package with each violation, the fresh module's lints, and stand-ins for the crates of others.
    let home = dir.path().join("careless");
    let write = |path: &str, text: &str| {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().expect("it lies somewhere")).expect("it is new");
        std::fs::write(path, text).expect("it can be written");
    };
    let package = "[package]\nversion = \"0.1.0\"\nedition = \"2024\"\nname = ";
    let mut manifest =
        format!("{package}\"careless\"\n[workspace]\nmembers = [\"*\"]\nexclude = [\"src\", \"target\"]\n");
    manifest += "[dependencies]\n";
    for (krate, source) in stand_ins(&foreign) {
        write(&format!("{krate}/Cargo.toml"), &format!("{package}\"{krate}\"\n"));
        write(&format!("{krate}/src/lib.rs"), &source);
        let _ = writeln!(manifest, "{krate} = {{ path = \"{krate}\" }}");
    }
    let lints = read(fresh.join("Cargo.toml"));
    let lints = lints.split_once("[lints.clippy]").expect("the lints").1;
    let lints = lints.split("\n[").next().expect("up to the next section");
    write("Cargo.toml", &format!("{manifest}[lints.clippy]{lints}\n"));
    write("clippy.toml", &read(fresh.join("clippy.toml")));
    let lines = STANDARD.iter().map(|(_, line)| (*line).to_owned());
    let lines = lines.chain(foreign.iter().map(|path| format!("{path}();")));
    write(
        "src/lib.rs",
        &format!(
            "pub fn careless() {{\n{}\n}}\n",
            lines.collect::<Vec<_>>().join("\n")
        ),
    );

    let output = Command::new("cargo")
        .args([
            "clippy",
            "--offline",
            "--quiet",
            "--package",
            "careless",
            "--message-format",
            "json",
        ])
        .env("CARGO_TARGET_DIR", dir.path().join("target"))
        .current_dir(&home)
        .output()
        .expect("cargo runs");
    assert!(!output.status.success(), "it must not pass");
    let said: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(line["message"]["rendered"].as_str()?.to_owned()))
        .collect();
    let missing: Vec<&str> = named
        .iter()
        .filter(|(path, reason)| {
            let found = |text: &String| text.contains(&format!("`{path}`")) && text.contains(reason.as_str());
            !said.iter().any(found)
        })
        .map(|(path, _)| path.as_str())
        .collect();
    assert!(
        missing.is_empty(),
        "not found: {missing:?} in\n{}\n{}",
        said.join("\n"),
        text(&output)
    );
}
