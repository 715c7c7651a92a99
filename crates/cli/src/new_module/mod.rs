//! `zhuji new module NAME`: a crate that compiles, passes its own tests and keeps to the rules.

mod name;
mod source;
mod template;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use serde_json::json;

use name::Name;
use source::Source;

use crate::failure::Failure;
use crate::storage::say;

#[derive(Subcommand, Debug)]
pub(crate) enum NewCommand {
    /// Writes a new module: routes, a table, files, a job, a cache entry, settings, tests, and a service that runs it.
    #[command(after_help = "Example: zhuji new module patient-notes\n         \
                            zhuji new module patient-notes --dir modules/notes --from path:../zhuji\n\
                            Nothing is overwritten. Exit code: 0 written, 1 not possible, 2 wrong usage.")]
    Module(NewModule),
}

#[derive(Args, Debug)]
pub(crate) struct NewModule {
    /// The module's name: `patient-notes` or `patient_notes`.
    pub(crate) name: String,
    /// The directory to make. Default: the name, in the current directory.
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
    /// Where the platform's crates come from: `registry` (the internal one), or `path:DIR` of a checkout.
    #[arg(long, value_name = "WHERE", default_value = "registry")]
    pub(crate) from: String,
    /// Only says what would be written.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// For machines: the directory, the files and the next steps as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(command: &NewCommand) -> Result<ExitCode, Failure> {
    let NewCommand::Module(args) = command;
    let name = Name::parse(&args.name).map_err(Failure::usage)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name.package()));
    let source = Source::parse(&args.from)?;
    if dir.symlink_metadata().is_ok() {
        return Err(Failure::failed(format!(
            "{} exists already, and nothing is overwritten: choose another --dir",
            dir.display()
        )));
    }
    let files = template::render(&name, &source.dependencies(&dir)?);
    if !args.dry_run {
        write(&dir, &files)?;
    }
    report(args, &name, &dir, &files);
    Ok(ExitCode::SUCCESS)
}

/// Writes the crate beside its place and moves it there: a half-written one is never seen.
fn write(dir: &Path, files: &[template::File]) -> Result<(), Failure> {
    let parent = parent(dir);
    std::fs::create_dir_all(parent).map_err(on(parent))?;
    let base = dir.file_name().unwrap_or_default().to_string_lossy();
    let draft = parent.join(format!(".{base}.{}.new", std::process::id()));
    let written = files.iter().try_for_each(|file| {
        let path = draft.join(file.path);
        let folder = path.parent().unwrap_or(&draft);
        std::fs::create_dir_all(folder).map_err(on(folder))?;
        std::fs::write(&path, &file.text).map_err(on(&path))
    });
    if written.is_ok() {
        format(&draft);
    }
    // An empty directory that somebody made in this moment would be replaced; anything else is refused by the system.
    let moved = written.and_then(|()| std::fs::rename(&draft, dir).map_err(on(dir)));
    if moved.is_err() {
        // The reason for the failure is worth more than that of this one.
        let _ = std::fs::remove_dir_all(&draft);
    }
    moved
}

/// The length of a name decides where lines break. Without rustfmt they break where they would for another name.
fn format(draft: &Path) {
    let _ = Command::new("rustfmt")
        .args(["--quiet", "--edition", "2024"])
        .args(["src/lib.rs", "src/main.rs", "tests/module.rs"])
        .current_dir(draft)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn on(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::failed(format!("{} could not be written: {error}", path.display()))
}

/// The directory above, which is the current one for a bare name.
fn parent(dir: &Path) -> &Path {
    dir.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn report(args: &NewModule, name: &Name, dir: &Path, files: &[template::File]) {
    let steps = next_steps(name, dir);
    if args.json {
        let files: Vec<&str> = files.iter().map(|file| file.path).collect();
        let line = json!({
            "module": name.module(),
            "package": name.package(),
            "dir": dir,
            "files": files,
            "written": !args.dry_run,
            "next": steps,
        });
        return say(&line.to_string());
    }
    let did = if args.dry_run {
        "would be written"
    } else {
        "is written"
    };
    say(&format!(
        "the module {} {did} to {}:",
        name.module(),
        dir.display()
    ));
    files.iter().for_each(|file| say(&format!("  {}", file.path)));
    if !args.dry_run {
        say("next:");
        steps.iter().for_each(|step| say(&format!("  {step}")));
    }
}

fn next_steps(name: &Name, dir: &Path) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(workspace) = workspace_above(dir) {
        steps.push(format!("add it to the members of {}", workspace.display()));
    }
    steps.push(format!("cd {}", dir.display()));
    steps.push("cargo test                     # PostgreSQL and Redis have to be installed".to_owned());
    steps.push("cargo clippy --all-targets     # what a module must not call: clippy.toml".to_owned());
    steps.push("cp .env.example .env           # and set DATABASE_URL in it".to_owned());
    steps.push(format!(
        "cargo run                      # then: curl http://localhost:3001/api/v1/{}/notes",
        name.module()
    ));
    steps
}

/// The workspace that the directory would lie in: cargo wants to see a new package among its members.
fn workspace_above(dir: &Path) -> Option<PathBuf> {
    let parent = parent(dir);
    let parent = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
    parent
        .ancestors()
        .map(|ancestor| ancestor.join("Cargo.toml"))
        .find(|manifest| {
            std::fs::read_to_string(manifest)
                .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
        })
}
